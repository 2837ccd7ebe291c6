"""The serial loop is the specification: every engine, setting and shape of work must agree with it."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from time import perf_counter_ns

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpar import Parallel, delayed

RETURN_AS = ("list", "generator", "generator_unordered")

class Oops(Exception):
    """What the tasks raise."""


class Abrupt(BaseException):
    """The same, past every `except Exception`."""


@dataclass(frozen=True)
class Work:
    """One task: how long it is busy, and what it then raises, if anything."""

    busy_us: int = 0
    raises: type[BaseException] | None = None


@dataclass
class Journal:
    """What happened during a call: which thread read which place of the source, and which tasks began."""

    readers: set = field(default_factory=set)
    n_read: int = 0
    begun: list = field(default_factory=list)  # appended by all threads: atomic, with the GIL and without

    def tasks(self, works):
        for place, work in enumerate(works):
            self.readers.add(threading.get_ident())
            self.n_read = place + 1
            yield delayed(self.do)(place, work)

    def do(self, place, work):
        self.begun.append(place)
        until = perf_counter_ns() + 1000 * work.busy_us
        while perf_counter_ns() < until:
            pass
        if work.raises is not None:
            raise work.raises(place)
        return -place


@dataclass(frozen=True)
class Settings:
    """Arguments of `Parallel`."""

    n_jobs: int
    return_as: str
    batch_size: int | str
    pre_dispatch: int | str
    timeout: float | None

    def parallel(self):
        return Parallel(**self.__dict__, backend="threading")

    def window(self):
        """How many tasks may be read beyond those consumed, where the batch size is fixed."""
        if self.n_jobs == 1:
            return 1
        n_batches = {"all": 1 << 40, "2 * n_jobs": 2 * self.n_jobs}.get(self.pre_dispatch, self.pre_dispatch)
        return n_batches * (self.batch_size if self.batch_size != "auto" else 512)


all_settings = st.builds(
    Settings,
    n_jobs=st.sampled_from([1, 2, 3]),
    return_as=st.sampled_from(RETURN_AS),
    batch_size=st.sampled_from(["auto", 1, 2, 7]),
    pre_dispatch=st.sampled_from(["all", "2 * n_jobs", 1, 2, 5]),
    timeout=st.sampled_from([None, 100.0]),
)
busy = st.sampled_from([0, 0, 0, 20, 300])
harmless = st.lists(st.builds(Work, busy), max_size=40)
harmful = st.lists(
    st.builds(Work, busy, st.sampled_from([None, None, None, Oops, Abrupt])), min_size=1, max_size=40
).filter(lambda works: any(work.raises for work in works))


def consume(results, taken):
    """Append what a call returns to `taken`, one by one, so that an error leaves what came before it."""
    for result in results:
        taken.append(result)


@given(all_settings, harmless)
def test_results_are_those_of_the_serial_loop(chosen, works):
    journal = Journal()
    results = list(chosen.parallel()(journal.tasks(works)))
    expected = [-place for place in range(len(works))]
    if chosen.return_as == "generator_unordered":
        results.sort(reverse=True)
    assert results == expected
    assert Counter(journal.begun) == Counter(range(len(works)))


@given(all_settings, harmful)
def test_the_error_is_one_that_a_task_raised(chosen, works):
    journal, taken = Journal(), []
    raisers = {place: work.raises for place, work in enumerate(works) if work.raises}
    with pytest.raises((Oops, Abrupt)) as caught:
        consume(chosen.parallel()(journal.tasks(works)), taken)
    (place,) = caught.value.args
    assert type(caught.value) is raisers[place]
    assert f"task {place} " in caught.value.__notes__[0]
    assert max(Counter(journal.begun).values()) == 1
    if chosen.n_jobs == 1:
        assert place == min(raisers)
    if chosen.return_as == "generator_unordered":
        assert set(taken) <= {-place for place in range(len(works))} and len(set(taken)) == len(taken)
    else:
        assert taken == [-place for place in range(len(taken))]


@given(all_settings, harmless)
def test_only_the_caller_reads_and_never_beyond_the_window(chosen, works):
    journal, n_consumed = Journal(), 0
    if chosen.return_as == "list":
        chosen.parallel()(journal.tasks(works))
    else:
        for _ in chosen.parallel()(journal.tasks(works)):
            n_consumed += 1
            assert journal.n_read <= n_consumed + chosen.window()
    assert journal.n_read == len(works)
    assert journal.readers <= {threading.get_ident()}


@given(all_settings.filter(lambda chosen: chosen.return_as != "generator_unordered"), harmless)
def test_a_list_is_read_no_further_than_the_window_beyond_what_is_done(chosen, works):
    n_done = []

    def task(place):
        n_done.append(place)

    def tasks():
        for place in range(len(works)):
            # A batch counts as done when it is delivered, a moment after its tasks.
            assert place < len(n_done) + chosen.window()
            yield delayed(task)(place)

    list(chosen.parallel()(tasks()))


@given(all_settings.filter(lambda chosen: chosen.return_as != "list"), harmless, st.data())
def test_a_closed_generator_starts_nothing_more(chosen, works, data):
    n_taken = data.draw(st.integers(0, len(works)))
    journal, parallel = Journal(), chosen.parallel()
    results = parallel(journal.tasks(works))
    taken = [next(results) for _ in range(n_taken)]
    results.close()
    assert len(set(taken)) == n_taken
    assert max(Counter(journal.begun).values(), default=1) == 1
    assert journal.n_read <= n_taken + chosen.window()
    assert sorted(parallel(delayed(abs)(-x) for x in range(3))) == [0, 1, 2], "the object can be called again"


@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
@given(n_taken=st.integers(0, 3))
@settings(max_examples=20)
def test_what_was_not_started_at_the_close_never_starts(return_as, n_taken):
    """Both workers are held inside a task when the generator is closed: the queue must be empty for good."""
    begun, held, gate = [], threading.Semaphore(0), threading.Event()

    def task(place):
        begun.append(place)
        if place >= n_taken:
            held.release()
            gate.wait()

    parallel = Parallel(n_jobs=2, return_as=return_as, batch_size=1, pre_dispatch=6, backend="threading")
    results = parallel(delayed(task)(place) for place in range(20))
    for _ in range(n_taken):
        next(results)
    held.acquire()
    held.acquire()
    results.close()
    n_begun = len(begun)
    gate.set()
    Parallel(n_jobs=3, backend="threading")(delayed(abs)(place) for place in range(100))  # the same workers came by
    assert len(begun) == n_begun == n_taken + 2


@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
def test_ten_million_tasks_take_the_memory_of_the_window(return_as):
    journal = Journal()
    parallel = Parallel(n_jobs=2, return_as=return_as, batch_size=10, backend="threading")
    results = parallel(journal.tasks(Work() for _ in range(10**7)))
    next(results)
    results.close()
    assert journal.n_read <= 1 + 2 * 2 * 10
