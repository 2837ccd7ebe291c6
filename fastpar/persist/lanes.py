"""Checksums beside the reading and writing thread, and an ordered parallel map with a bounded window.

Both use at most the CPUs of `fastpar.cpu.budget()`; with one, everything happens in the calling thread. Threads live
for one dump or load. An error of a thread is raised in the calling thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic, TypeVar

from xxhash import xxh3_64

from fastpar.cpu import budget
from fastpar.persist.format import checksum

__all__ = ["Checksums", "Window"]

T = TypeVar("T")

#: Blocks are handed to the other thread in lots of this size: handing over costs as much as hashing half a megabyte.
LOT_BYTES = 1 << 23

#: So many lots may wait for it; with more, it is no help.
MAX_LOTS = 2

#: What is hashed here is hashed in pieces that are still in the cache from being written or read.
HOT_BYTES = 1 << 18

#: Smaller blocks are hashed at once.
WORTH_A_THREAD = 1 << 16

Lot = list[tuple[int, memoryview]]


class Checksums:
    """The checksums of raw memory while it is written or read, in that order. Owned by one thread.

    Another thread hashes what was passed, as long as it keeps up: then hashing takes no time. Where it does not,
    because others use its CPU, the owner hashes each piece right after it was passed, from the cache.
    """

    def __init__(self) -> None:
        self._made: list[int] = []
        self._lot: Lot = []  # places in `_made`, and the blocks whose checksums belong there
        self._lot_bytes = 0
        self._lots: deque[tuple[Future[None], Lot]] = deque()
        self._thread: ThreadPoolExecutor | None = None
        self._may_help = budget() > 1

    def over(self, block: Any) -> Iterator[memoryview]:
        """The pieces of a block, for the caller to write or to fill one after the other. It must not change later."""
        view = memoryview(block)
        if len(view) >= WORTH_A_THREAD and self._is_kept_up():
            yield view
            self._add_to_lot(view)
        elif len(view) <= HOT_BYTES:
            yield view
            self._made.append(checksum(view))
        else:
            yield from self.over_blocks(view[start : start + HOT_BYTES] for start in range(0, len(view), HOT_BYTES))

    def over_blocks(self, blocks: Iterable[memoryview]) -> Iterator[memoryview]:
        """The same for memory that comes in several blocks, which may change later."""
        stream = xxh3_64()
        for block in blocks:
            yield block
            stream.update(block)
        self._made.append(stream.intdigest())

    def add(self, made: int) -> None:
        """Add a checksum that is known."""
        self._made.append(made)

    def _is_kept_up(self) -> bool:
        while self._lots and self._lots[0][0].done():
            self._lots.popleft()[0].result()
        return self._may_help and len(self._lots) < MAX_LOTS

    def _add_to_lot(self, block: memoryview) -> None:
        self._lot.append((len(self._made), block))
        self._made.append(0)
        self._lot_bytes += len(block)
        if self._lot_bytes >= LOT_BYTES:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1)
        lot, self._lot, self._lot_bytes = self._lot, [], 0
        self._lots.append((self._thread.submit(self._hash, lot), lot))

    def _hash(self, lot: Lot) -> None:
        for place, block in lot:
            self._made[place] = checksum(block)

    def values(self) -> list[int]:
        """All of them."""
        self._hash(self._lot)
        while self._lots:
            job, lot = self._lots.pop()
            if job.cancel():
                self._hash(lot)
            else:
                job.result()
        self._lot = []
        return self._made

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
