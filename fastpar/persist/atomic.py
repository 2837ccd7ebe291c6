"""Write beside, then rename: a file appears whole, or not at all.

Readers that have the old file open or mapped keep it. While it is written it has no name, where the system has such
files, so a process that is killed leaves nothing; elsewhere it leaves a file named `.*.part`, which nobody reads.
Nothing is forced to the disk: after a power cut a file may be torn, and its checksums say so.
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

_O_FLAGS = os.O_WRONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


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
    try:
        with open(_new_file(part), "wb", buffering=1 << 17) as file:  # a frame of pickle and its header
            yield file
            file.flush()
            _give_name(file.fileno(), part)
        _keep_mode(part, path)
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise


def _new_file(part: str) -> int:
    """A descriptor of a new file, which has that name or none yet."""
    with suppress(AttributeError, OSError):  # no such system or file system
        descriptor = os.open(os.path.dirname(part), _O_FLAGS | os.O_TMPFILE, 0o666)
        if os.path.lexists(_way_to(descriptor)):
            return descriptor
        os.close(descriptor)
    return os.open(part, _O_FLAGS | os.O_CREAT | os.O_EXCL, 0o666)


def _give_name(descriptor: int, part: str) -> None:
    if os.fstat(descriptor).st_nlink == 0:
        os.link(_way_to(descriptor), part, src_dir_fd=descriptor)  # unused, but has Python call linkat, which follows


def _way_to(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"


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
