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

#: Copies that are kept at most: each has a descriptor.
MAX_COPIES = 64


class Copy:
    """The copy of an array.

    Its segment goes to the stock once: when no call uses it any more, and no later call can find it.

    Attributes
    ----------
    array : weakref.ref or None
        Of what; None where no other call may have it.
    segment : Segment
        Where.
    digest : bytes
        Of the bytes in it; empty while nobody has needed it.
    n_calls : int
        How many calls use it.
    """

    __slots__ = ("array", "digest", "n_calls", "segment")

    def __init__(self, array: weakref.ref[Any] | None, segment: Segment) -> None:
        self.array = array
        self.segment = segment
        self.digest = b""
        self.n_calls = 1


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
        self._lock = Lock()  # what follows changes under it alone
        self._stock = Stock(max_bytes, folder)
        self._copies: dict[int, Copy] = {}  # by the array's id; the weak reference says whether it is that array
        self._gone: list[int] = []  # ids of arrays that have gone: appended without the lock
        self._given: list[Copy] = []  # copies that a call does not use any more: likewise

    def store(self, array: Any, *, is_private: bool = False) -> Copy:
        """A copy of an array, for a call that gives it back.

        Parameters
        ----------
        array : ndarray
        is_private : bool
            Whether workers will write to it: then no other call has it, before or after.
        """
        known = None if is_private else self._find(array)
        if known is not None:
            digest = _digest(array)
            if known.digest == digest:
                return known
            if known.n_calls == 1 and known.segment.n_holders == 1:
                known.digest = b""  # while it is neither the old one nor the new one
                _fill(known.segment, array)
                known.digest = digest
                return known
            self.give(known)
        segment = self._take(array.nbytes)
        _fill(segment, array)
        if is_private or array.nbytes > self._max_bytes:
            return Copy(None, segment)
        key = id(array)
        copy = Copy(weakref.ref(array, lambda _: self._drop(key)), segment)
        if known is not None:
            copy.digest = digest
        with self._lock:
            self._forget_locked(key)
            self._copies[key] = copy
            while len(self._copies) > MAX_COPIES or self._n_bytes_locked() > self._max_bytes:
                self._forget_locked(next(iter(self._copies)))
        return copy

    def hold(self, content: bytes) -> Copy:
        """A segment with these bytes, for a call that gives it back."""
        segment = self._take(len(content))
        segment.write(0, content)
        return Copy(None, segment)

    def _take(self, n_bytes: int) -> Segment:
        with self._lock:
            self._bury_locked()
            return self._stock.take(n_bytes)

    def _find(self, array: Any) -> Copy | None:
        with self._lock:
            self._bury_locked()
            copy = self._copies.get(id(array))
            if copy is None or copy.array is None or copy.array() is not array:
                return None
            copy.n_calls += 1
            return copy

    def give(self, copy: Copy) -> None:
        """The end of a call's use of a copy. Never waits, as the collector may end a call."""
        self._given.append(copy)
        self._bury()

    def _forget_locked(self, key: int) -> None:
        copy = self._copies.pop(key, None)
        if copy is not None and copy.n_calls == 0:
            self._stock.give(copy.segment)

    def _n_bytes_locked(self) -> int:
        return sum(copy.segment.room for copy in self._copies.values())

    def _drop(self, key: int) -> None:
        """The array has gone. Never waits, for it is the collector that says so."""
        self._gone.append(key)
        self._bury()

    def _bury(self) -> None:
        """Do what is to be done now, or leave it to the next who comes: this very thread may hold the lock."""
        if self._lock.acquire(blocking=False):
            try:
                self._bury_locked()
            finally:
                self._lock.release()

    def _bury_locked(self) -> None:
        while self._given:
            given = self._given.pop()
            given.n_calls -= 1
            if given.n_calls == 0 and given not in self._copies.values():
                self._stock.give(given.segment)
        while self._gone:
            key = self._gone.pop()
            copy = self._copies.get(key)
            if copy is not None and copy.array is not None and copy.array() is None:
                self._forget_locked(key)

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
