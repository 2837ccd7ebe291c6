"""Runs calls on the backends of third parties: those that submit batches to workers of their own.

The calling thread drives: it reads the source, submits batches until the window is full, and waits for a message that
one of them has ended. Messages come through a `SimpleQueue`, from whatever thread the backend calls back in; the run
itself and the backend's other methods are touched by the calling thread alone.

A backend reports the end of a batch in one of two ways. The *callback* kind (``supports_retrieve_callback``) gives the
outcome to the callback. The *handle* kind, joblib's older one, has to be asked with the handle that `submit` gave. Its
callback brings no outcome, and does not come at all when a task has raised, so the calling thread asks for the oldest
batch and waits there. Nothing is read meanwhile: a long task may let the workers run dry (pre_dispatch="all" helps).

Not its job: `configure` and `terminate`, which belong to the `Parallel` object and not to one call.
"""

from __future__ import annotations

import warnings
from _queue import Empty, SimpleQueue
from time import perf_counter_ns

from fastpar._core.batching import BatchSizer
from fastpar._core.dispatch import Run
from fastpar._core.driven import DrivenCrew, drop, fail, finish, first_index, resize
from fastpar._core.slots import Slots
from fastpar.engines.base import Capabilities, Plan
from fastpar.engines.batches import BatchedCalls

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any

    from fastpar._core.tasks import Batch
    from fastpar.engines.backend import ParallelBackendBase

#: What a batch costs beside its tasks, in nanoseconds, where nobody says better: pickling and a pipe, both ways.
BATCH_OVERHEAD_NS = 200_000


class Job:
    """One batch at a backend, and the callback that the backend is given for it.

    Attributes
    ----------
    batch : Batch
        Its tasks.
    batch_size : int
        How many.
    handle : object
        What `submit` gave; set when it has returned, so not before the callback.
    duration_ns : int
        From submission to the end.
    """

    __slots__ = (
        "_backend",
        "_error",
        "_mailbox",
        "_results",
        "_started_ns",
        "batch",
        "batch_size",
        "duration_ns",
        "handle",
    )

    def __init__(self, batch: Batch, backend: ParallelBackendBase, mailbox: SimpleQueue[Job]) -> None:
        self.batch = batch
        self.batch_size = len(batch)
        self.handle: Any = None
        self.duration_ns = 0
        self._backend = backend
        self._mailbox = mailbox
        self._results: Any = None
        self._error: BaseException | None = None
        self._started_ns = perf_counter_ns()

    def __call__(self, out: Any = None) -> None:
        """The callback: keep the outcome, and tell the calling thread. In any thread."""
        if self.duration_ns:
            return  # some backends call back twice: the first counts
        try:
            self._results = self._backend.retrieve_result_callback(out)
        except BaseException as error:  # noqa: BLE001 -- whatever a task raises arrives where Parallel was called
            self._error = error
        self._tell()

    def _tell(self) -> None:
        self.duration_ns = perf_counter_ns() - self._started_ns
        self._mailbox.put(self)

    def result(self) -> Any:
        """What the batch returned, or its exception raised; after the message."""
        if self._error is not None:
            raise self._error
        return self._results


class AskedJob(Job):
    """One batch at a backend of the handle kind."""

    __slots__ = ()

    def __call__(self, *ignored: Any) -> None:
        """The callback: the batch has ended, somehow. In any thread."""
        self.duration_ns = perf_counter_ns() - self._started_ns

    def ask(self, timeout_s: float | None) -> None:
        """Wait for the outcome. In the calling thread, where Ctrl-C has to get through."""
        try:
            self._results = self._backend.retrieve_result(self.handle, timeout=timeout_s)
        except Exception as error:  # noqa: BLE001 -- whatever a task raises arrives where Parallel was called
            self._error = error
        self.duration_ns = self.duration_ns or perf_counter_ns() - self._started_ns


class ForeignSession:
    """One call on a third party's backend of the callback kind."""

    job_type = Job

    def __init__(self, backend: ParallelBackendBase, plan: Plan) -> None:
        self._backend = backend
        self._plan = plan
        self._nested = backend.get_nested_backend()
        self._mailbox: SimpleQueue[Job] = SimpleQueue()
        self._jobs: dict[Job, None] = {}  # under way, the oldest first
        self._waiting: AbstractContextManager[Any] | None = None  # the backend's retrieval context, once entered
        self.run = Run(
            plan.source,
            Slots(plan.keep),
            plan.n_workers,
            plan.n_total,
            plan.pre_dispatch,
            BatchSizer(BATCH_OVERHEAD_NS, plan.batch_size),
            DrivenCrew(self._submit),
            times_tasks=plan.times_tasks,
            n_seats=1,
        )
        backend.start_call()

    def step(self, timeout_ns: int) -> bool:
        """Read and submit what fits into the window, bring in what has ended, and wait."""
        try:
            return self._step(timeout_ns)
        except BaseException:  # of the source, or of the backend's own methods; that ends the call
            self._give_up()
            raise

    def _step(self, timeout_ns: int) -> bool:
        deadline = perf_counter_ns() + timeout_ns
        self._read()
        if self._waiting is None:
            self._waiting = self._backend.retrieval_context()
            self._waiting.__enter__()
        while True:
            self._settle_reported()
            if self.run.wait(0):
                return True
            left_ns = deadline - perf_counter_ns() if timeout_ns >= 0 else 0
            if left_ns <= 0 <= timeout_ns or not self._await_report(None if timeout_ns < 0 else left_ns / 1e9):
                return False

    def advice(self) -> str | None:
        """None: what its tasks do with the CPUs is the backend's affair."""
        return None

    def close(self) -> None:
        """Have the backend drop what still runs if nobody wants it, and end the call."""
        try:
            if self._waiting is not None:
                self._waiting.__exit__(None, None, None)
            if self.run.phase != "finished":
                self._abort()
        finally:
            self._backend.stop_call()

    # ---- what differs between kinds of backends

    def _calls(self, batch: Batch) -> BatchedCalls:
        """What a worker is to call."""
        return BatchedCalls(batch, self._nested, first_index=first_index(batch))

    def _next_size(self) -> int:
        """Tasks a batch, for batch_size='auto'; 0 leaves it to the run's own measurements."""
        return self._backend.compute_batch_size()

    def _bring_in(self, job: Job, outcome: Any) -> None:
        finish(self.run, job.batch, outcome, job.duration_ns, job.duration_ns)

    def _abort(self) -> None:
        self._backend.abort_everything(ensure_ready=self._plan.keeps_backend)

    # ---- the way of a batch

    def _read(self) -> None:
        if self._plan.batch_size == 0:
            size = self._next_size()
            if size > 0:
                resize(self.run, size)
        self.run.pull()

    def _submit(self, batch: Batch) -> None:
        backend = self._backend
        job = self.job_type(batch, backend, self._mailbox)
        self._jobs[job] = None
        job.handle = backend.submit(self._calls(batch), callback=job)

    def _await_report(self, timeout_s: float | None) -> bool:
        try:
            self._settle(self._mailbox.get(timeout=timeout_s))
        except Empty:
            return False
        return True

    def _settle_reported(self) -> None:
        while not self._mailbox.empty():
            self._settle(self._mailbox.get())

    def _settle(self, job: Job) -> None:
        """Bring in the outcome of a batch that has ended."""
        del self._jobs[job]
        try:
            self._bring_in(job, job.result())
        except BaseException as error:  # noqa: BLE001 -- the task's, or the backend gave no results
            fail(self.run, job.batch, error)
        else:
            self._backend.batch_completed(job.batch_size, job.duration_ns / 1e9)

    def _give_up(self) -> None:
        """Expect nothing any more of the batches under way."""
        self.run.cancel()
        for job in self._jobs:
            drop(self.run, job.batch)


class AskingSession(ForeignSession):
    """One call on a third party's backend of the handle kind."""

    job_type = AskedJob

    def _await_report(self, timeout_s: float | None) -> bool:
        job: Any = next(iter(self._jobs))  # an AskedJob
        job.ask(timeout_s)
        self._settle(job)
        return True


class ForeignEngine:
    """A third party's backend as an engine.

    Parameters
    ----------
    backend : ParallelBackendBase
        Configured already.
    """

    def __init__(self, backend: ParallelBackendBase) -> None:
        self._backend = backend
        self.name = type(backend).__name__
        self.capabilities = Capabilities(
            shares_memory=backend.supports_sharedmem,
            kills_tasks=False,
            supports_timeout=backend.supports_retrieve_callback or backend.supports_timeout,
            limits_inner_threads=backend.supports_inner_max_num_threads,
        )

    def open(self, plan: Plan) -> ForeignSession:
        """Begin a call on the backend."""
        if self._backend.supports_retrieve_callback:
            return ForeignSession(self._backend, plan)
        if plan.times_tasks and not self.capabilities.supports_timeout:
            warnings.warn(f"{self.name} does not support timeout: it is not used", stacklevel=2)
        return AskingSession(self._backend, plan)
