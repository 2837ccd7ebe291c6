"""A call ends once and wholly, whatever happens in it, and somebody who waits is served while the source is read."""

import itertools
import threading

import pytest

from fastpar import Parallel, delayed


def test_an_interrupted_start_of_a_thread_leaves_no_worker_that_never_comes(monkeypatch):
    starts = itertools.count()
    make = threading.Thread

    def interrupted(*args, **kwargs):
        if next(starts) == 0:
            raise KeyboardInterrupt
        return make(*args, **kwargs)

    monkeypatch.setattr(threading, "Thread", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Parallel(n_jobs=2, backend="threading")(delayed(abs)(x) for x in range(3))
    assert Parallel(n_jobs=2, backend="threading")(delayed(abs)(-x) for x in range(3)) == [0, 1, 2]


def test_progress_is_told_while_the_source_is_read():
    done = [0]

    def source():
        for n_read in range(100_000):
            if done[-1]:
                return
            yield delayed(abs)(n_read)

    results = Parallel(n_jobs=2, progress=lambda n_done, *_: done.append(n_done), backend="threading")(source())
    assert 0 < len(results) < 100_000


@pytest.mark.parametrize("return_as", ["list", "generator"])
def test_a_time_limit_holds_for_the_oldest_result_whatever_else_arrives(return_as):
    gate = threading.Event()

    def source():
        yield delayed(gate.wait)()
        for x in itertools.count():
            yield delayed(abs)(x)

    try:
        with pytest.raises(TimeoutError, match="task 0"):
            list(Parallel(n_jobs=2, return_as=return_as, timeout=0.05, backend="threading")(source()))
    finally:
        gate.set()


class Refusing:
    """A reporter that raises at one of its calls."""

    def __init__(self, at):
        self.calls = itertools.count()
        self.at = at

    def __call__(self, *_):
        if next(self.calls) == self.at:
            raise OSError("nobody listens")


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_after_a_progress_function_that_raises_the_object_is_free(n_jobs, at):
    parallel = Parallel(n_jobs=n_jobs, progress=Refusing(at), backend="threading")
    with pytest.raises(OSError, match="nobody listens"):
        parallel(delayed(abs)(x) for x in range(5))
    parallel.progress = None
    assert parallel(delayed(abs)(-x) for x in range(5)) == [0, 1, 2, 3, 4]


def test_a_call_that_fails_serially_counts_its_own_tasks():
    parallel = Parallel(n_jobs=1, backend="threading")
    parallel(delayed(abs)(x) for x in range(10))
    with pytest.raises(ZeroDivisionError):
        parallel(delayed(divmod)(1, 3 - x) for x in range(10))
    assert parallel.n_completed_tasks == 3


def test_a_delayed_method_gets_its_instance():
    class Owner:
        @delayed
        def method(self, x):
            return self, x

    owner = Owner()
    function, args, kwargs = owner.method(1)
    assert function(*args, **kwargs) == (owner, 1)
