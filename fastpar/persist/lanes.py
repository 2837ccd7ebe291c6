"""Checksums beside the reading and writing thread, and an ordered parallel map with a bounded window.

Both use at most the CPUs of `fastpar.cpu.budget()`; with one, everything happens in the calling thread. Threads live
for one dump or load. An error of a thread is raised in the calling thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic, TypeVar

from fastpar.cpu import budget
from fastpar.persist.format import checksum

__all__ = ["Checksums", "Window"]

T = TypeVar("T")

#: Below this, handing a block to another thread costs more than hashing it.
WORTH_A_THREAD = 1 << 18


class Checksums:
    """The checksums of raw memory, in the order it was added. Owned by one thread; its blocks must not change."""

    def __init__(self) -> None:
        self._made: list[int | Future[int]] = []
        self._thread: ThreadPoolExecutor | None = None

    def add(self, block: Any) -> None:
        """Hash `block`, on another thread if it is large."""
        if len(block) < WORTH_A_THREAD or budget() == 1:
            self._made.append(checksum(block))
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1)
        self._made.append(self._thread.submit(checksum, block))

    def add_future(self, made: int | Future[int]) -> None:
        self._made.append(made)

    def values(self) -> list[int]:
        return [made if isinstance(made, int) else made.result() for made in self._made]

    def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
            self._thread = None


class Window(Generic[T]):
    """Runs a function over blocks on all threads and gives the results back in order, few blocks ahead.

    Owned by one thread. At most one block a thread and one more are in flight, which bounds the memory.
    """

    def __init__(self, function: Callable[..., T]) -> None:
        self._function = function
        self._n_threads = budget()
        self._jobs: deque[Future[T] | T] = deque()
        self._threads: ThreadPoolExecutor | None = None

    @property
    def is_full(self) -> bool:
        return len(self._jobs) > (self._n_threads if self._n_threads > 1 else 0)

    def __len__(self) -> int:
        return len(self._jobs)

    def submit(self, *args: Any) -> None:
        if self._n_threads == 1:
            self._jobs.append(self._function(*args))
            return
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._n_threads)
        self._jobs.append(self._threads.submit(self._function, *args))

    def take(self) -> T:
        """The oldest result."""
        job = self._jobs.popleft()
        return job.result() if isinstance(job, Future) else job

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
            self._threads = None

    def __enter__(self) -> Window[T]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
