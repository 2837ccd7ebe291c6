"""A pickle and its buffers as one message: what is short goes into the message, what is long into segments beside it.

The same code packs on either side, and unpacks on the other. A buffer of `OWN_BYTES` or more gets a segment of its
own, so that its memory is freed with the object made of it; shorter ones share one with their neighbours.
"""

from __future__ import annotations

import _pickle as pickle  # the C half: the other takes milliseconds to import
import marshal

from fastpar._core.channel import MAX_BODY, MAX_FDS
from fastpar._core.segments import Segment, n_mapped, n_open
from fastpar.engines.processes.places import make_segment

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

#: Buffers below stay in the pickle: a copy of so few bytes costs less than a segment.
OUT_OF_BAND_BYTES = 1 << 15
#: Buffers from here on have a segment of their own.
OWN_BYTES = 1 << 20
#: Segments that a stock keeps at most: each has a descriptor.
MAX_IN_STOCK = 64
#: With more mappings than this (the kernel allows 65,530), what arrives is copied into ordinary memory.
MAX_MAPPED = 4_096
#: So many segments keep their descriptors: a child that the user forks has copies of its own of these (D-081).
MAX_OPEN = 128
#: Room in a message for what is not the pickle.
MARGIN = 4_096
ALIGNMENT = 64


class Stock:
    """Segments that may be used again while their pages are warm.

    A segment is anybody's again when this process holds the only mapping of it. Not thread-safe: one thread, or a lock
    around it.

    Parameters
    ----------
    max_bytes : int
        How much memory it may keep.
    folder : str or None
        Where segments are made; None: in memory.
    """

    def __init__(self, max_bytes: int, folder: str | None = None) -> None:
        self._max_bytes = max_bytes
        self._segments: list[Segment] = []  # the latest last
        self.folder = folder

    def take(self, size: int) -> Segment:
        """A segment of this many bytes, writable."""
        for place, segment in enumerate(self._segments):
            if size <= segment.room <= 2 * size + OWN_BYTES and segment.n_holders == 1:
                del self._segments[place]
                segment.resize(size)
                return segment
        return make_segment(size, self.folder)

    def give(self, segment: Segment) -> None:
        """Keep a segment for later; it may still be in use elsewhere."""
        if segment.room > self._max_bytes or segment.fd < 0 or any(each is segment for each in self._segments):
            return  # twice in the stock would be twice in use
        self._segments.append(segment)
        while len(self._segments) > MAX_IN_STOCK or sum(each.room for each in self._segments) > self._max_bytes:
            del self._segments[0]

    def clear(self) -> None:
        """Keep nothing."""
        self._segments.clear()


class Parcel:
    """A message body, its descriptors, and the segments that these are of."""

    __slots__ = ("_n_own", "body", "brings_news", "is_packed", "segments")

    def __init__(self, body: bytes, segments: list[Segment], n_own: int, *, is_packed: bool) -> None:
        self.body = body
        self.segments = segments
        self._n_own = n_own
        self.is_packed = is_packed
        self.brings_news = False

    @property
    def fds(self) -> list[int]:
        """To be sent with the body."""
        return [segment.fd for segment in self.segments]

    @property
    def own_segments(self) -> list[Segment]:
        """Those that only this parcel uses."""
        return self.segments[: self._n_own]


def pack(
    pickled: bytes,
    buffers: Sequence[pickle.PickleBuffer],
    stock: Stock,
    attachments: Sequence[tuple[int, Segment]] = (),
) -> Parcel:
    """A pickle, its out-of-band buffers, and segments it refers to by number, as a parcel: for one receiver, once."""
    if not buffers and not attachments and len(pickled) <= MAX_BODY:
        return Parcel(pickled, [], 0, is_packed=False)
    if len(attachments) >= MAX_FDS:
        raise ValueError(f"{len(attachments)} shared arrays are more than the {MAX_FDS - 1} that one task can have")
    views = [buffer.raw() for buffer in buffers]
    most = max(0, MAX_FDS - len(attachments) - 1)
    owners = [place for place, view in enumerate(views) if view.nbytes >= OWN_BYTES][:most]
    segments = [stock.take(views[place].nbytes) for place in owners]
    for segment, place in zip(segments, owners, strict=True):
        segment.write(0, views[place])
    places: list[tuple[int, int, int]] = [(-1, 0, 0)] * len(views)
    for number, place in enumerate(owners):
        places[place] = number, 0, views[place].nbytes
    # What is left shares one more segment: the shorter buffers, and the pickle and this table where they are long.
    common = _Common(len(segments))
    for place, view in enumerate(views):
        if places[place][0] < 0:
            places[place] = common.add(view)
    sizes = [segment.size for segment in segments]
    numbers = [(number, segment.size) for number, segment in attachments]
    table: Any = marshal.dumps((sizes, places, numbers))
    inline: Any = pickled
    if len(pickled) + len(table) > MAX_BODY - MARGIN:
        inline = common.add(memoryview(pickled))
    if len(table) > MAX_BODY // 2:
        table = common.add(memoryview(table))
    if common.size:
        segments.append(common.write(stock))
    body = marshal.dumps((inline, table, common.size))
    n_own = len(segments)
    segments += [segment for _, segment in attachments]
    for segment in segments:
        segment.lend()
    return Parcel(body, segments, n_own, is_packed=True)


class _Common:
    """Collects what shares one segment."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._parts: list[tuple[int, memoryview]] = []
        self.size = 0

    def add(self, view: memoryview) -> tuple[int, int, int]:
        """Where the bytes will be: number of the segment, offset, size."""
        offset = self.size
        self._parts.append((offset, view))
        self.size = -(-(offset + view.nbytes) // ALIGNMENT) * ALIGNMENT
        return self._number, offset, view.nbytes

    def write(self, stock: Stock) -> Segment:
        """Make the segment."""
        segment = stock.take(self.size)
        for offset, view in self._parts:
            segment.write(offset, view)
        return segment


def unpack(
    body: bytes, fds: list[int], attach: Callable[[int, int, int], object] | None = None
) -> tuple[bytes | memoryview, list[memoryview]]:
    """What `pack` packed: the pickle, and its buffers.

    Parameters
    ----------
    body, fds
        Of the message; the descriptors are used up, on errors too.
    attach : callable, optional
        Given number, descriptor and size of each attached segment.
    """
    left = list(fds)
    try:
        inline, table, common_bytes = marshal.loads(body)
        common = Segment.attach(left.pop(_n_own(table, left, common_bytes)), common_bytes) if common_bytes else None
        common_view = memoryview(b"") if common is None else memoryview(_settled(common))
        if not isinstance(table, bytes):
            table = common_view[table[1] : table[1] + table[2]]
        sizes, places, numbers = marshal.loads(table)
        views = [memoryview(_settled(Segment.attach(left.pop(0), size))) for size in sizes]
        for number, size in numbers:
            fd = left.pop(0)
            if attach is not None:
                attach(number, fd, size)
    finally:
        for fd in left:
            _close(fd)
    views.append(common_view)
    buffers = [views[number][offset : offset + size] for number, offset, size in places]
    if not isinstance(inline, bytes):
        inline = common_view[inline[1] : inline[1] + inline[2]]
    return inline, buffers


def _n_own(table: Any, fds: list[int], common_bytes: int) -> int:
    """How many segments come before the common one."""
    return len(marshal.loads(table)[0]) if isinstance(table, bytes) else int(table[0])


def _settled(segment: Segment) -> Any:
    """The segment without a descriptor, but for some; or, where there are very many, an ordinary copy of it."""
    if n_mapped() > MAX_MAPPED:
        return bytearray(segment)
    if n_open() > MAX_OPEN:
        segment.give_up_fd()
    return segment


def _close(fd: int) -> None:
    import os

    os.close(fd)
