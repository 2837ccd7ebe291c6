"""An object becomes records, records become bytes.

    Pickler -> RecordWriter -> PlainSink or BlockSink -> file

Raw memory follows the piece of pickle that refers to it, so that a reader gets along with one pass and no seek. Memory
beyond the object: a chunk where an array is not contiguous; with compression, a block a thread.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterable, Iterator
from struct import pack
from typing import Any, Protocol

from fastpar.persist import format as fmt
from fastpar.persist.codecs import Codec
from fastpar.persist.lanes import Checksums, Window

__all__ = ["ArrayToken", "write_object"]


class Sink(Protocol):
    """Where records go. `aligned`: raw memory is, for it may be mapped."""

    aligned: bool
    position: int

    def write(self, block: Any) -> None: ...

    def close(self) -> None: ...

    def abandon(self) -> None: ...


def write_object(file: Any, value: Any, codec: tuple[Codec, int | None] | None = None, meta: bytes = b"") -> None:
    """Write `value` to an open file; `meta`, any bytes, can be read back without it.

    An error leaves a part of the file written.
    """
    sink: Sink = PlainSink(file) if codec is None else BlockSink(file, *codec)
    records = RecordWriter(sink)
    try:
        if meta:
            records.put(fmt.META, meta)
        Pickler(records).dump(value)
        records.finish()
        sink.close()
    finally:
        records.close()
        sink.abandon()


class ArrayToken(bytearray):
    """Stands for an array in a `PickleBuffer`, which takes contiguous memory only and does not say whose it is."""

    array: Any


class Pickler(pickle.Pickler):
    """Protocol 5; arrays leave the pickle, whatever their memory order."""

    def __init__(self, records: RecordWriter) -> None:
        super().__init__(records, 5, buffer_callback=records.keep)
        self._reducers: dict[type, Any] = {}

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        try:
            reducer = self._reducers[kind]
        except KeyError:
            reducer = self._reducers[kind] = _find_reducer(kind)
        return NotImplemented if reducer is None else reducer(obj)


def _find_reducer(kind: type) -> Any:
    if "numpy" not in sys.modules:
        return None
    from fastpar.persist.reducers import reducer_for

    return reducer_for(kind)


class RecordWriter:
    """The file that the pickler writes to. Owned by one thread."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._kept: list[pickle.PickleBuffer] = []  # referred to by pickle that is not written yet
        self._checksums = Checksums()

    def keep(self, buffer: pickle.PickleBuffer) -> None:
        """Called by the pickler where it refers to raw memory."""
        self._kept.append(buffer)

    def write(self, piece: Any) -> int:
        """Called by the pickler with the next piece of pickle: then what was kept until now can follow."""
        view = memoryview(piece).cast("B")
        for start in range(0, len(view), fmt.PIECE_BYTES):
            self.put(fmt.PICKLE, view[start : start + fmt.PIECE_BYTES])
        kept, self._kept = self._kept, []
        for buffer in kept:
            self._put_memory(buffer)
        return len(view)

    def put(self, kind: bytes, payload: Any) -> None:
        self._sink.write(fmt.pack_record(kind, len(payload), fmt.checksum(payload)))
        self._sink.write(payload)

    def _put_memory(self, buffer: pickle.PickleBuffer) -> None:
        owner = memoryview(buffer).obj
        values = owner.array if isinstance(owner, ArrayToken) else None
        n_bytes = memoryview(buffer).nbytes if values is None else values.nbytes
        self._sink.write(fmt.pack_record(fmt.BUFFER if values is None else fmt.ARRAY, n_bytes))
        if self._sink.aligned:
            self._sink.write(bytes(fmt.padding(self._sink.position, n_bytes)))
        for chunk in _raw_chunks(buffer) if values is None else _array_chunks(values):
            self._write_chunk(chunk)

    def _write_chunk(self, chunk: tuple[memoryview, ...]) -> None:
        """One chunk of raw memory, in one block or several; a compressed block has a checksum of its own."""
        pieces: Iterable[memoryview] = chunk
        if self._sink.aligned:
            pieces = self._checksums.over(*chunk) if len(chunk) == 1 else self._checksums.over_blocks(chunk)
        for piece in pieces:
            self._sink.write(piece)

    def finish(self) -> None:
        checksums = self._checksums.values()
        self.put(fmt.END, pack(f"<{len(checksums)}Q", *checksums))

    def close(self) -> None:
        self._checksums.close()


def _raw_chunks(buffer: pickle.PickleBuffer) -> Iterator[tuple[memoryview, ...]]:
    view = buffer.raw()
    for start in range(0, len(view), fmt.CHUNK_BYTES):
        yield (view[start : start + fmt.CHUNK_BYTES],)


def _array_chunks(values: Any) -> Iterator[tuple[memoryview, ...]]:
    """The memory of an array in C order, in chunks of CHUNK_BYTES but for the last, each of one or more blocks."""
    from fastpar.hashing_arrays import blocks

    if values.flags.c_contiguous:
        for block in blocks(values):
            view = memoryview(block)
            for start in range(0, len(view), fmt.CHUNK_BYTES):
                yield (view[start : start + fmt.CHUNK_BYTES],)
        return
    yield from _rechunked(memoryview(block) for block in blocks(values))


def _rechunked(blocks: Iterator[memoryview]) -> Iterator[tuple[memoryview, ...]]:
    """Chunks put together from smaller blocks, which need not divide a chunk."""
    chunk: list[memoryview] = []
    filled = 0
    for block in blocks:
        view = block
        while len(view):
            part = view[: fmt.CHUNK_BYTES - filled]
            view = view[len(part) :]
            chunk.append(part)
            filled += len(part)
            if filled == fmt.CHUNK_BYTES:
                yield tuple(chunk)
                chunk, filled = [], 0
    if chunk:
        yield tuple(chunk)


class PlainSink:
    """Records as they are."""

    aligned = True

    def __init__(self, file: Any) -> None:
        self._file = file
        self.position = 0
        self.write(fmt.pack_header(fmt.Header("", 0)))

    def write(self, block: Any) -> None:
        _write_all(self._file, block)
        self.position += len(block)

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        pass


class BlockSink:
    """Records cut into blocks, compressed by all threads and written in order."""

    aligned = False

    def __init__(self, file: Any, codec: Codec, level: int | None) -> None:
        self._file = file
        self._codec, self._level = codec, level
        self._part = bytearray()  # of the next block
        self._window: Window[tuple[bytes, Any]] = Window(self._packed)
        self.position = 0
        _write_all(file, fmt.pack_header(fmt.Header(codec.name, codec.block_bytes)))

    def write(self, block: Any) -> None:
        view = memoryview(block)
        size = self._codec.block_bytes
        while view:
            if not self._part and len(view) >= size:
                self._submit(view[:size])  # without a copy
                view = view[size:]
                continue
            taken = min(len(view), size - len(self._part))
            self._part += view[:taken]
            view = view[taken:]
            if len(self._part) == size:
                self._flush()

    def _flush(self) -> None:
        part, self._part = self._part, bytearray()
        if part:
            self._submit(memoryview(part))

    def _submit(self, block: memoryview) -> None:
        self._window.submit(block)
        while self._window.is_full:
            self._write_oldest()

    def _packed(self, block: memoryview) -> tuple[bytes, Any]:
        stored: Any = self._codec.compress(block, self._level)
        if len(stored) >= len(block):
            stored = block  # as it is: the reader sees that the sizes are equal
        return fmt.pack_block(stored, len(block)), stored

    def _write_oldest(self) -> None:
        head, stored = self._window.take()
        _write_all(self._file, head)
        _write_all(self._file, stored)

    def close(self) -> None:
        self._flush()
        while len(self._window):
            self._write_oldest()
        _write_all(self._file, fmt.NO_MORE_BLOCKS)

    def abandon(self) -> None:
        self._window.close()


def _write_all(file: Any, block: Any) -> None:
    """An unbuffered file may take less than it was given."""
    n_written = file.write(block)
    if n_written is None or n_written == len(block):
        return
    view = memoryview(block)[n_written:]
    while len(view):
        view = view[file.write(view) :]
