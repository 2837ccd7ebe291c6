"""Segments of this process that outlive calls: warm ones to be used again, and copies of arrays that may come again.

The copy of an array is used again as long as the array lives and holds the same bytes: its digest is taken anew in
each call, which costs a fraction of the copy. Any thread may enter.
"""

from __future__ import annotations

import weakref
from threading import Lock

from fastpar._core.segments import Segment
from fastpar.engines.processes.packing import Stock

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from typing import Any


class Copy:
    """The copy of an array.

    Attributes
    ----------
    array : weakref.ref
        Of what.
    segment : Segment
        Where.
    digest : bytes
        Of the bytes in it; empty while nobody has needed it.
    """

    __slots__ = ("array", "digest", "segment")

    def __init__(self, array: weakref.ref[Any], segment: Segment) -> None:
        self.array = array
        self.segment = segment
        self.digest = b""


class Warehouse:
    """See the module's docstring.

    Parameters
    ----------
    max_bytes : int
        Memory that may be kept between calls.
    folder : str, optional
        Where segments are made; in memory by default.
    """

    def __init__(self, max_bytes: int, folder: str | None = None) -> None:
        self._max_bytes = max_bytes
        self._lock = Lock()
        self._stock = Stock(max_bytes, folder)
        self._copies: dict[int, Copy] = {}  # by the array's id; the weak reference says whether it is that array

    def take(self, size: int) -> Segment:
        """A segment of this many bytes."""
        with self._lock:
            return self._stock.take(size)

    def give(self, segment: Segment | None) -> None:
        """Keep a segment for later, unless it is the copy of an array."""
        if segment is None or segment.is_shared:
            return
        with self._lock:
            if not any(copy.segment is segment for copy in self._copies.values()):
                self._stock.give(segment)

    def store(self, array: Any) -> Segment:
        """A segment with the bytes of an array."""
        with self._lock:
            copy = self._copies.get(id(array))
        known = copy is not None and copy.array() is array
        digest = _digest(array) if known else b""
        if copy is not None and known and copy.digest == digest and digest:
            return copy.segment
        if copy is not None and known and copy.segment.n_holders == 1:
            segment = copy.segment
        else:
            segment = self.take(array.nbytes)
        _fill(segment, array)
        self._keep(array, segment, digest)
        return segment

    def _keep(self, array: Any, segment: Segment, digest: bytes) -> None:
        if array.nbytes > self._max_bytes:
            return
        key = id(array)
        copy = Copy(weakref.ref(array, lambda _: self._drop(key)), segment)
        copy.digest = digest
        with self._lock:
            self._copies[id(array)] = copy
            while sum(each.segment.room for each in self._copies.values()) > self._max_bytes:
                del self._copies[next(iter(self._copies))]

    def _drop(self, key: int) -> None:
        """The array has gone. Never waits: the collector may come here while this thread holds the lock."""
        copy = self._copies.get(key)
        if copy is not None and copy.array() is None:
            self._copies.pop(key, None)
            if self._lock.acquire(blocking=False):
                try:
                    self._stock.give(copy.segment)
                finally:
                    self._lock.release()

    def clear(self) -> None:
        """Keep nothing."""
        with self._lock:
            self._stock.clear()
            self._copies.clear()


def _digest(array: Any) -> bytes:
    import numpy as np
    import xxhash

    flat = array.T if array.flags.f_contiguous else np.ascontiguousarray(array)
    return bytes(xxhash.xxh3_128_digest(flat.reshape(-1).view(np.uint8).data))


def _fill(segment: Segment, array: Any) -> None:
    import numpy as np

    from fastpar.engines.processes.arguments import contiguous_strides

    np.ndarray(array.shape, array.dtype, memoryview(segment), 0, contiguous_strides(array))[...] = array
