"""What a cache needs of a store: six calls. Everything else of `Memory` is built on them.

An entry is one value of one function: `folder` names the function and its generation ("module/name/1a2b..."), `digest`
the arguments. A store keeps whole entries: what `write` publishes appears at once, or not at all.

Every method may be called from any thread and any process at the same time, and after a fork.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, BinaryIO, NamedTuple

__all__ = ["DESCRIPTION", "Entry", "Store"]

#: In place of a digest of arguments: the entry that tells what makes a generation (reasons.py). It is no result.
DESCRIPTION = "0" * 32


class Entry(NamedTuple):
    """One entry as a scan finds it."""

    folder: str
    digest: str
    n_bytes: int
    used_s: float  # when it was last read or written, in seconds since the epoch, as exactly as the store can tell


class Store(ABC):
    """Base class of stores, for `register_store_backend`.

    Parameters
    ----------
    location : str
        Where, in whatever way the store understands.
    options : dict
        `Memory`'s `backend_options`.
    """

    location: str

    @abstractmethod
    def __init__(self, location: str, options: dict[str, Any]) -> None: ...

    @abstractmethod
    def head(self, folder: str, digest: str, n_bytes: int) -> bytes | None:
        """The first `n_bytes` of an entry, or all of it if it has fewer; None if there is no such entry."""

    @abstractmethod
    def open(self, folder: str, digest: str) -> Any:
        """A file object that reads an entry; None if there is no such entry. What it reads never changes."""

    @abstractmethod
    def write(self, folder: str, digest: str) -> AbstractContextManager[BinaryIO]:
        """A file object whose content becomes the entry when the block ends, and vanishes when the block fails."""

    @abstractmethod
    def remove(self, folder: str, digest: str) -> None:
        """Forget an entry. Readers that have it open keep it. No error if there is none."""

    @abstractmethod
    def entries(self, folder: str = "") -> Iterator[Entry]:
        """The entries in a folder and below it. Those that come or go meanwhile may be missing."""

    @abstractmethod
    def clear(self, folder: str = "") -> None:
        """Forget everything in a folder and below it."""

    # What a store may do better than this.

    def path(self, folder: str, digest: str) -> str | None:
        """The file of an entry, which need not exist, where entries are files that can be mapped."""
        return None

    def folders(self, folder: str) -> list[str]:
        """The folders right below a folder that hold entries or folders."""
        depth = folder.count("/") + 2
        return sorted({"/".join(entry.folder.split("/")[:depth]) for entry in self.entries(folder)})

    def lease(self, folder: str, digest: str) -> AbstractContextManager[Any]:
        """Held by one process at a time for each entry, given back when its holder dies. The default is no lease."""
        return nullcontext()

    def touch(self, folder: str, digest: str) -> None:
        """Remember that an entry was used now."""

    def grow(self, n_bytes: int) -> int | None:
        """Add to the count of stored bytes that all processes share and return it; None: this store has none."""
        return None

    def set_size(self, n_bytes: int) -> None:
        """Set that count, after a scan."""

    def sweep(self) -> int:
        """Remove what writers that died have left; how many such things there were."""
        return 0
