"""Backends: how users and third parties name an engine, with joblib's class names and attributes.

A backend is a small value: which engine, at which nesting level, with which inner threads. The engines do the work.
`ParallelBackendBase` is also joblib's contract for third parties: a subclass with a `submit` of its own runs unchanged,
through the adapter in `engines.foreign`.
"""

from __future__ import annotations

import os
from abc import ABCMeta, abstractmethod
from contextlib import contextmanager

from fastpar import config, cpu

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, ClassVar

    from fastpar.engines.base import Engine


class ParallelBackendBase(metaclass=ABCMeta):
    """Base class of backends, joblib's contract (1.6).

    A third-party backend implements `effective_n_jobs` and `submit` (or, as of old, `apply_async`), and overrides what
    else it needs. It is registered with `register_parallel_backend` or passed as ``Parallel(backend=instance)``.

    Parameters
    ----------
    nesting_level : int or None
        0 for calls of the user, 1 inside their tasks, and so on; None to take the level of the surrounding context.
    inner_max_num_threads : int or None
        BLAS and OpenMP threads of each worker; None for its share of the CPUs.
    **backend_kwargs
        Given to `configure`.
    """

    default_n_jobs: ClassVar[int] = 1
    supports_inner_max_num_threads: ClassVar[bool] = False
    supports_retrieve_callback: ClassVar[bool] = False
    supports_sharedmem: bool = False
    uses_threads: bool = False
    takes_options: ClassVar[bool] = True  #: of its own, so nobody else can tell which are wrong

    MAX_NUM_THREADS_VARS: ClassVar[list[str]] = [
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "NUMBA_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
    ]
    TBB_ENABLE_IPC_VAR: ClassVar[str] = "ENABLE_IPC"

    nesting_level: int | None = None
    inner_max_num_threads: int | None = None

    def __init__(
        self, nesting_level: int | None = None, inner_max_num_threads: int | None = None, **backend_kwargs: Any
    ) -> None:
        super().__init__()  # a mixin may come after us
        self.nesting_level = nesting_level
        self.inner_max_num_threads = inner_max_num_threads
        self.backend_kwargs = backend_kwargs

    @property
    def engine(self) -> Engine:
        """What executes the tasks of a call with this backend."""
        from fastpar.engines.foreign import ForeignEngine

        return ForeignEngine(self)

    @property
    def supports_return_generator(self) -> bool:
        """Whether results can be consumed as they come."""
        return self.supports_retrieve_callback

    @property
    def supports_timeout(self) -> bool:
        """Whether a wait for a task can end before the task does."""
        return self.supports_retrieve_callback

    @abstractmethod
    def effective_n_jobs(self, n_jobs: int) -> int:
        """How many tasks run at once when a user asks for `n_jobs`."""

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None) -> Any:
        """Start `func`, and call `callback` with its outcome when it is done; returns what `retrieve_result` takes."""
        return self.apply_async(func, callback)

    def apply_async(self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None) -> Any:
        """The name that `submit` had in joblib before 1.5; a backend implements one of the two."""
        raise NotImplementedError(f"{type(self).__name__} implements neither submit nor apply_async")

    def retrieve_result_callback(self, out: Any) -> Any:
        """The results within what the callback was given, or the task's exception raised. Runs in the callback."""
        raise NotImplementedError(f"{type(self).__name__} does not implement retrieve_result_callback")

    def retrieve_result(self, out: Any, timeout: float | None = None) -> Any:
        """The results of what `submit` returned; for backends without `supports_retrieve_callback`."""
        return out.get(timeout=timeout) if self.supports_timeout else out.get()

    def configure(self, n_jobs: int = 1, parallel: Any = None, **backend_kwargs: Any) -> int:
        """Get ready for calls; returns the effective number of workers."""
        self.parallel = parallel
        return self.effective_n_jobs(n_jobs)

    def start_call(self) -> None:
        """Called before each `Parallel.__call__`."""

    def stop_call(self) -> None:
        """Called after each `Parallel.__call__`."""

    def terminate(self) -> None:
        """Let the workers go."""

    def compute_batch_size(self) -> int:
        """Tasks a batch, for ``batch_size='auto'``."""
        return 1

    def batch_completed(self, batch_size: int, duration: float) -> None:
        """Told after each batch: its size, and its duration in seconds."""

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Stop what runs; with `ensure_ready` the backend can be used for another call at once."""

    def get_nested_backend(self) -> tuple[ParallelBackendBase, int | None]:
        """The backend and n_jobs for calls made inside a task: threads first, then serial."""
        level = (self.nesting_level or 0) + 1
        if level > 1:
            return SequentialBackend(nesting_level=level), None
        return ThreadingBackend(nesting_level=level), None

    @contextmanager
    def retrieval_context(self) -> Iterator[None]:
        """Entered while results are waited for."""
        yield

    @staticmethod
    def in_main_thread() -> bool:
        """Whether the calling thread is the main one."""
        import threading

        return threading.current_thread() is threading.main_thread()

    def _prepare_worker_env(self, n_jobs: int) -> dict[str, str]:
        """Environment of a worker process: its inner threads, where the user has not set them."""
        explicit = self.inner_max_num_threads
        n_threads = explicit or max(1, cpu.budget() // n_jobs)
        env = {name: os.environ.get(name, str(n_threads)) for name in self.MAX_NUM_THREADS_VARS}
        if explicit is not None:
            env = dict.fromkeys(env, str(explicit))
        env.setdefault(self.TBB_ENABLE_IPC_VAR, os.environ.get(self.TBB_ENABLE_IPC_VAR, "1"))
        return env


class FallbackToBackend(Exception):  # noqa: N818 -- joblib's name
    """Raised by `configure` of a backend: it will not serve this call, and another will.

    Parameters
    ----------
    backend : ParallelBackendBase
        The other one.
    """

    def __init__(self, backend: ParallelBackendBase) -> None:
        super().__init__(backend)
        self.backend = backend


class AutoBatchingMixin:
    """Batch sizes for third-party backends whose batches are only timed from outside: between the two durations below.

    A subclass may set `MIN_IDEAL_BATCH_DURATION` and `MAX_IDEAL_BATCH_DURATION`, in seconds. One thread calls.
    """

    MIN_IDEAL_BATCH_DURATION: float = 0.2
    MAX_IDEAL_BATCH_DURATION: float = 2.0

    _effective_batch_size = 1
    _smoothed_batch_duration = 0.0  # s; of batches of the current size, 0 while there was none

    def compute_batch_size(self) -> int:
        """Tasks a batch: more where batches have been too short, fewer where they have been too long."""
        size, duration = self._effective_batch_size, self._smoothed_batch_duration
        if 0 < duration < self.MIN_IDEAL_BATCH_DURATION:
            better = min(2 * size, -int(-size * self.MIN_IDEAL_BATCH_DURATION // duration))
        elif duration > self.MAX_IDEAL_BATCH_DURATION:
            better = max(1, int(size * self.MIN_IDEAL_BATCH_DURATION / duration))
        else:
            better = size
        if better != size:
            self._effective_batch_size, self._smoothed_batch_duration = better, 0.0
        return better

    def batch_completed(self, batch_size: int, duration: float) -> None:
        """Learn from a batch. Those of an earlier size teach nothing: their share of waiting was another."""
        if batch_size == self._effective_batch_size:
            known = self._smoothed_batch_duration
            self._smoothed_batch_duration = 0.8 * known + 0.2 * duration if known else duration

    def reset_batch_stats(self) -> None:
        """Forget: the next call may have other tasks."""
        self._effective_batch_size, self._smoothed_batch_duration = 1, 0.0


class SequentialBackend(ParallelBackendBase):
    """The serial loop."""

    takes_options = False
    uses_threads = True
    supports_sharedmem = True

    @property
    def supports_return_generator(self) -> bool:
        """Whether results can be consumed as they come."""
        return True

    def effective_n_jobs(self, n_jobs: int) -> int:
        """One, whatever is asked for; 0 is an error."""
        config.parse_n_jobs(n_jobs, 1)
        return 1

    def configure(self, n_jobs: int = 1, parallel: Any = None, **backend_kwargs: Any) -> int:
        """Nothing to get ready."""
        return self.effective_n_jobs(n_jobs)

    def get_nested_backend(self) -> tuple[ParallelBackendBase, int | None]:
        """Inside a serial loop nothing is taken yet: the surrounding settings hold."""
        from fastpar.engines.active import get_active_backend

        return get_active_backend()


#: JOBLIB_MULTIPROCESSING=0, as it is when fastpar is imported: joblib's way to have everything serial.
IS_SERIAL = os.environ.get("JOBLIB_MULTIPROCESSING", "").strip() == "0"


def count_workers(n_jobs: int, n_cpus: int) -> int:
    """`config.parse_n_jobs`; one, where that is all that there may be."""
    n_workers = config.parse_n_jobs(n_jobs, n_cpus)
    return 1 if IS_SERIAL else n_workers


class ThreadingBackend(ParallelBackendBase):
    """Threads of this process, for tasks that release the GIL, or on an interpreter without one."""

    takes_options = False
    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    supports_sharedmem = True
    uses_threads = True

    @property
    def engine(self) -> Engine:
        """The thread engine."""
        from fastpar.engines.threads import ENGINE

        return ENGINE

    def effective_n_jobs(self, n_jobs: int) -> int:
        """A number above 0 as it is, a negative one relative to the CPUs of this context."""
        if n_jobs is None:
            return 1
        if self.nesting_level:
            n_cpus = cpu.budget()
            return min(count_workers(n_jobs, n_cpus), n_cpus)
        return count_workers(n_jobs, 1 if n_jobs > 0 else cpu.budget())

    def configure(self, n_jobs: int = 1, parallel: Any = None, **backend_kwargs: Any) -> int:
        """Nothing to get ready: the threads are there, or come when they are needed."""
        return self.effective_n_jobs(n_jobs)


class ProcessBackend(ParallelBackendBase):
    """Worker processes of ours, for tasks in pure Python. Also what "loky" and "multiprocessing" name."""

    takes_options = False
    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    _engine: Engine | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_engine": None}  # the engine has the pool of this process

    @property
    def engine(self) -> Engine:
        """The process engine, with the options of the latest `configure`."""
        if self._engine is None:
            from fastpar.engines.processes.engine import make_engine

            self._engine = make_engine(self.backend_kwargs)
        return self._engine

    def effective_n_jobs(self, n_jobs: int) -> int:
        """A number above 0 as it is, a negative one relative to the CPUs of this context."""
        return count_workers(n_jobs, 1 if n_jobs > 0 else cpu.budget())

    def configure(self, n_jobs: int = 1, parallel: Any = None, **backend_kwargs: Any) -> int:
        """Read the options; workers come when they are needed."""
        n_workers = self.effective_n_jobs(n_jobs)
        if n_workers > 1 or backend_kwargs.get("task_timeout") is not None:
            from fastpar.engines.processes.engine import make_engine

            self._engine = make_engine({**self.backend_kwargs, **backend_kwargs})
        return n_workers
