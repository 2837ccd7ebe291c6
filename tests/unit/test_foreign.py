"""Third-party backends that do not keep to the contract: no call hangs, and the next one works."""

import pytest

from fastpar import Parallel, ParallelBackendBase, delayed
from fastpar.engines import active


class Inline(ParallelBackendBase):
    """Runs a batch in `submit`, and calls back from there."""

    supports_retrieve_callback = True

    def effective_n_jobs(self, n_jobs):
        return 2

    def submit(self, func, callback=None):
        callback(func())

    def retrieve_result_callback(self, out):
        return out


def run(backend, n=6):
    return Parallel(n_jobs=2, backend=backend, batch_size=2)(delayed(abs)(-i) for i in range(n))


def test_a_second_callback_is_ignored():
    class Twice(Inline):
        def submit(self, func, callback=None):
            callback(func())
            callback(["something", "else"])

    assert run(Twice()) == [0, 1, 2, 3, 4, 5]


def test_too_few_results_are_an_error():
    class Short(Inline):
        def retrieve_result_callback(self, out):
            return out[1:]

    with pytest.raises(ValueError, match="1 results for a batch of 2 tasks"):
        run(Short())


def test_a_callback_after_the_call_is_ignored():
    class Late(Inline):
        callbacks = ()

        def submit(self, func, callback=None):
            self.callbacks = (*self.callbacks, callback)
            callback(func())

    backend = Late()
    assert run(backend) == run(backend)
    for callback in backend.callbacks:
        callback(["late", "late"])
    assert run(backend) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("method", ["submit", "compute_batch_size", "batch_completed", "retrieval_context"])
def test_errors_of_the_backend_arrive(method):
    class Broken(Inline):
        pass

    def fail(self, *args, **kwargs):
        raise OSError(method)

    setattr(Broken, method, fail)
    with pytest.raises(OSError, match=method):
        Parallel(n_jobs=2, backend=Broken())(delayed(abs)(-i) for i in range(6))


def test_processes_are_preferred_to_threads_that_are_the_default(monkeypatch):
    monkeypatch.setattr(active, "DEFAULT_BACKEND", "threading")
    kinds = [type(Parallel(2, prefer=prefer)._backend).__name__ for prefer in (None, "threads", "processes")]
    assert kinds == ["ThreadingBackend", "ThreadingBackend", "ProcessBackend"]
