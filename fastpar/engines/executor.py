"""Runs calls on any `concurrent.futures.Executor`: a pool of the user's own, dask's, mpi4py's, ...

An executor is a backend of the callback kind, so `foreign` does the work. What is added: tasks are timed where they
run, so batches grow to what their overhead asks for; functions of ``__main__`` and lambdas travel by value; and a call
that ends early cancels its own futures, and nobody else's. The executor stays the user's: it is never shut down.
"""

from __future__ import annotations

import os
import sys
from time import perf_counter_ns

from fastpar import config, cpu
from fastpar._core.driven import finish, first_index
from fastpar.engines.backend import ParallelBackendBase
from fastpar.engines.base import Plan
from fastpar.engines.batches import BatchedCalls
from fastpar.engines.foreign import ForeignEngine, ForeignSession, Job
from fastpar.wrapping import import_cloudpickle

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor, Future
    from typing import Any

    from fastpar._core.tasks import Batch


class TimedCalls(BatchedCalls):
    """Several tasks as one callable, which returns their results, the time of all of them, and that of the longest.

    Attributes
    ----------
    identity : bytes
        Tells calls apart: clusters that name work by what is in it (dask) would run equal batches once for all.
    n_cpus : int or None
        CPUs for calls made inside the tasks, where the worker is a thread of the calling process.
    """

    identity = b""
    n_cpus: int | None = None

    def _run(self) -> tuple[list[Any], int, int]:
        if self.n_cpus is None:
            return self._run_timed()
        token = cpu.enter_share(self.n_cpus)
        try:
            return self._run_timed()
        finally:
            cpu.leave_share(token)

    def _run_timed(self) -> tuple[list[Any], int, int]:
        results: list[Any] = []
        longest = 0
        started = last = perf_counter_ns()
        try:
            for function, args, kwargs in self.items:
                results.append(function(*args, **kwargs))
                now = perf_counter_ns()
                longest = max(longest, now - last)
                last = now
        except BaseException as error:
            self._note_task(error, len(results))
            raise
        return results, last - started, longest

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), import_cloudpickle().dumps(self.__dict__))


def _restore(kind: type[TimedCalls], attributes: bytes) -> TimedCalls:
    """The batch, in the worker."""
    import pickle

    calls = kind.__new__(kind)
    calls.__dict__.update(pickle.loads(attributes))
    return calls


class ExecutorSession(ForeignSession):
    """One call on an executor."""

    def __init__(self, backend: ExecutorBackend, plan: Plan) -> None:
        self._identity = os.urandom(8)
        self._n_cpus = max(1, cpu.budget() // plan.n_workers) if backend.uses_threads else None
        super().__init__(backend, plan)

    def _calls(self, batch: Batch) -> TimedCalls:
        calls = TimedCalls(batch, self._nested, first_index=first_index(batch))
        calls.identity, calls.n_cpus = self._identity, self._n_cpus
        return calls

    def _next_size(self) -> int:
        return 0

    def _bring_in(self, job: Job, outcome: Any) -> None:
        finish(self.run, job.batch, *outcome)

    def _abort(self) -> None:
        for job in self._jobs:
            if job.handle is not None:  # its submission has raised
                job.handle.cancel()


class ExecutorEngine(ForeignEngine):
    """An executor as an engine."""

    def __init__(self, backend: ExecutorBackend) -> None:
        super().__init__(backend)
        self._executor_backend = backend

    def open(self, plan: Plan) -> ExecutorSession:
        """Begin a call on the executor."""
        return ExecutorSession(self._executor_backend, plan)


class ExecutorBackend(ParallelBackendBase):
    """Any `concurrent.futures.Executor` as a backend; ``Parallel(backend=executor)`` makes one.

    Parameters
    ----------
    executor : concurrent.futures.Executor
        Yours: fastpar submits to it, and never shuts it down.
    nesting_level : int, optional
        As for `ParallelBackendBase`.

    Notes
    -----
    Where nobody gives `n_jobs` it is -1: the executor's number of workers where it tells, else that of the CPUs. A
    positive `n_jobs` is taken as it is, and says how many batches are kept at the executor at once (`pre_dispatch`). As
    everywhere, n_jobs=1 is the plain loop in the calling thread.

    Serves calls from several threads at once. A task that waits for its own executor may wait for ever: calls inside
    tasks use threads unless told otherwise, so this takes passing the executor on by hand.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> from fastpar import Parallel, delayed
    >>> with ThreadPoolExecutor(2) as executor:
    ...     Parallel(backend=executor)(delayed(abs)(x) for x in (-1, 2))
    [1, 2]
    """

    default_n_jobs = -1
    supports_retrieve_callback = True
    takes_options = False

    def __init__(self, executor: Executor, nesting_level: int | None = None) -> None:
        super().__init__(nesting_level=nesting_level)
        self.executor = executor
        threads = sys.modules.get("concurrent.futures.thread")  # imported, if the executor is one of its
        self.uses_threads = threads is not None and isinstance(executor, threads.ThreadPoolExecutor)
        self.supports_sharedmem = self.uses_threads

    @property
    def engine(self) -> ExecutorEngine:
        """The executor, as an engine."""
        return ExecutorEngine(self)

    def effective_n_jobs(self, n_jobs: int) -> int:
        """A number above 0 as it is, a negative one relative to the executor's workers."""
        n_workers = getattr(self.executor, "_max_workers", None)
        return config.parse_n_jobs(n_jobs, n_workers if isinstance(n_workers, int) else cpu.budget())

    def configure(self, n_jobs: int = 1, parallel: Any = None, **backend_kwargs: Any) -> int:
        """Nothing to get ready: the executor is."""
        return self.effective_n_jobs(n_jobs)

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None) -> Future[Any]:
        """Have the executor call `func`."""
        future = self.executor.submit(func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """The outcome of a future that is done."""
        return out.result()
