"""Small file objects that reading is made of."""

from __future__ import annotations

import io
from typing import Any

from fastpar.errors import CorruptFileError, PersistError, TruncatedFileError

__all__ = ["Decompressed", "Prefixed", "Unpacked", "read_exactly", "read_into", "read_up_to"]

#: Without knowing how much a stream holds, memory is taken in steps of this size.
STEP_BYTES = 1 << 26

#: A decompressor is asked for so much at a time.
UNPACKED_BYTES = 1 << 20


def read_exactly(file: Any, n_bytes: int) -> bytes:
    """The next n_bytes of a file, a pipe or a socket.

    Raises
    ------
    TruncatedFileError
        There are fewer.
    """
    block: bytes = file.read(min(n_bytes, STEP_BYTES)) or b""
    if len(block) == n_bytes:
        return block
    blocks = [block]
    missing = n_bytes - len(block)
    while missing:
        block = file.read(min(missing, STEP_BYTES))
        if not block:
            raise TruncatedFileError(f"The file ends {missing} bytes too early.")
        blocks.append(block)
        missing -= len(block)
    return b"".join(blocks)


def read_up_to(file: Any, n_bytes: int) -> bytes:
    """The next n_bytes of a file, or fewer at its end; unbuffered files give fewer before it."""
    block: bytes = file.read(n_bytes) or b""
    while 0 < len(block) < n_bytes:
        more = file.read(n_bytes - len(block))
        if not more:
            break
        block += more
    return block


def read_into(file: Any, view: memoryview) -> None:
    """Fill `view` from a file, a pipe or a socket."""
    readinto = getattr(file, "readinto", None)  # a file object need not have it
    while len(view):
        if readinto is not None:
            n_read = readinto(view)
        else:
            block = file.read(min(len(view), STEP_BYTES))
            n_read = len(block)
            view[:n_read] = block
        if not n_read:
            raise TruncatedFileError(f"The file ends {len(view)} bytes too early.")
        view = view[n_read:]


class Prefixed(io.RawIOBase):
    """A file object that cannot seek, with the bytes already read from it put back in front."""

    def __init__(self, first: bytes, file: Any) -> None:
        self._first = first
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        view = memoryview(into)
        if self._first:
            taken = self._first[: len(view)]
            self._first = self._first[len(taken) :]
        else:
            taken = self._file.read(len(view)) or b""
        view[: len(taken)] = taken
        return len(taken)


class Decompressed(io.RawIOBase):
    """The plain bytes of a whole compressed file, through a decompressor object of zlib's kind."""

    def __init__(self, file: Any, decompressor: Any) -> None:
        self._file = file
        self._decompressor = decompressor

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        view = memoryview(into)
        plain = b""
        while not plain and not self._decompressor.eof:
            block = self._decompressor.unconsumed_tail or self._file.read(1 << 16)
            if not block:
                raise TruncatedFileError("The compressed file ends too early.")
            try:
                plain = self._decompressor.decompress(block, len(view))
            except Exception as error:
                raise CorruptFileError(f"The compressed file is damaged: {error}") from error
        view[: len(plain)] = plain
        return len(plain)


class Unpacked(io.RawIOBase):
    """What a decompressing file object gives, of whatever library, with damage raised as ours."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        view = memoryview(into)
        try:
            # Decompressors hold several copies of what they are asked for.
            block = self._file.read(min(len(view), UNPACKED_BYTES)) or b""
        except EOFError as error:
            raise TruncatedFileError(f"The compressed file ends too early: {error}") from error
        except PersistError:
            raise
        except Exception as error:
            if getattr(error, "errno", None) is not None:  # the disk's, not the file's
                raise
            raise CorruptFileError(f"The compressed file is damaged: {error}") from error
        view[: len(block)] = block
        return len(block)
