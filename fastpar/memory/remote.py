"""The store on anything that fsspec reaches: memory://, s3://, gs://, sftp://, ... Needs the package fsspec.

An entry is one object, `location/module/name/generation/digest`. Object stores publish an object when its upload ends,
so no rename is needed and none is used there; other file systems (`sftp://`) get a part and a move. There are no
leases: processes may compute the same result at the same time, and the last write wins with an equal value. Clocks and
sizes are what the file system reports; where it reports no time, eviction goes by name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from io import BytesIO
from typing import Any, BinaryIO

from fastpar.errors import BackendUnavailableError
from fastpar.memory.store import Entry, Store

__all__ = ["FsspecStore"]

#: File systems where a half written file would be seen under its name.
_NEEDS_MOVE = frozenset({"file", "local", "sftp", "ssh", "ftp", "smb", "hdfs", "dir"})


class FsspecStore(Store):
    """Entries in objects below a URL; `options` go to the file system."""

    def __init__(self, location: str, options: dict[str, Any]) -> None:
        try:
            from importlib import import_module

            fsspec: Any = import_module("fsspec")
        except ImportError:
            raise BackendUnavailableError(f"{location} needs the package fsspec: pip install fsspec") from None
        self.location = location.rstrip("/")
        self._options = options
        self._files, root = fsspec.core.url_to_fs(self.location, **options)
        self._root = root.rstrip("/")
        protocol = self._files.protocol
        self._moves = not _NEEDS_MOVE.isdisjoint({protocol} if isinstance(protocol, str) else protocol)

    def __reduce__(self) -> Any:
        return FsspecStore, (self.location, self._options)

    def __repr__(self) -> str:
        return f"FsspecStore(location={self.location!r})"

    def _path(self, folder: str, digest: str) -> str:
        return f"{self._root}/{folder}/{digest}"

    def head(self, folder: str, digest: str, n_bytes: int) -> bytes | None:
        try:
            block: bytes = self._files.cat_file(self._path(folder, digest), start=0, end=n_bytes)
        except FileNotFoundError:
            return None
        return block

    def open(self, folder: str, digest: str) -> Any:
        try:
            return self._files.open(self._path(folder, digest), "rb")
        except FileNotFoundError:
            return None

    @contextmanager
    def write(self, folder: str, digest: str) -> Iterator[BinaryIO]:
        # An upload that fails midway must leave nothing, and not every file system can abort one: so all at the end.
        content = BytesIO()
        yield content
        path = self._path(folder, digest)
        if not self._moves:
            self._files.pipe_file(path, content.getvalue())
            return
        part = f"{path}.{os.urandom(8).hex()}.part"
        self._files.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            self._files.pipe_file(part, content.getvalue())
            self._files.mv(part, path)
        except BaseException:
            with suppress(OSError):
                self._files.rm_file(part)
            raise

    def remove(self, folder: str, digest: str) -> None:
        with suppress(FileNotFoundError):
            self._files.rm_file(self._path(folder, digest))

    def clear(self, folder: str = "") -> None:
        self._files.invalidate_cache()
        with suppress(FileNotFoundError):
            self._files.rm(f"{self._root}/{folder}" if folder else self._root, recursive=True)

    def entries(self, folder: str = "") -> Iterator[Entry]:
        self._files.invalidate_cache()
        above = f"{self._root}/{folder}" if folder else self._root
        try:
            found = self._files.find(above, detail=True)
        except FileNotFoundError:
            return
        for path, info in found.items():
            inside, _, digest = path[path.index(self._root) + len(self._root) :].strip("/").rpartition("/")
            if len(digest) == 32:
                yield Entry(inside, digest, info.get("size") or 0, _seconds(info))


def _seconds(info: dict[str, Any]) -> float:
    for name in ("mtime", "LastModified", "last_modified", "created", "updated"):
        moment = info.get(name)
        if isinstance(moment, datetime):
            return moment.timestamp()
        if isinstance(moment, (int, float)):
            return float(moment)
        if isinstance(moment, str):
            with suppress(ValueError):
                return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
    return 0.0
