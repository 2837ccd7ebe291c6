"""Calls that cannot work say which argument is wrong and what to write instead; the next call works."""

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fastpar import Parallel, config, delayed, effective_n_jobs, parallel_config
from fastpar.errors import CallInProgressError, FastparError

#: (arguments, type of the error, pattern that its message matches): the argument's name, and the fix.
WRONG = [
    ({"n_jobs": 0}, ValueError, r"n_jobs=0 .*n_jobs=1.*n_jobs=-1"),
    ({"n_jobs": 2.5}, TypeError, r"n_jobs .*n_jobs=2"),
    ({"n_jobs": "2"}, TypeError, r"n_jobs .*n_jobs=2"),
    ({"n_jobs": True}, TypeError, r"n_jobs"),
    ({"n_jobs": [1]}, TypeError, r"n_jobs"),
    ({"backend": "thread"}, ValueError, r"backend='thread' .*'threading'"),
    ({"on_error": "skip"}, ValueError, r"on_error='skip'.*'return'"),
    ({"retries": -1}, ValueError, r"retries=-1 .*retries=0"),
    ({"retries": 1.0}, TypeError, r"retries .*retries=1"),
    ({"inner_max_num_threads": 0}, ValueError, r"inner_max_num_threads=0 .*at least 1"),
    ({"inner_max_num_threads": "2"}, TypeError, r"inner_max_num_threads .*inner_max_num_threads=2"),
    ({"task_timeout": 1.0, "backend": "threading"}, ValueError, r"task_timeout.*backend='processes'"),
    ({"task_timeout": 0}, ValueError, r"task_timeout .*positive"),
    ({"backend": 3}, TypeError, r"backend .*name"),
    ({"backend": ThreadPoolExecutor(1), "n_job": 1}, TypeError, r"'n_job'.*'n_jobs'"),
    ({"backend": ThreadPoolExecutor(1), "inner_max_num_threads": 1}, ValueError, r"leave inner_max_num_threads out"),
    ({"return_as": "iterator"}, ValueError, r"return_as='iterator'.*'generator'"),
    ({"return_as": None}, ValueError, r"return_as=None.*'list'"),
    ({"verbose": "loud"}, TypeError, r"verbose"),
    ({"timeout": 0}, ValueError, r"timeout.*timeout=None"),
    ({"timeout": -1}, ValueError, r"timeout.*timeout=None"),
    ({"timeout": "10"}, TypeError, r"timeout .*timeout=10"),
    ({"batch_size": 0}, ValueError, r"batch_size .*batch_size='auto'"),
    ({"batch_size": "big"}, ValueError, r"batch_size .*'auto'"),
    ({"batch_size": 1.5}, TypeError, r"batch_size .*batch_size=1"),
    ({"max_nbytes": "1X"}, ValueError, r"max_nbytes .*'1M'"),
    ({"max_nbytes": -1}, ValueError, r"max_nbytes .*max_nbytes=None"),
    ({"mmap_mode": "rw"}, ValueError, r"mmap_mode='rw'.*'r\+'"),
    ({"prefer": "thread"}, ValueError, r"prefer='thread'.*'threads'"),
    ({"require": "memory"}, ValueError, r"require='memory'.*'sharedmem'"),
    ({"prefer": "processes", "require": "sharedmem"}, ValueError, r"prefer='processes'.*require='sharedmem'"),
    ({"n_job": 2}, TypeError, r"'n_job'.*'n_jobs'"),
    ({"backnd": "threading"}, TypeError, r"'backnd'.*'backend'"),
    ({"no_such_thing_at_all": 1}, TypeError, r"'no_such_thing_at_all'"),
]

#: The same for what is read when the object is called, since it depends on the number of workers.
WRONG_AT_THE_CALL = [
    ({"backend": "processes", "start_method": "thread"}, ValueError, r"start_method='thread'.*'spawn'"),
    ({"backend": "processes", "max_tasks_per_worker": "x"}, TypeError, r"max_tasks_per_worker"),
    ({"backend": "processes", "max_tasks_per_worker": 1.5}, TypeError, r"max_tasks_per_worker .*_per_worker=1"),
    ({"backend": "processes", "max_tasks_per_worker": 0}, ValueError, r"max_tasks_per_worker=0 .*left out"),
    ({"backend": "processes", "max_tasks_per_worker": 1, "maxtasksperchild": 2}, ValueError, r"one of them out"),
    ({"backend": "processes", "env": "x"}, TypeError, r"env .*dict"),
    ({"backend": "processes", "initializer": 3}, TypeError, r"initializer .*callable"),
    ({"backend": "processes", "initializer": print, "initargs": 5}, TypeError, r"initargs=\(5,\)"),
    ({"backend": "processes", "initargs": (1,)}, ValueError, r"initargs= .*initializer="),
    ({"backend": "processes", "temp_folder": 5}, TypeError, r"temp_folder .*path"),
    ({"pre_dispatch": 0}, ValueError, r"pre_dispatch .*'all'"),
    ({"pre_dispatch": "0 * n_jobs"}, ValueError, r"pre_dispatch .*n_jobs=2.*'all'"),
    ({"pre_dispatch": "__import__('os')"}, ValueError, r"pre_dispatch"),
    ({"pre_dispatch": "n_jobs ** n_jobs"}, ValueError, r"pre_dispatch"),
    ({"pre_dispatch": None}, TypeError, r"pre_dispatch .*'all'"),
]


@pytest.mark.parametrize("n_jobs", [0, "2", True, 2.0])
def test_a_wrong_n_jobs_is_named_wherever_it_is_given(n_jobs):
    for wants_n_jobs in (effective_n_jobs, lambda n_jobs: parallel_config(n_jobs=n_jobs)):
        with pytest.raises((TypeError, ValueError), match="n_jobs"):
            wants_n_jobs(n_jobs)
    with pytest.raises(TypeError, match="inner_max_num_threads"):
        parallel_config("threading", inner_max_num_threads="2")
    assert effective_n_jobs(None) == 1


@pytest.mark.parametrize(("arguments", "error", "says"), [
    ({"backend": "threading", "n_job": 4}, TypeError, r"parallel_config\(\).*'n_job'.*'n_jobs'"),
    ({"backend": "processes", "on_error": "return"}, TypeError, r"'on_error'; it is one of Parallel's"),
    ({"backend": "threading", "task_timeout": 1}, ValueError, r"task_timeout.*backend='processes'"),
    ({"backend": "processes", "task_timeout": -1}, ValueError, r"task_timeout .*positive"),
    ({"verbose": "x"}, TypeError, r"verbose"),
    ({"mmap_mode": "x"}, ValueError, r"mmap_mode='x'"),
    ({"prefer": "x"}, ValueError, r"prefer='x'"),
    ({"require": "x"}, ValueError, r"require='x'"),
    ({"max_nbytes": "4"}, ValueError, r"max_nbytes"),
    ({"temp_folder": 5}, TypeError, r"temp_folder .*path"),
], ids=str)
def test_a_wrong_setting_of_a_context_is_named(arguments, error, says):
    before = config.current()
    with pytest.raises(error, match=says):
        parallel_config(**arguments)
    assert config.current() is before


def test_a_context_limits_tasks_too():
    with parallel_config("processes", n_jobs=1, task_timeout=0.1), pytest.raises(TimeoutError, match="task_timeout"):
        Parallel()([delayed(time.sleep)(60)])


@pytest.mark.parametrize(("arguments", "error", "says"), WRONG, ids=str)
def test_a_wrong_argument_is_named_with_the_fix(arguments, error, says):
    with pytest.raises(error, match=says):
        Parallel(**arguments)


@pytest.mark.parametrize(("arguments", "error", "says"), WRONG_AT_THE_CALL, ids=str)
def test_what_depends_on_the_number_of_workers_is_named_at_the_call(arguments, error, says):
    parallel = Parallel(n_jobs=2, **arguments)
    for _ in range(2):
        with pytest.raises(error, match=says):
            parallel([delayed(abs)(1)])


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"backend": "nothing"}, ValueError, r"backend='nothing'.*'threading'"),
        ({"inner_max_num_threads": 2}, ValueError, r"inner_max_num_threads.*backend"),
            ({"n_job": 2}, ValueError, r"n_job: .*backend"),
    ],
)
def test_a_wrong_argument_of_a_context_changes_nothing(arguments, error, says):
    with pytest.raises(error, match=says):
        parallel_config(**arguments)
    assert Parallel(backend="threading").n_jobs == 1


class TestBusy:
    @pytest.mark.parametrize("n_jobs", [1, 2])
    @pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
    def test_a_second_call_is_refused_until_the_generator_ends(self, return_as, n_jobs):
        parallel = Parallel(n_jobs=n_jobs, return_as=return_as, backend="threading")
        first = parallel(delayed(abs)(-x) for x in range(10))
        with pytest.raises(CallInProgressError, match="exhaust or close"):
            parallel([])
        assert sorted(first) == list(range(10)), "the first is not disturbed"
        assert list(parallel([delayed(abs)(-1)])) == [1]

    @pytest.mark.parametrize("n_jobs", [1, 2])
    @pytest.mark.parametrize("end", ["close", "del", "exhaust", "throw"])
    def test_the_ways_a_generator_ends(self, end, n_jobs):
        parallel = Parallel(n_jobs=n_jobs, return_as="generator", backend="threading")
        results = parallel(delayed(abs)(-x) for x in range(10))
        assert next(results) == 0
        if end == "close":
            results.close()
        elif end == "exhaust":
            assert list(results) == list(range(1, 10))
        elif end == "throw":
            with pytest.raises(KeyError):
                results.throw(KeyError("x"))
        del results
        gc.collect()
        assert list(parallel([delayed(abs)(-1)])) == [1]

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_a_generator_that_nobody_started_can_be_dropped(self, n_jobs):
        parallel = Parallel(n_jobs=n_jobs, return_as="generator", backend="threading")
        parallel(delayed(abs)(-x) for x in range(10))
        gc.collect()
        assert list(parallel([delayed(abs)(-1)])) == [1]

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_a_task_that_calls_its_own_object(self, n_jobs):
        parallel = Parallel(n_jobs=n_jobs, backend="threading")
        with pytest.raises(CallInProgressError):
            parallel([delayed(parallel)([])])
        assert parallel([delayed(abs)(-1)]) == [1]

    def test_two_threads_that_call_one_object(self):
        parallel, running, gate = Parallel(n_jobs=2, backend="threading"), threading.Event(), threading.Event()

        def task():
            running.set()
            gate.wait()

        thread = threading.Thread(target=parallel, args=([delayed(task)()],))
        thread.start()
        running.wait()
        with pytest.raises(CallInProgressError):
            parallel([])
        gate.set()
        thread.join()
        assert parallel([delayed(abs)(-1)]) == [1]


class TestOwnGenerator:
    def test_a_task_that_reads_its_own_generator(self):
        box, ready = [], threading.Event()

        def task():
            ready.wait()
            while not box[0].gi_running:  # read by us first, it would wait for this very task
                pass
            return next(box[0])

        box.append(Parallel(n_jobs=2, return_as="generator", timeout=60, backend="threading")([delayed(task)()]))
        ready.set()
        with pytest.raises(ValueError, match="already executing"):
            next(box[0])

    def test_a_task_that_closes_its_own_generator_while_nobody_reads_it(self):
        box, ready, closed = [], threading.Event(), threading.Event()

        def task():
            ready.wait()
            box[0].close()
            closed.set()

        parallel = Parallel(n_jobs=2, return_as="generator", timeout=60, backend="threading")
        box.append(parallel([delayed(task)(), *[delayed(abs)(-1)] * 5]))
        ready.set()
        closed.wait()
        assert list(box[0]) == []
        assert list(parallel([delayed(abs)(-1)])) == [1]

    def test_a_task_that_drops_the_last_reference_to_its_own_generator(self):
        box, ready, dropped = [], threading.Event(), threading.Event()

        def task():
            ready.wait()
            box.clear()
            dropped.set()

        parallel = Parallel(n_jobs=2, return_as="generator_unordered", timeout=60, backend="threading")
        box.append(parallel([delayed(task)()]))
        ready.set()
        dropped.wait()
        assert list(parallel([delayed(abs)(-1)])) == [1]


class TestTimeout:
    def test_names_the_task_and_the_fix(self):
        gate = threading.Event()
        parallel = Parallel(n_jobs=2, timeout=0.01, batch_size=1, backend="threading")
        with pytest.raises(TimeoutError, match=r"0.01 s.*task 1 .*timeout=") as caught:
            parallel([delayed(abs)(1), delayed(gate.wait)(), delayed(abs)(2)])
        gate.set()
        assert isinstance(caught.value, FastparError)
        assert Parallel(n_jobs=2, timeout=60, backend="threading")([delayed(abs)(-1)]) == [1]

    @pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
    def test_of_a_generator(self, return_as):
        gate = threading.Event()
        results = Parallel(n_jobs=2, timeout=0.01, return_as=return_as, batch_size=1, backend="threading")(
            [delayed(abs)(-1), delayed(gate.wait)()]
        )
        assert next(results) == 1
        with pytest.raises(TimeoutError):
            next(results)
        gate.set()

    def test_is_not_about_the_whole_call(self):
        """Many tasks, each well within the limit, together beyond it."""
        pause = threading.Event()
        results = Parallel(n_jobs=2, timeout=0.2, backend="threading")(delayed(pause.wait)(0.005) for _ in range(100))
        assert results == [False] * 100
