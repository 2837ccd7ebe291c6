"""An entry of the cache: a file of `dump`'s format whose first record tells when, how long and with which arguments.

`read` is the hot path of a hit: a small entry is one string, taken apart here without a reader.
"""

from __future__ import annotations

import json
import pickle
import struct
from io import BytesIO
from typing import Any

from fastpar.errors import CorruptFileError, PersistError, TruncatedFileError
from fastpar.memory.store import Store
from fastpar.persist import format as fmt
from fastpar.persist._api import load_own
from fastpar.persist.codecs import Codec
from fastpar.persist.reader import Options
from fastpar.persist.writer import write_object

__all__ = ["HEAD_BYTES", "MISSING", "damage", "metadata", "read", "write"]

#: An entry up to this size is read with one call.
HEAD_BYTES = 1 << 16

MISSING = object()

_PLAIN_HEADER = fmt.pack_header(fmt.Header("", 0))
#: Types whose pickles are one small piece.
_SMALL = frozenset({int, float, bool, complex, type(None)})

_END = fmt.pack_record(fmt.END, 0, fmt.checksum(b""))


def write(
    store: Store, folder: str, digest: str, value: Any, meta: dict[str, Any], codec: tuple[Codec, int | None] | None
) -> int:
    """Store a value and return the size of its entry in bytes, or 0 where the store cannot tell."""
    with store.write(folder, digest) as file:
        if codec is None and _is_small(value):
            file.write(_encode(value, json.dumps(meta).encode()))
        else:
            write_object(file, value, codec, json.dumps(meta).encode())
        return file.tell()


def _is_small(value: Any) -> bool:
    return type(value) in _SMALL and (type(value) is not int or value.bit_length() < 1 << 16)


def _encode(value: Any, meta: bytes) -> bytes:
    """What `write_object` makes of a number, at a third of the time."""
    payload = pickle.dumps(value, 5)
    head = fmt.pack_record(fmt.META, len(meta), fmt.checksum(meta))
    return b"".join(
        (_PLAIN_HEADER, head, meta, fmt.pack_record(fmt.PICKLE, len(payload), fmt.checksum(payload)), payload, _END)
    )


def read(store: Store, folder: str, digest: str, mmap_mode: str | None = None) -> Any:
    """The value of an entry, or MISSING if there is none.

    Raises
    ------
    Exception
        The entry is damaged, or its objects cannot be made here.
    """
    if mmap_mode is not None:
        return _read_file(store, folder, digest, mmap_mode)
    block = store.head(folder, digest, HEAD_BYTES)
    if block is None:
        return MISSING
    if len(block) == HEAD_BYTES:
        return _read_file(store, folder, digest, None)
    return _decode(block)


def _decode(block: bytes) -> Any:
    """A whole entry in memory. The common one: plain, one piece of pickle, no raw memory.

    Everything that the value depends on is verified; the metadata, which it does not, is passed over.
    """
    if not block.startswith(_PLAIN_HEADER):
        return _load(BytesIO(block))
    start = fmt.HEADER_BYTES
    try:
        kind, _, n_bytes, _ = fmt.RECORD.unpack_from(block, start)
        if kind == fmt.META:
            start += fmt.RECORD_BYTES + n_bytes
        record = fmt.unpack_record(block[start : start + fmt.RECORD_BYTES])
    except struct.error:
        raise TruncatedFileError("The entry ends too early.") from None
    start += fmt.RECORD_BYTES
    end = start + record.n_bytes
    if record.kind != fmt.PICKLE or block[end:] != _END:
        return _load(BytesIO(block))
    payload = memoryview(block)[start:end]
    fmt.verify(record, payload)
    return pickle.loads(payload)


def _load(file: Any, mmap_mode: str | None = None, start: int | None = None) -> Any:
    return load_own(file, Options(mmap_mode=mmap_mode), start)


def _read_file(store: Store, folder: str, digest: str, mmap_mode: str | None) -> Any:
    path = store.path(folder, digest)
    if path is None:
        file = store.open(folder, digest)
        if file is None:
            return MISSING
        with file:
            return _load(file)
    try:
        with open(path, "r+b" if mmap_mode == "r+" else "rb") as file:
            return _load(file, mmap_mode, 0)
    except FileNotFoundError:
        return MISSING


def metadata(store: Store, folder: str, digest: str) -> dict[str, Any] | None:
    """What was stored with the value, or None if there is no such entry or it is damaged."""
    try:
        file = store.open(folder, digest)
        if file is None:
            return None
        with file:
            return _read_meta(file)
    except (PersistError, ValueError, OSError):
        return None


def _read_meta(file: Any) -> dict[str, Any]:
    from fastpar.persist.sources import BlockSource, PlainSource

    first = file.read(fmt.HEADER_BYTES)
    if not first.startswith(fmt.MAGIC) or len(first) < fmt.HEADER_BYTES:
        raise CorruptFileError("This is no entry.")
    header = fmt.unpack_header(first)
    source = BlockSource(file, header) if header.codec else PlainSource(file, None)
    try:
        record = fmt.unpack_record(source.read(fmt.RECORD_BYTES))
        if record.kind != fmt.META:
            raise CorruptFileError("This entry was not written by Memory.")
        payload = source.read(record.n_bytes)
        fmt.verify(record, payload)
    finally:
        source.close()
    meta: dict[str, Any] = json.loads(bytes(payload))
    return meta


def damage(store: Store, folder: str, digest: str) -> str | None:
    """What is wrong with an entry, checksums of everything included, or None. Nothing of it is unpickled."""
    from fastpar.persist.verify import verify_file

    try:
        file = store.open(folder, digest)
        if file is None:
            return None
        with file:
            verify_file(file)
    except (PersistError, OSError) as error:
        return str(error)
    return None
