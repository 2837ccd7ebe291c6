"""Records become an object.

    file -> PlainSource, BlockSource or MappedSource -> RecordReader -> Unpickler

Pickle is verified before it is unpickled, raw memory before the object is handed out; mapped memory is not read at all.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from struct import iter_unpack
from typing import Any, NamedTuple

from fastpar.errors import CorruptFileError, PersistError
from fastpar.persist import format as fmt
from fastpar.persist import trust
from fastpar.persist.lanes import Checksums
from fastpar.persist.sources import Region, Source

__all__ = ["Options", "read_object"]

REBUILD = "fastpar.persist.rebuild"


class Options(NamedTuple):
    """What `load` was asked for."""

    mmap_mode: str | None = None
    native_byte_order: bool = False
    trusted: bool = True
    verify: bool = True  # raw memory against its checksums


def read_object(source: Source, options: Options) -> Any:
    """The object whose header was just read from `source`.

    Raises
    ------
    CorruptFileError, TruncatedFileError
        The content does not match its checksums, or ends early.
    UntrustedFileError
        It names a global that is refused.
    """
    records = RecordReader(source, verify=options.verify)
    try:
        value = Unpickler(records, options).load()
        records.finish()
    except (PersistError, OSError, MemoryError):
        raise
    except EOFError as error:
        raise CorruptFileError("The file's pickle ends too early.") from error
    except Exception as error:
        if options.trusted:  # it may come from the object's own code
            raise
        raise CorruptFileError(f"The file is damaged: {type(error).__name__}: {error}") from error
    finally:
        records.close()
        source.close()
    return value


class RecordReader:
    """The file that the unpickler reads, and the buffers that it asks for. Owned by one thread."""

    def __init__(self, source: Source, *, verify: bool) -> None:
        self._source = source
        self._verify = verify
        self._piece = memoryview(b"")  # what is left of the piece of pickle being read
        self._checksums = Checksums()

    def _next(self) -> fmt.Record:
        record = fmt.unpack_record(self._source.read(fmt.RECORD_BYTES))
        if record.kind != fmt.META:
            return record
        self._verified(record)
        return self._next()

    def _verified(self, record: fmt.Record) -> bytes | memoryview:
        payload = self._source.read(record.n_bytes)
        fmt.verify(record, payload)
        return payload

    def _expect(self, *kinds: bytes) -> fmt.Record:
        record = self._next()
        if record.kind not in kinds:
            raise CorruptFileError(f"The file holds {record.kind.decode()} where {kinds[0].decode()} was expected.")
        return record

    def _next_piece(self) -> None:
        record = self._expect(fmt.PICKLE)
        if record.n_bytes > fmt.PIECE_BYTES:
            raise CorruptFileError("A piece of the file's pickle is larger than any piece is.")
        self._piece = memoryview(self._verified(record))

    def read(self, n_bytes: int) -> memoryview:
        """Called by the unpickler, always for bytes that are there, unless the pickle is broken."""
        if not len(self._piece):
            self._next_piece()
        if n_bytes <= len(self._piece):
            taken, self._piece = self._piece[:n_bytes], self._piece[n_bytes:]
            return taken
        parts = bytearray()
        while len(parts) < n_bytes:
            if not len(self._piece):
                self._next_piece()
            part = self._piece[: n_bytes - len(parts)]
            self._piece = self._piece[len(part) :]
            parts += part
        return memoryview(parts)

    def readinto(self, into: Any) -> int:
        """Called by the unpickler for large strings."""
        view = memoryview(into)
        n_bytes = len(view)
        while view:
            if not len(self._piece):
                self._next_piece()
            n_taken = min(len(view), len(self._piece))
            view[:n_taken] = self._piece[:n_taken]
            view, self._piece = view[n_taken:], self._piece[n_taken:]
        return n_bytes

    def readline(self) -> bytes:
        line = bytearray()
        while not line.endswith(b"\n"):
            line += self.read(1)
        return bytes(line)

    def buffers(self) -> Iterator[Any]:
        """Raw memory, in the order in which the pickle refers to it."""
        while True:
            record = self._expect(fmt.ARRAY, fmt.BUFFER)
            memory = self._source.memory(record.n_bytes, self._checksums)
            if record.kind == fmt.BUFFER and isinstance(memory, Region):
                memory = memoryview(memory.map)[memory.offset : memory.offset + memory.n_bytes]
            yield memory

    def finish(self) -> None:
        """Verify the raw memory."""
        expected = [made for (made,) in iter_unpack("<Q", self._verified(self._expect(fmt.END)))]
        found = self._checksums.values()
        if self._verify and found and found != expected:
            raise CorruptFileError(
                f"The memory of an array in the file is damaged (chunk {_first_difference(found, expected)})."
            )
        self._source.finish()

    def close(self) -> None:
        self._checksums.close()


def _first_difference(found: list[int], expected: list[int]) -> int:
    return next(
        (i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), min(len(found), len(expected))
    )


class Unpickler(pickle.Unpickler):
    """Makes arrays over the memory it is given, mapped or not, and asks which globals are allowed."""

    def __init__(self, records: Any, options: Options) -> None:
        super().__init__(records, buffers=records.buffers())
        self._options = options

    def find_class(self, module: str, name: str) -> Any:
        if module == REBUILD:
            return self._rebuilder(name)
        module = trust.moved(module)
        if not self._options.trusted:
            return trust.find(module, name, super().find_class)
        return super().find_class(module, name)

    def _rebuilder(self, name: str) -> Any:
        from fastpar.persist.arrays import ArrayMaker
        from fastpar.persist.rebuild import REBUILDERS

        if name not in REBUILDERS:
            raise CorruptFileError(f"The file asks for {name!r}, which this version of fastpar does not know.")
        function = ArrayMaker(self._options).array if name == "array" else REBUILDERS[name]
        return function if self._options.trusted else trust.Sealed(function)
