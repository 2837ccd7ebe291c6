"""An entry of the cache: a file of `dump`'s format whose first record tells when, how long and with which arguments.

`read` is the hot path of a hit: a small entry is one string, taken apart here without a reader.
"""

from __future__ import annotations

import json
import pickle
from io import BytesIO
from typing import Any

from fastpar.errors import CorruptFileError, PersistError
from fastpar.memory.store import Store
from fastpar.persist import format as fmt
from fastpar.persist.codecs import Codec
from fastpar.persist.writer import write_object

__all__ = ["HEAD_BYTES", "MISSING", "damage", "metadata", "read", "write"]

#: An entry up to this size is read with one call.
HEAD_BYTES = 1 << 16

MISSING = object()

_PLAIN_HEADER = fmt.pack_header(fmt.Header("", 0))


def write(
    store: Store, folder: str, digest: str, value: Any, meta: dict[str, Any], codec: tuple[Codec, int | None] | None
) -> int:
    """Store a value and return the size of its entry in bytes, or 0 where the store cannot tell."""
    with store.write(folder, digest) as file:
        write_object(file, value, codec, json.dumps(meta).encode())
        return file.tell()


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
    """A whole entry in memory. The common one: plain, one piece of pickle, no raw memory."""
    view = memoryview(block)
    if block.startswith(_PLAIN_HEADER):
        kind, _, n_bytes, check = fmt.RECORD.unpack_from(block, start := fmt.HEADER_BYTES)
        if kind == fmt.META:
            start += fmt.RECORD_BYTES + n_bytes
            kind, _, n_bytes, check = fmt.RECORD.unpack_from(block, start)
        end = start + fmt.RECORD_BYTES + n_bytes
        if kind == fmt.PICKLE and block.startswith(fmt.END, end) and len(block) == end + fmt.RECORD_BYTES:
            payload = view[end - n_bytes : end]
            if fmt.checksum(payload) != check:
                raise CorruptFileError("The entry is damaged.")
            return pickle.loads(payload)
    return _load(BytesIO(block), None)


def _load(file: Any, mmap_mode: str | None) -> Any:
    from fastpar.persist import load

    return load(file, mmap_mode=mmap_mode, ensure_native_byte_order=False)


def _read_file(store: Store, folder: str, digest: str, mmap_mode: str | None) -> Any:
    path = store.path(folder, digest)
    if path is not None:
        from fastpar.persist import load

        try:
            return load(path, mmap_mode=mmap_mode, ensure_native_byte_order=False)
        except FileNotFoundError:
            return MISSING
    file = store.open(folder, digest)
    if file is None:
        return MISSING
    with file:
        return _load(file, None)


def metadata(store: Store, folder: str, digest: str) -> dict[str, Any] | None:
    """What was stored with the value, or None if there is no such entry or it is damaged."""
    file = store.open(folder, digest)
    if file is None:
        return None
    try:
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

    file = store.open(folder, digest)
    if file is None:
        return None
    try:
        with file:
            verify_file(file)
    except (PersistError, OSError) as error:
        return str(error)
    return None
