"""Reads a file's checksums without making its object, for `Memory.check`."""

from __future__ import annotations

from struct import iter_unpack
from typing import Any

from fastpar.errors import CorruptFileError
from fastpar.persist import format as fmt
from fastpar.persist.lanes import Checksums
from fastpar.persist.sources import BlockSource, PlainSource, Source
from fastpar.persist.streams import read_exactly

__all__ = ["verify_file"]


def verify_file(file: Any) -> None:
    """Read one object's file to its end.

    Raises
    ------
    CorruptFileError, NewerFileError, CodecUnavailableError
        It is damaged or cannot be read here.
    """
    first = read_exactly(file, fmt.HEADER_BYTES)
    if not first.startswith(fmt.MAGIC):
        raise CorruptFileError("The file was not written by fastpar.")
    header = fmt.unpack_header(first)
    source: Source = BlockSource(file, header) if header.codec else PlainSource(file, None)
    checksums = Checksums()
    try:
        expected = _verify_records(source, checksums)
        found = checksums.values()
        if found and found != expected and not header.flags & fmt.WRITTEN_THROUGH:
            raise CorruptFileError("The memory of an array in the file is damaged.")
        source.finish()
    finally:
        checksums.close()
        source.close()


def _verify_records(source: Source, checksums: Checksums) -> list[int]:
    while True:
        record = fmt.unpack_record(source.read(fmt.RECORD_BYTES))
        if record.kind in (fmt.ARRAY, fmt.BUFFER):
            source.memory(record.n_bytes, checksums)
            continue
        payload = source.read(record.n_bytes)
        fmt.verify(record, payload)
        if record.kind == fmt.END:
            return [made for (made,) in iter_unpack("<Q", payload)]
