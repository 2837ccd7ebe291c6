"""Write beside, then rename: a file appears whole, or not at all.

Readers that have the old file open or mapped keep it. A crash leaves at most a file named `.*.part`, which nobody
reads. Nothing is forced to the disk: after a power cut a file may be torn, and its checksums say so.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

__all__ = ["PART_SUFFIX", "part_path", "replacing"]

PART_SUFFIX = ".part"

_O_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def part_path(path: str) -> str:
    """A name beside `path` that no other writer has: random, so that threads, processes and hosts need not agree."""
    folder, name = os.path.split(path)
    start = os.fsencode(name)[:80].decode(sys.getfilesystemencoding(), "ignore")  # a system limits bytes
    return os.path.join(folder, f".{start}.{os.urandom(8).hex()}{PART_SUFFIX}")


@contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """A file to write; it becomes `path` when the block ends, and vanishes when the block fails.

    A symbolic link keeps pointing where it does. A device or a pipe is written as it is.
    """
    path = os.path.realpath(path)
    if _is_special(path):
        with open(path, "wb") as special:
            yield special
        return
    part = part_path(path)
    descriptor = os.open(part, _O_FLAGS, 0o666)
    try:
        with open(descriptor, "wb", buffering=1 << 17) as file:  # a frame of pickle and its header
            yield file
        _keep_mode(part, path)
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise


def _keep_mode(part: str, path: str) -> None:
    """A file that is replaced keeps who may read it."""
    with suppress(OSError):
        os.chmod(part, stat.S_IMODE(os.stat(path).st_mode))


def _is_special(path: str) -> bool:
    try:
        status: Any = os.stat(path)
    except OSError:
        return False
    return not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode)
