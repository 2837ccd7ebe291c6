"""The store on a local or network disk: one file an entry, in folders by the first digits of its digest.

    location/module/name/generation/ab/01ab...    an entry
    location/.parts/                              what is being written or removed
    location/.lease                               a file whose bytes are locked, never written: see below
    location/.size                                how many bytes all processes have stored (with a limit only)

Writing: a file in `.parts`, then a rename, which is atomic on every file system, NFS included. While it is written its
writer holds a lock on it, so that anybody can tell a part whose writer died from one that is being written.

Leases: the process that computes an entry locks one byte of `.lease`, at an offset made from the entry's key. The
system gives the lock back when its holder ends, however it ends, and wakes the next process at once; there is no clock,
nothing to clean up, and no file per entry. Such locks belong to a process, so threads agree among themselves first
(flights.py), and closing *any* descriptor of the file would drop them all: each process opens it once. A lock that
would close a circle of waiting processes is refused by the system (EDEADLK): then both compute. Where there is no fcntl
there are no leases.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, BinaryIO
from weakref import WeakValueDictionary

from fastpar.memory.store import Entry, Store

try:
    import fcntl
except ImportError:  # no such locks on this system
    fcntl = None  # type: ignore[assignment]

__all__ = ["LocalStore"]

PARTS = ".parts"
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_SHARED = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)


class LocalStore(Store):
    """Entries in files below `location`."""

    def __init__(self, location: str, options: dict[str, Any]) -> None:
        self.location = os.path.realpath(location)
        self._parts = os.path.join(self.location, PARTS)
        self._lease = _shared_file(f"{self.location}/.lease")
        self._size = _shared_file(f"{self.location}/.size")

    def __reduce__(self) -> Any:
        return LocalStore, (self.location, {})

    def __repr__(self) -> str:
        return f"LocalStore(location={self.location!r})"

    def path(self, folder: str, digest: str) -> str:
        # The first two digits are the scheme, the same for all.
        return f"{self.location}/{folder}/{digest[2:4]}/{digest}"

    # -- reading -----------------------------------------------------------------------------------------------------

    def head(self, folder: str, digest: str, n_bytes: int) -> bytes | None:
        try:
            descriptor = os.open(self.path(folder, digest), _READ)
        except FileNotFoundError:
            return None
        try:
            return os.read(descriptor, n_bytes)
        finally:
            os.close(descriptor)

    def open(self, folder: str, digest: str) -> Any:
        try:
            return open(self.path(folder, digest), "rb")
        except FileNotFoundError:
            return None

    def touch(self, folder: str, digest: str) -> None:
        with suppress(OSError):
            os.utime(self.path(folder, digest))

    # -- writing -----------------------------------------------------------------------------------------------------

    @contextmanager
    def write(self, folder: str, digest: str) -> Iterator[BinaryIO]:
        part, descriptor = self._new_part()
        try:
            with open(descriptor, "wb", buffering=1 << 16) as file:
                yield file
                file.flush()
                os.close(os.dup(descriptor))  # network file systems tell at a close that the disk is full
                self._publish(part, self.path(folder, digest))
        except BaseException:
            with suppress(OSError):
                os.unlink(part)
            raise

    def _new_part(self) -> tuple[str, int]:
        """A file to write, locked as ours. A `sweep` may find it before the lock does: then another."""
        while True:
            part, descriptor = self._created_part()
            if _lock(descriptor) and os.fstat(descriptor).st_nlink:
                return part, descriptor
            os.close(descriptor)

    def _created_part(self) -> tuple[str, int]:
        part = f"{self._parts}/{os.urandom(8).hex()}"
        try:
            return part, os.open(part, _CREATE, 0o666)
        except FileNotFoundError:
            os.makedirs(self._parts, exist_ok=True)
            return part, os.open(part, _CREATE, 0o666)

    def _publish(self, part: str, path: str) -> None:
        """Rename a part into a folder that may not exist yet, or that a `clear` has just removed again."""
        for _ in range(64):
            try:
                os.replace(part, path)
                return
            except FileNotFoundError:
                # A `clear` may come between two levels, or between finding that a level exists and looking at it.
                with suppress(FileNotFoundError, FileExistsError):
                    os.makedirs(os.path.dirname(path), exist_ok=True)
        os.replace(part, path)

    def remove(self, folder: str, digest: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.path(folder, digest))

    def clear(self, folder: str = "") -> None:
        """First out of the way in one step, then away: nobody sees a folder half cleared."""
        os.makedirs(self._parts, exist_ok=True)
        if folder:
            self._discard(os.path.join(self.location, folder))
            return
        for name in os.listdir(self.location):
            if not name.startswith("."):
                self._discard(os.path.join(self.location, name))
        self.set_size(0)

    def _discard(self, path: str) -> None:
        rubbish = f"{self._parts}/{os.urandom(8).hex()}"
        try:
            os.replace(path, rubbish)
        except FileNotFoundError:
            return
        shutil.rmtree(rubbish, ignore_errors=True)

    def sweep(self) -> int:
        """Remove parts whose writer died, and what a `clear` that died had put away."""
        n_removed = 0
        try:
            names = os.listdir(self._parts)
        except FileNotFoundError:
            return 0
        for name in names:
            path = os.path.join(self._parts, name)
            if os.path.isdir(path):
                shutil.rmtree(path, ignore_errors=True)
                n_removed += 1
            else:
                n_removed += _remove_abandoned(path)
        return n_removed

    # -- scanning ----------------------------------------------------------------------------------------------------

    def entries(self, folder: str = "") -> Iterator[Entry]:
        pending = [folder]
        while pending:
            below = pending.pop()
            for item in _listed(f"{self.location}/{below}"):
                name = f"{below}/{item.name}" if below else item.name
                if item.is_dir(follow_symlinks=False):
                    pending.append(name)
                elif len(item.name) == 32:
                    with suppress(FileNotFoundError):
                        status = item.stat(follow_symlinks=False)
                        # Not the access time: many systems do not keep it, and `check` would change it.
                        yield Entry(os.path.dirname(below), item.name, status.st_size, status.st_mtime)

    def folders(self, folder: str) -> list[str]:
        found = _listed(f"{self.location}/{folder}")
        return sorted(f"{folder}/{item.name}" for item in found if item.is_dir(follow_symlinks=False))

    # -- between processes -------------------------------------------------------------------------------------------

    def lease(self, folder: str, digest: str) -> AbstractContextManager[Any]:
        return self._lease.locked(_offset(folder, digest))

    def grow(self, n_bytes: int) -> int | None:
        return self._size.add(n_bytes)

    def set_size(self, n_bytes: int) -> None:
        self._size.put(n_bytes)


def _listed(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as found:
            return [item for item in found if not item.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _offset(folder: str, digest: str) -> int:
    from xxhash import xxh3_64_intdigest

    # Offsets are signed. Two entries with the same byte only wait in turn.
    return xxh3_64_intdigest(f"{folder}/{digest}".encode()) >> 2


def _lock(descriptor: int) -> bool:
    """Tell others that a part is being written; False if one has it. Where that cannot be told, nobody sweeps."""
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass
    return True


def _remove_abandoned(path: str) -> int:
    if fcntl is None:
        return 0
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except OSError:
        return 0
    finally:
        os.close(descriptor)
    return 1


class _SharedFile:
    """A file whose bytes this process locks, opened at most once in the process (see the top of this module).

    It is open while somebody uses it: `_n_users` counts those who hold a lock or wait for one, under `_opening`.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.forget()

    def forget(self) -> None:
        """As new. Called in a child after a fork, where no thread of the parent's holds or waits."""
        self._opening = threading.Lock()
        self._descriptor = -1
        self._n_users = 0

    def acquire(self) -> int:
        """The descriptor, until `release`."""
        with self._opening:
            if not self._n_users:
                self._descriptor = self._open()
            self._n_users += 1
            return self._descriptor

    def release(self) -> None:
        with self._opening:
            self._n_users -= 1
            if not self._n_users:
                os.close(self._descriptor)

    def _open(self) -> int:
        try:
            return os.open(self._path, _SHARED, 0o666)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            return os.open(self._path, _SHARED, 0o666)

    def locked(self, offset: int) -> _Lease:
        """Wait for one byte and hold it, on entry. Where that fails it is not held: a lease only saves work."""
        return _Lease(self, offset)

    def add(self, n_bytes: int) -> int | None:
        """Add to the number in the file; None if there is no number yet."""
        with self._number() as descriptor:
            block = os.pread(descriptor, 8, 0)
            if len(block) != 8:
                return None
            total = max(0, int.from_bytes(block, "little", signed=True) + n_bytes)
            os.pwrite(descriptor, _packed(total), 0)
            return total

    def put(self, n_bytes: int) -> None:
        with self._number() as descriptor:
            os.pwrite(descriptor, _packed(n_bytes), 0)

    @contextmanager
    def _number(self) -> Iterator[int]:
        # Locks of one process do not exclude its threads.
        with _numbers, _Lease(self, 0) as descriptor:
            if descriptor is None:
                raise OSError(f"{self._path} cannot be locked")
            yield descriptor


_numbers = threading.Lock()


class _Lease:
    """One byte of a shared file, locked while in the block. Without fcntl, or after an error, nothing is locked."""

    __slots__ = ("_descriptor", "_offset", "_shared")

    def __init__(self, shared: _SharedFile, offset: int) -> None:
        self._shared = shared
        self._offset = offset
        self._descriptor: int | None = None

    def __enter__(self) -> int | None:
        try:
            descriptor = self._shared.acquire()
        except OSError:
            return None
        try:
            if fcntl is not None:
                fcntl.lockf(descriptor, fcntl.LOCK_EX, 1, self._offset)
        except BaseException as error:
            self._shared.release()
            if isinstance(error, OSError):
                return None
            raise
        self._descriptor = descriptor
        return descriptor

    def __exit__(self, *error: object) -> None:
        if self._descriptor is None:
            return
        try:
            if fcntl is not None:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, self._offset)
        finally:
            self._shared.release()


def _packed(number: int) -> bytes:
    return number.to_bytes(8, "little", signed=True)


#: One for each file and process, as long as a store uses it. A child made by fork inherits the descriptors but none of
#: the locks, and its own locks are its own: so the table may be inherited as well; only its Python locks must be new.
_shared_files: WeakValueDictionary[str, _SharedFile] = WeakValueDictionary()
_shared_files_lock = threading.Lock()


def _shared_file(path: str) -> _SharedFile:
    with _shared_files_lock:
        shared = _shared_files.get(path)
        if shared is None:
            shared = _shared_files[path] = _SharedFile(path)
        return shared


def _after_fork() -> None:
    global _shared_files_lock, _numbers  # threads of the parent may have held them
    _shared_files_lock, _numbers = threading.Lock(), threading.Lock()
    for shared in list(_shared_files.values()):
        shared.forget()


if getattr(os, "register_at_fork", None) is not None:
    os.register_at_fork(after_in_child=_after_fork)
