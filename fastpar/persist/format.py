"""The bytes of the file format: header, records, blocks. docs/file-format.md says the same in prose.

Pure functions between values and bytes; no file is opened here.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from xxhash import xxh3_64_intdigest as checksum

from fastpar.errors import CorruptFileError, NewerFileError

__all__ = ["checksum"]

#: Not ASCII, and holding a line ending of each kind, so that a transfer in text mode shows at once.
MAGIC = b"\x8eFPAR\r\n\x1a"
VERSION = 1

HEADER_BYTES = 64
_HEADER = Struct("<8sHHI16s24xQ")  # magic, version, flags, bytes a block, codec, zeros, checksum of the 56 bytes before

RECORD_BYTES = 24
RECORD = Struct("<4sIQQ")  # kind, low half of the checksum of the other fields, payload bytes, payload checksum
_RECORD_FIELDS = Struct("<4sQQ")

#: Kinds of record. ARRAY and BUFFER hold raw memory, whose checksums are in END.
META, PICKLE, ARRAY, BUFFER, END = b"META", b"PICK", b"ARRY", b"BUFR", b"END."
KINDS = frozenset({META, PICKLE, ARRAY, BUFFER, END})

BLOCK_HEADER_BYTES = 16
_BLOCK = Struct("<IIQ")  # stored bytes, plain bytes, checksum of the stored bytes (seed: plain bytes)

ALIGNMENT = 64  # of raw memory in a plain file: a cache line, and what any SIMD code asks for
PAGE_BYTES = 1 << 12  # alignment of raw memory of LARGE_BYTES and more: whole pages are written and read faster
LARGE_BYTES = 1 << 18
PIECE_BYTES = 1 << 22  # a PICKLE record holds at most so much, so that it is verified before it is unpickled
CHUNK_BYTES = 1 << 23  # raw memory has a checksum for each part of this size
MAX_BLOCK_BYTES = 1 << 26  # a header that asks for more is not ours


#: The file was mapped for writing: from then on the checksums of its raw memory say nothing.
WRITTEN_THROUGH = 1


class Header(NamedTuple):
    codec: str  # "": plain
    block_bytes: int
    flags: int = 0


class Record(NamedTuple):
    kind: bytes
    n_bytes: int
    checksum: int


def pack_header(header: Header) -> bytes:
    made = _HEADER.pack(MAGIC, VERSION, header.flags, header.block_bytes, header.codec.encode("ascii"), 0)
    return made[:-8] + checksum(made[:-8]).to_bytes(8, "little")


def unpack_header(block: bytes) -> Header:
    _, version, flags, block_bytes, codec, check = _HEADER.unpack(block)
    if check != checksum(block[:-8]):
        raise CorruptFileError("The header of the file is damaged.")
    if version > VERSION:
        raise NewerFileError(
            f"The file has format version {version}, and this fastpar reads up to {VERSION}: update fastpar to read it."
        )
    if block_bytes > MAX_BLOCK_BYTES:
        raise CorruptFileError(f"The header of the file asks for blocks of {block_bytes} bytes.")
    return Header(codec.rstrip(b"\0").decode("ascii"), block_bytes, flags)


def pack_record(kind: bytes, n_bytes: int, payload_checksum: int = 0) -> bytes:
    check = checksum(_RECORD_FIELDS.pack(kind, n_bytes, payload_checksum)) & 0xFFFFFFFF
    return RECORD.pack(kind, check, n_bytes, payload_checksum)


def unpack_record(block: bytes | memoryview) -> Record:
    kind, check, n_bytes, payload_checksum = RECORD.unpack(block)
    if check != checksum(_RECORD_FIELDS.pack(kind, n_bytes, payload_checksum)) & 0xFFFFFFFF or kind not in KINDS:
        raise CorruptFileError("A record of the file is damaged.")
    return Record(kind, n_bytes, payload_checksum)


def verify(record: Record, payload: bytes | memoryview) -> None:
    if checksum(payload) != record.checksum:
        raise CorruptFileError(f"A part of the file ({record.kind.decode()}, {record.n_bytes} bytes) is damaged.")


def padding(position: int, n_bytes: int) -> int:
    """Zero bytes between a record's header, which ends at `position` from the file's, and n_bytes of raw memory."""
    return -position % (ALIGNMENT if n_bytes < LARGE_BYTES else PAGE_BYTES)


def pack_block(stored: bytes | memoryview, n_plain: int) -> bytes:
    return _BLOCK.pack(len(stored), n_plain, checksum(stored, n_plain))


def unpack_block(block: bytes, header: Header) -> tuple[int, int, int]:
    n_stored, n_plain, check = _BLOCK.unpack(block)
    if n_plain > header.block_bytes or n_stored > n_plain or (n_plain == 0 and block != NO_MORE_BLOCKS):
        raise CorruptFileError("The size of a compressed block is damaged.")
    return n_stored, n_plain, check


NO_MORE_BLOCKS = _BLOCK.pack(0, 0, 0)
