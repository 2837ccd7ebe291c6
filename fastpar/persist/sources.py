"""Where a reader's bytes come from: a plain file, a compressed one, or a mapped one.

A source is read once, from front to back, by one thread. Memory it hands out for an array is either filled already, or
a `Region` of a mapped file.
"""

from __future__ import annotations

import mmap
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, NamedTuple, Protocol

from fastpar.cpu import budget
from fastpar.errors import CorruptFileError, TruncatedFileError
from fastpar.persist import format as fmt
from fastpar.persist.codecs import Codec, codec_named
from fastpar.persist.lanes import Checksums, Window
from fastpar.persist.streams import STEP_BYTES, read_exactly, read_into

__all__ = ["BlockSource", "MappedSource", "PlainSource", "Region", "Source"]

_preadv = getattr(os, "preadv", None)  # not on every system

#: Memory of this size on is read by all threads.
WORTH_THREADS = 1 << 25


class Region(NamedTuple):
    """Part of a mapped file, in place of the memory of an array."""

    map: mmap.mmap
    offset: int
    n_bytes: int
    mode: str
    path: str


class Source(Protocol):
    def read(self, n_bytes: int) -> bytes | memoryview: ...

    def memory(self, n_bytes: int, checksums: Checksums) -> Any:
        """The next raw memory: a writable buffer or a Region."""

    def finish(self) -> None:
        """Take what belongs to the object after its last record."""

    def close(self) -> None: ...


def new_memory(n_bytes: int) -> Any:
    """Writable memory that is not filled yet."""
    numpy = sys.modules.get("numpy")
    return bytearray(n_bytes) if numpy is None else numpy.empty(n_bytes, numpy.uint8)


class PlainSource:
    """Records as they are in a file object; by several threads at once where it is a regular file that we opened."""

    def __init__(self, file: Any, n_left: int | None, start: int | None = None) -> None:
        self._file = file
        self._n_left = n_left  # bytes in the file from here on, where they can be known
        self._start = start  # where the header begins in a regular file that we opened
        self._position = fmt.HEADER_BYTES

    def read(self, n_bytes: int) -> bytes:
        self._expect(n_bytes)
        block = read_exactly(self._file, n_bytes)
        self._position += n_bytes
        return block

    def _expect(self, n_bytes: int) -> None:
        """Refuse a size that the file cannot hold before taking memory for it."""
        if self._n_left is not None and self._position + n_bytes > self._n_left:
            raise TruncatedFileError(f"The file ends {self._position + n_bytes - self._n_left} bytes too early.")

    def memory(self, n_bytes: int, checksums: Checksums) -> Any:
        self.read(fmt.padding(self._position, n_bytes))
        self._expect(n_bytes)
        if self._start is not None and n_bytes >= WORTH_THREADS and _preadv is not None and budget() > 1:
            into = self._read_by_threads(n_bytes, self._start + self._position, checksums)
        else:
            into = self._read_in_chunks(n_bytes, checksums)
        self._position += n_bytes
        return into

    def _read_in_chunks(self, n_bytes: int, checksums: Checksums) -> Any:
        if self._n_left is None and n_bytes > STEP_BYTES:
            return self._read_unbelieved(n_bytes, checksums)
        into = new_memory(n_bytes)
        view = memoryview(into)
        for start in range(0, n_bytes, fmt.CHUNK_BYTES):
            chunk = view[start : start + fmt.CHUNK_BYTES]
            for piece in checksums.over(chunk):
                read_into(self._file, piece)
        return into

    def _read_unbelieved(self, n_bytes: int, checksums: Checksums) -> Any:
        """Of a stream whose length nobody knows: memory grows as the bytes come."""
        into = bytearray()
        while len(into) < n_bytes:
            chunk = read_exactly(self._file, min(fmt.CHUNK_BYTES, n_bytes - len(into)))
            checksums.add(fmt.checksum(chunk))
            into += chunk
        return into

    def _read_by_threads(self, n_bytes: int, offset: int, checksums: Checksums) -> Any:
        into = new_memory(n_bytes)
        view = memoryview(into)
        descriptor = self._file.fileno()

        def fill(start: int) -> int:
            chunk = view[start : start + fmt.CHUNK_BYTES]
            _pread_into(descriptor, chunk, offset + start)
            return fmt.checksum(chunk)

        with ThreadPoolExecutor(budget()) as threads:
            for made in threads.map(fill, range(0, n_bytes, fmt.CHUNK_BYTES)):
                checksums.add(made)
        self._file.seek(offset + n_bytes)
        return into

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass


def _pread_into(descriptor: int, view: memoryview, offset: int) -> None:
    assert _preadv is not None
    while len(view):
        n_read = _preadv(descriptor, [view], offset)
        if not n_read:
            raise TruncatedFileError(f"The file ends {len(view)} bytes too early.")
        view, offset = view[n_read:], offset + n_read


class BlockSource:
    """Records behind compressed blocks, which all threads decompress, a few blocks ahead."""

    def __init__(self, file: Any, header: fmt.Header) -> None:
        self._file = file
        self._header = header
        self._codec: Codec = codec_named(header.codec)
        self._window: Window[memoryview] = Window(self._plain)
        self._part = memoryview(b"")  # of the block being read
        self._ended = False

    def _plain(self, stored: bytes, n_plain: int, check: int) -> memoryview:
        if fmt.checksum(stored, n_plain) != check:
            raise CorruptFileError("A compressed block of the file is damaged.")
        if len(stored) == n_plain:
            return memoryview(stored)
        plain = memoryview(self._codec.decompress(stored, n_plain))
        if len(plain) != n_plain:
            raise CorruptFileError("A compressed block of the file has the wrong size.")
        return plain

    def _fetch(self) -> None:
        """Start on the next block of the file."""
        n_stored, n_plain, check = fmt.unpack_block(read_exactly(self._file, fmt.BLOCK_HEADER_BYTES), self._header)
        if n_plain == 0:
            self._ended = True
            return
        self._window.submit(read_exactly(self._file, n_stored), n_plain, check)

    def _next_block(self) -> None:
        while not self._ended and not self._window.is_full:
            self._fetch()
        if not len(self._window):
            raise TruncatedFileError("The compressed content ends too early.")
        self._part = self._window.take()

    def _read_into(self, view: memoryview) -> None:
        while len(view):
            if not len(self._part):
                self._next_block()
            n_taken = min(len(view), len(self._part))
            view[:n_taken] = self._part[:n_taken]
            view, self._part = view[n_taken:], self._part[n_taken:]

    def read(self, n_bytes: int) -> bytes | memoryview:
        if n_bytes <= len(self._part):
            taken, self._part = self._part[:n_bytes], self._part[n_bytes:]
            return taken
        into = bytearray(n_bytes)
        self._read_into(memoryview(into))
        return memoryview(into)

    def memory(self, n_bytes: int, checksums: Checksums) -> Any:
        into = new_memory(n_bytes)
        self._read_into(memoryview(into))
        return into

    def finish(self) -> None:
        while not self._ended:
            self._fetch()

    def close(self) -> None:
        self._window.close()


class MappedSource:
    """A plain file mapped whole: raw memory is handed out as regions and not read, hence not verified."""

    _ACCESS: ClassVar = {"r": mmap.ACCESS_READ, "c": mmap.ACCESS_COPY, "r+": mmap.ACCESS_WRITE}

    def __init__(self, file: Any, start: int, mode: str, header: fmt.Header) -> None:
        self._file = file
        self._map = mmap.mmap(file.fileno(), 0, access=self._ACCESS[mode])
        self._view = memoryview(self._map)
        self._start = start
        self._position = start + fmt.HEADER_BYTES
        self._mode = mode
        self._path = os.path.abspath(os.fsdecode(file.name))  # a relative one means another file after a chdir
        if mode == "r+":
            marked = header._replace(flags=header.flags | fmt.WRITTEN_THROUGH)
            self._map[start : start + fmt.HEADER_BYTES] = fmt.pack_header(marked)

    def read(self, n_bytes: int) -> memoryview:
        end = self._position + n_bytes
        if end > len(self._view):
            raise TruncatedFileError(f"The file ends {end - len(self._view)} bytes too early.")
        taken, self._position = self._view[self._position : end], end
        return taken

    def memory(self, n_bytes: int, checksums: Checksums) -> Region:
        self.read(fmt.padding(self._position - self._start, n_bytes))
        offset = self._position
        self.read(n_bytes)
        return Region(self._map, offset, n_bytes, self._mode, self._path)

    def finish(self) -> None:
        self._file.seek(self._position)  # where the next object begins

    def close(self) -> None:
        pass
