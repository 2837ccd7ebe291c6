"""`Run`, driven by hand: this thread reads the source, takes every batch, and says what became of it."""

import gc
import os
import weakref

import pytest

from fastpar import delayed
from fastpar._core.batching import BatchSizer
from fastpar._core.dispatch import PHASES, Run, n_live
from fastpar._core.driven import DrivenCrew, drop, fail, finish, first_index
from fastpar._core.slots import KEEP, Slots
from fastpar._core.tasks import as_task

MISSING = object()


class Bench:
    """A run, and the batches that are under way in it."""

    def __init__(self, n_tasks=None, *, source=None, keep="list", pre_dispatch=-1, size=1, n_total=-1, timed=False):
        self.under_way = []
        self.source = iter([delayed(abs)(place) for place in range(n_tasks)] if source is None else source)
        self.run = Run(
            self.source,
            Slots(KEEP[keep]),
            2,
            n_total,
            pre_dispatch,
            BatchSizer(1000, size),
            DrivenCrew(self.under_way.append),
            times_tasks=timed,
            n_seats=1,
        )

    def step(self):
        """Fill the window; the number of batches under way."""
        while self.run.room > 0:  # a run with a time limit comes back after each lot
            self.run.pull()
        return len(self.under_way)

    def finish(self, place=0, value=None):
        """End the batch at `place` of those under way: each result is its index, or `value`."""
        batch = self.under_way.pop(place)
        first = first_index(batch)
        results = [first + i if value is None else value for i in range(len(batch))]
        finish(self.run, batch, results, 1000, 1000)

    def fail(self, error, place=0):
        fail(self.run, self.under_way.pop(place), error)

    def drop_all(self):
        while self.under_way:
            drop(self.run, self.under_way.pop())


#: How to bring a run whose two tasks are under way into each phase.
ROADS = {
    "feeding": lambda bench: None,
    "draining": lambda bench: (bench.finish(), bench.step()),
    "finished": lambda bench: (bench.finish(), bench.step(), bench.finish()),
    "failed": lambda bench: bench.fail(ValueError("first")),
    "cancelled": lambda bench: bench.run.cancel(),
}

#: What may be tried in any of them, and where it leads; from all other phases, nowhere.
MOVES = {
    "cancel": (lambda bench: bench.run.cancel(), {"feeding": "cancelled", "draining": "cancelled"}),
    "fail": (
        lambda bench: bench.under_way and bench.fail(ValueError("second")),
        {"feeding": "failed", "draining": "failed"},
    ),
    "finish": (lambda bench: bench.under_way and bench.finish(), {"draining": "finished"}),
    "pull": (lambda bench: bench.step(), {}),
}


class TestPhases:
    def test_feeding_draining_finished(self):
        bench = Bench(3, pre_dispatch=2)
        assert bench.run.phase == "feeding"
        bench.step()
        assert bench.run.phase == "feeding"
        bench.finish()
        bench.finish()
        assert bench.step() == 1
        assert bench.run.phase == "draining"
        bench.finish()
        assert bench.run.phase == "finished"
        assert not bench.run.is_open
        assert bench.run.results() == [0, 1, 2]

    def test_an_empty_source_is_finished_at_once(self):
        bench = Bench(0)
        bench.step()
        assert bench.run.phase == "finished"
        assert bench.run.results() == []

    def test_the_last_result_may_come_before_the_source_is_known_to_be_at_its_end(self):
        bench = Bench(1, pre_dispatch=1)
        bench.step()
        bench.finish()
        assert bench.run.phase == "feeding"
        bench.step()
        assert bench.run.phase == "finished"

    @pytest.mark.parametrize("move", MOVES)
    @pytest.mark.parametrize("phase", PHASES)
    def test_every_move_in_every_phase(self, phase, move):
        bench = Bench(2, pre_dispatch=2)
        bench.step()
        ROADS[phase](bench)
        assert bench.run.phase == phase
        failure = bench.run.failure
        act, leads = MOVES[move]
        act(bench)
        assert bench.run.phase == leads.get(phase, phase)
        if bench.run.phase == phase:
            assert bench.run.failure == failure, "nothing else has changed either"
        bench.drop_all()

    def test_every_phase_has_a_road_here(self):
        assert tuple(ROADS) == PHASES

    def test_results_of_a_run_that_has_not_finished_are_refused(self):
        bench = Bench(1)
        with pytest.raises(AssertionError, match="feeding"):
            bench.run.results()


class TestWindow:
    @pytest.mark.parametrize("size", [1, 3])
    @pytest.mark.parametrize("pre_dispatch", [1, 2, 5])
    def test_a_list_is_read_so_many_batches_beyond_what_is_completed(self, pre_dispatch, size):
        bench = Bench(100, pre_dispatch=pre_dispatch, size=size)
        assert bench.step() == pre_dispatch
        assert bench.run.counts == (pre_dispatch * size, 0, 0, pre_dispatch, 0)
        assert bench.step() == pre_dispatch, "no further"
        bench.finish()
        bench.step()
        assert bench.run.counts[0] == (pre_dispatch + 1) * size

    @pytest.mark.parametrize("keep", ["generator", "generator_unordered"])
    def test_a_generator_is_read_so_many_batches_beyond_what_is_consumed(self, keep):
        bench = Bench(100, keep=keep, pre_dispatch=2)
        bench.step()
        bench.finish()
        bench.finish()
        assert bench.step() == 0, "completed, but not consumed"
        assert bench.run.pop(MISSING) == 0
        assert bench.step() == 1

    def test_all_reads_everything_at_once(self):
        bench = Bench(100, size=10)
        assert bench.step() == 10
        assert bench.run.counts[0] == 100

    def test_a_pop_says_when_there_is_room_again(self):
        bench = Bench(100, keep="generator", pre_dispatch=8)
        bench.step()
        for _ in range(8):
            bench.finish()
        hungry = []
        for _ in range(4):
            bench.run.pop(MISSING)
            hungry.append(bench.run.is_hungry)
        assert hungry == [False, False, True, True], "half of what may be queued beyond two running batches"

    @pytest.mark.parametrize("end", [lambda bench: bench.run.cancel(), lambda bench: bench.fail(ValueError())])
    def test_nothing_is_read_after_an_end(self, end):
        bench = Bench(100, pre_dispatch=2)
        bench.step()
        end(bench)
        n_under_way = len(bench.under_way)
        assert bench.step() == n_under_way
        assert len(list(bench.source)) == 98
        bench.drop_all()


class TestResults:
    def test_a_list_is_in_the_order_of_the_tasks(self):
        bench = Bench(4)
        bench.step()
        for place in (2, 0, 1, 0):
            bench.finish(place)
        assert bench.run.results() == [0, 1, 2, 3]

    def test_generator_waits_for_the_next_in_order(self):
        bench = Bench(3, keep="generator")
        bench.step()
        bench.finish(1)
        assert bench.run.pop(MISSING) is MISSING
        assert not bench.run.wait(0)
        bench.finish(0)
        assert bench.run.wait(0)
        assert [bench.run.pop(MISSING) for _ in range(3)] == [0, 1, MISSING]
        bench.finish()
        assert bench.run.pop(MISSING) == 2

    def test_unordered_gives_what_arrives(self):
        bench = Bench(3, keep="generator_unordered")
        bench.step()
        bench.finish(2)
        bench.finish(0)
        assert [bench.run.pop(MISSING) for _ in range(3)] == [2, 0, MISSING]
        bench.finish()
        assert bench.run.pop(MISSING) == 1

    def test_the_window_of_a_generator_grows_with_what_its_reader_has_taken(self):
        bench = Bench(2_000, keep="generator", pre_dispatch=4, size=0)
        while bench.run.is_open:
            bench.step()
            counts = bench.run.counts
            assert counts.n_pulled <= 4 + 2 * counts.n_consumed  # however large batches would like to be
            while bench.under_way:
                bench.finish()
            assert bench.run.pop(MISSING) is not MISSING
        bench.drop_all()

    @pytest.mark.parametrize("keep", ["generator", "generator_unordered"])
    def test_many_results_through_a_small_window_are_each_given_once(self, keep):
        """Consumed slots are cut off in lots of 64 and more, while later ones wait."""
        bench, taken = Bench(1000, keep=keep, pre_dispatch=100), []
        while bench.run.is_open:
            bench.step()
            while bench.under_way:
                bench.finish(-1)
            while (result := bench.run.pop(MISSING)) is not MISSING:
                taken.append(result)
        assert sorted(taken) == list(range(1000))
        assert keep == "generator_unordered" or taken == sorted(taken)

    def test_a_consumed_result_is_kept_alive_by_nobody_else(self):
        class Result:
            pass

        bench = Bench(2, keep="generator")
        bench.step()
        bench.finish(value=Result())
        alive = weakref.ref(bench.run.pop(MISSING))
        assert alive() is None
        bench.drop_all()

    def test_none_is_a_result_like_any_other(self):
        bench = Bench(1, keep="generator")
        bench.step()
        batch = bench.under_way.pop()
        finish(bench.run, batch, [None], 0, 0)
        assert bench.run.pop(MISSING) is None

    def test_too_few_results_are_refused(self):
        bench = Bench(2, size=2)
        bench.step()
        with pytest.raises(ValueError, match="1 results for a batch of 2"):
            finish(bench.run, bench.under_way[0], [1], 0, 0)
        bench.drop_all()


class TestFailure:
    def test_the_first_wins(self):
        bench, first = Bench(3), ValueError("first")
        bench.step()
        bench.fail(first, 2)
        bench.fail(ValueError("second"), 0)
        error, index, task = bench.run.failure
        assert (error, index, task) == (first, 2, (abs, (2,), {}))
        bench.drop_all()

    def test_results_that_come_after_it_are_dropped(self):
        class Result:
            pass

        bench, result = Bench(2, keep="generator"), Result()
        alive = weakref.ref(result)
        bench.step()
        bench.fail(ValueError(), 1)
        bench.finish(value=result)
        del result
        assert alive() is None
        assert bench.run.pop(MISSING) is MISSING

    def test_it_is_news_at_once_although_others_still_run(self):
        bench = Bench(2)
        bench.step()
        assert not bench.run.wait(0)
        bench.fail(ValueError())
        assert bench.run.wait()
        bench.drop_all()

    def test_a_crew_that_raises_fails_the_run_and_blames_no_task(self):
        def start(batch):
            bench.under_way.append(batch)
            raise OSError("no more")

        bench = Bench(1)
        bench.run = Run(bench.source, Slots(KEEP["list"]), 2, -1, -1, BatchSizer(1000, 1), DrivenCrew(start), n_seats=1)
        bench.step()
        error, index, task = bench.run.failure
        assert (type(error), index, task) == (OSError, -1, None)
        bench.drop_all()

    def test_an_error_of_the_source_leaves_the_run_as_it_was(self):
        def source():
            yield delayed(abs)(0)
            raise OSError("disk")

        bench = Bench(source=source())
        with pytest.raises(OSError, match="disk"):
            bench.step()
        assert (bench.run.phase, bench.run.failure, len(bench.under_way)) == ("feeding", None, 1)
        bench.drop_all()


class TestCancel:
    def test_waiting_after_it_ends_when_nothing_runs_any_more(self):
        bench = Bench(2)
        bench.step()
        bench.run.cancel()
        assert not bench.run.wait(0)
        bench.finish()
        assert not bench.run.wait(0)
        drop(bench.run, bench.under_way.pop())
        assert bench.run.wait()

    def test_twice_is_once(self):
        bench = Bench(2)
        bench.run.cancel()
        bench.run.cancel()
        assert bench.run.phase == "cancelled"


class TestTimes:
    def test_the_oldest_missing_result_is_named(self):
        bench = Bench(3, timed=True)
        bench.step()
        index, waited_ns = bench.run.oldest_missing
        assert (index, waited_ns >= 0) == (0, True)
        bench.finish(1)
        assert bench.run.oldest_missing[0] == 0
        bench.finish(0)
        assert bench.run.oldest_missing[0] == 2
        bench.drop_all()

    def test_a_wait_ends_with_its_time(self):
        bench = Bench(1)
        bench.step()
        assert bench.run.wait(1000) is False
        bench.drop_all()


class TestTasks:
    def test_what_delayed_makes_is_taken_as_it_is(self):
        task = delayed(abs)(1)
        assert as_task(task, 0) is task

    @pytest.mark.parametrize("item", [[abs, [1], {}], (abs, [1], []), (abs, iter((1,)), {})])
    def test_anything_of_that_shape_will_do(self, item):
        assert as_task(item, 0) == (abs, (1,), {})

    @pytest.mark.parametrize("item", [3, None, (), (abs,), (abs, 1, {}), (3, (), {}), "abc"])
    def test_anything_else_is_refused_with_its_place(self, item):
        with pytest.raises(TypeError, match=r"item 7 .*delayed\(f\)\(x\)"):
            as_task(item, 7)

    def test_the_message_is_short_whatever_the_item(self):
        with pytest.raises(TypeError) as caught:
            as_task(list(range(10_000)), 0)
        assert len(str(caught.value)) < 400


class TestLifetime:
    def test_a_run_that_is_dropped_with_everything_in_it_releases_all(self):
        class Argument:
            pass

        argument = Argument()
        alive = weakref.ref(argument)
        bench = Bench(source=[(abs, (argument,), {}) for _ in range(100)], pre_dispatch=50)
        bench.step()
        bench.finish()
        del argument, bench
        gc.collect()
        assert alive() is None

    @pytest.mark.skipif("FASTPAR_EXPECT_DEBUG" not in os.environ, reason="not said to be a build with FASTPAR_DEBUG=1")
    def test_debug_builds_count_runs(self):
        before = n_live()
        bench = Bench(1)
        assert n_live() == before + 1
        del bench
        gc.collect()
        assert n_live() == before
