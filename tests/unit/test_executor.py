"""Any executor of concurrent.futures as a backend."""

import pickle
import threading
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import pytest

from fastpar import Parallel, delayed, parallel_config
from fastpar.engines.executor import ExecutorBackend, TimedCalls


class Inline(Executor):
    """Runs what it is given at once, in the calling thread, and keeps a count."""

    def __init__(self):
        self.n_submitted = 0

    def submit(self, fn, /, *args, **kwargs):
        self.n_submitted += 1
        future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


class Holding(Executor):
    """Starts nothing: keeps the futures for the test to look at."""

    def __init__(self):
        self.futures = []

    def submit(self, fn, /, *args, **kwargs):
        self.futures.append(Future())
        return self.futures[-1]


@pytest.fixture
def threads():
    with ThreadPoolExecutor(3) as executor:
        yield executor


def squares(n, **options):
    return Parallel(**options)(delayed(lambda x: x * x)(i) for i in range(n))


@pytest.mark.parametrize("options", [{}, {"batch_size": 7}, {"pre_dispatch": "all"}, {"n_jobs": 1}, {"n_jobs": 5}])
def test_results_are_those_of_the_loop(threads, options):
    assert squares(100, backend=threads, **options) == [i * i for i in range(100)]


def test_generators(threads):
    assert list(squares(50, backend=threads, return_as="generator")) == [i * i for i in range(50)]
    assert set(squares(50, backend=threads, return_as="generator_unordered")) == {i * i for i in range(50)}


@pytest.mark.slow
def test_functions_travel_by_value_to_processes(python):
    # In an interpreter of its own: forking stops the threads of BLAS in the parent, and the next test would notice.
    program = """
import os
from concurrent.futures import ProcessPoolExecutor
from fastpar import Parallel, delayed
with ProcessPoolExecutor(2) as executor:
    print(Parallel(backend=executor)(delayed(lambda x: x * x)(i) for i in range(4)))
    print(os.getpid() in Parallel(backend=executor)(delayed(os.getpid)() for _ in range(4)))
"""
    assert python.out(program).splitlines() == ["[0, 1, 4, 9]", "False"]


def test_n_jobs_follows_the_executor(threads):
    backend = ExecutorBackend(threads)
    assert [backend.effective_n_jobs(n) for n in (-1, -2, 7)] == [3, 2, 7]
    assert Parallel(backend=threads).n_jobs == -1
    with pytest.raises(ValueError, match="n_jobs=0"):
        backend.effective_n_jobs(0)


def test_memory_is_shared_with_threads_only(threads):
    assert Parallel(backend=threads, require="sharedmem")
    with pytest.raises(ValueError, match="sharedmem"):
        Parallel(backend=Inline(), require="sharedmem")


def test_tiny_tasks_share_batches():
    executor = Inline()
    squares(2_000, backend=executor, n_jobs=2)
    assert executor.n_submitted < 500


def test_executor_of_a_context(threads):
    with parallel_config(threads, n_jobs=2) as settings:
        assert isinstance(settings.backend, ExecutorBackend)
        assert Parallel().n_jobs == 2
        assert Parallel()(delayed(abs)(-i) for i in range(4)) == [0, 1, 2, 3]


@pytest.mark.parametrize("batch_size", [1, 5])
def test_the_error_names_its_task(threads, batch_size):
    with pytest.raises(ZeroDivisionError) as caught:
        Parallel(backend=threads, batch_size=batch_size)(delayed(divmod)(1, i - 7) for i in range(20))
    assert caught.value.__notes__ == ["in task 7 of fastpar.Parallel: divmod(1, 0)"]


def test_the_executor_survives_errors(threads):
    with pytest.raises(ZeroDivisionError):
        Parallel(backend=threads)(delayed(divmod)(1, 0) for _ in range(20))
    assert threads.submit(abs, -1).result() == 1


def test_a_timeout_cancels_the_futures_of_the_call_alone():
    executor = Holding()
    other = executor.submit(abs, 1)
    with pytest.raises(TimeoutError):
        Parallel(n_jobs=2, backend=executor, timeout=0.01)(delayed(abs)(i) for i in range(10))
    assert not other.cancelled()
    assert [future.cancelled() for future in executor.futures[1:]] == [True] * 4  # 2 * n_jobs batches


def test_a_closed_executor_is_an_error_at_once():
    with ThreadPoolExecutor(2) as executor:
        pass
    with pytest.raises(RuntimeError, match="after shutdown"):
        squares(5, backend=executor)


def test_an_error_of_the_iterable_cancels():
    executor = Holding()

    def source():
        yield delayed(abs)(1)
        raise KeyError("source")

    with pytest.raises(KeyError, match="source"):
        Parallel(n_jobs=2, backend=executor, batch_size=1)(source())
    assert all(future.cancelled() for future in executor.futures)


def test_calls_from_several_threads_share_an_executor(threads):
    with ThreadPoolExecutor(4) as callers:
        calls = [callers.submit(squares, 30, backend=threads) for _ in range(8)]
        assert all(call.result() == [i * i for i in range(30)] for call in calls)


def test_nested_calls_share_the_cpus(threads):
    def inner():
        return threading.get_ident(), Parallel(n_jobs=2)(delayed(abs)(-i) for i in range(3))

    results = Parallel(backend=threads)(delayed(inner)() for _ in range(4))
    assert [result for _, result in results] == [[0, 1, 2]] * 4


def test_batches_pickle_by_value_and_keep_their_identity():
    calls = TimedCalls([((lambda x: x + 1), (1,), {})], (None, None))
    calls.identity = b"one"
    copy = pickle.loads(pickle.dumps(calls))
    results, total_ns, longest_ns = copy()
    assert results == [2]
    assert total_ns >= longest_ns > 0
    assert copy.identity == b"one"
