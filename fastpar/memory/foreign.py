"""Stores written for joblib: its `StoreBackendBase`, and the adapter that lets `Memory` use one."""

from __future__ import annotations

import datetime
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from fastpar.memory.store import Entry, Store

__all__ = ["ForeignStore", "StoreBackendBase"]

#: What such stores take for a result when they list their items.
FILE_NAME = "output.pkl"


class StoreBackendBase(ABC):
    """Base class of stores with joblib's methods, for `register_store_backend`.

    A new store is simpler to write as a subclass of `fastpar.memory.Store`.
    """

    location: Any = None

    @abstractmethod
    def _open_item(self, f: Any, mode: str) -> Any:
        """A file object for an item, mode "rb" or "wb"."""

    @abstractmethod
    def _item_exists(self, location: Any) -> bool:
        """Whether an item exists."""

    @abstractmethod
    def _move_item(self, src: Any, dst: Any) -> None:
        """Give an item another name; atomic if at all possible."""

    @abstractmethod
    def create_location(self, location: Any) -> None:
        """Make a folder, and those above it."""

    @abstractmethod
    def clear_location(self, location: Any) -> None:
        """Remove a folder with what is in it."""

    @abstractmethod
    def get_items(self) -> Any:
        """All items, each with `path`, `size` and `last_access`."""

    @abstractmethod
    def configure(self, location: Any, verbose: int = 0, backend_options: Any = {}) -> None:  # noqa: B006
        """Called once, before anything else."""


class ForeignStore(Store):
    """A store with joblib's methods behind the interface that `Memory` uses. It has no leases."""

    def __init__(self, made: Any, location: Any, options: dict[str, Any]) -> None:
        self._made, self._options = made, options
        self._backend = made()
        self._backend.configure(location, verbose=0, backend_options=options)
        self.location = str(self._backend.location or location)
        self._given = location

    def __reduce__(self) -> Any:
        return ForeignStore, (self._made, self._given, self._options)

    def _folder(self, folder: str, digest: str = "") -> str:
        return os.path.join(self.location, *folder.split("/"), *([digest] if digest else []))

    def _item(self, folder: str, digest: str) -> str:
        return os.path.join(self._folder(folder, digest), FILE_NAME)

    def head(self, folder: str, digest: str, n_bytes: int) -> bytes | None:
        file = self.open(folder, digest)
        if file is None:
            return None
        with file:
            block: bytes = file.read(n_bytes)
            return block

    def open(self, folder: str, digest: str) -> Any:
        path = self._item(folder, digest)
        if not self._backend._item_exists(path):
            return None
        with suppress(FileNotFoundError, KeyError):
            return self._backend._open_item(path, "rb")
        return None

    @contextmanager
    def write(self, folder: str, digest: str) -> Iterator[BinaryIO]:
        self._backend.create_location(self._folder(folder, digest))
        path = self._item(folder, digest)
        part = f"{path}.{os.urandom(8).hex()}"
        with self._backend._open_item(part, "wb") as file:
            yield file
        self._backend._move_item(part, path)

    def remove(self, folder: str, digest: str) -> None:
        with suppress(FileNotFoundError):
            self._backend.clear_location(self._folder(folder, digest))

    def clear(self, folder: str = "") -> None:
        with suppress(FileNotFoundError):
            self._backend.clear_location(self._folder(folder) if folder else self.location)

    def entries(self, folder: str = "") -> Iterator[Entry]:
        for item in self._backend.get_items():
            inside = os.path.relpath(item.path, self.location).replace(os.sep, "/")
            above, _, digest = inside.rpartition("/")
            if above == folder or above.startswith(f"{folder}/") or not folder:
                yield Entry(above, digest, item.size, _seconds(item.last_access))


def _seconds(moment: Any) -> float:
    return moment.timestamp() if isinstance(moment, datetime.datetime) else float(moment)
