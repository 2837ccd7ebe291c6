"""References to stored results, small enough to send anywhere."""

from __future__ import annotations

from typing import Any

from fastpar.logger import Logger
from fastpar.memory import entries
from fastpar.memory.store import Store

__all__ = ["MemorizedResult", "NotMemorizedResult"]


class MemorizedResult(Logger):
    """A reference to one stored result. Small, immutable, picklable; `MemorizedFunc.call_and_shelve` returns it.

    Parameters
    ----------
    location : str or Store
        Of the cache.
    call_id : (str, str)
        The function's folder with its generation, and the digest of the arguments.
    backend : str, default "local"
        The store's name, where `location` is a string.
    mmap_mode : str, optional
        How `get` maps arrays.
    verbose : int, default 0
        Kept for joblib's callers.
    timestamp : float, optional
        Kept for joblib's callers.
    metadata : dict, optional
        "duration" in seconds, "input_args" as text, "time" in seconds since the epoch.
    """

    def __init__(
        self,
        location: Any,
        call_id: tuple[str, str],
        backend: str = "local",
        mmap_mode: str | None = None,
        verbose: int = 0,
        timestamp: float | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(location, Store):
            from fastpar.memory.registry import open_store

            location = open_store(backend, location, {})
        self.store_backend: Store = location
        self._call_id = (call_id[0], call_id[1])
        self.mmap_mode = mmap_mode
        self.verbose = verbose
        self.timestamp = timestamp
        if metadata is None:
            metadata = entries.metadata(self.store_backend, *self._call_id) or {}
        self.metadata = metadata
        self.duration = metadata.get("duration")

    @property
    def func_id(self) -> str:
        """The folder of the function and its generation."""
        return self._call_id[0]

    @property
    def func(self) -> str:
        """The same, by joblib's older name."""
        return self._call_id[0]

    @property
    def args_id(self) -> str:
        """The digest of the arguments."""
        return self._call_id[1]

    def get(self) -> Any:
        """Read the result.

        Raises
        ------
        KeyError
            It is no longer stored.
        PersistError
            It is damaged.
        """
        value = entries.read(self.store_backend, *self._call_id, self.mmap_mode)
        if value is entries.MISSING:
            raise KeyError(f"The result of {self.func_id} is no longer stored in {self.store_backend.location}.")
        return value

    def clear(self) -> None:
        """Forget the result."""
        self.store_backend.remove(*self._call_id)

    def __reduce__(self) -> Any:
        args = (self.store_backend, self._call_id, "local", self.mmap_mode, self.verbose, self.timestamp, self.metadata)
        return MemorizedResult, args

    def __repr__(self) -> str:
        location = self.store_backend.location
        return f'MemorizedResult(location="{location}", func="{self.func_id}", args_id="{self.args_id}")'


class NotMemorizedResult:
    """A result in hand, with the interface of `MemorizedResult`."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.valid = True

    def get(self) -> Any:
        """The result.

        Raises
        ------
        KeyError
            It was cleared.
        """
        if not self.valid:
            raise KeyError("No value stored.")
        return self.value

    def clear(self) -> None:
        """Drop the result."""
        self.valid = False
        self.value = None

    def __repr__(self) -> str:
        return f"NotMemorizedResult({self.value!r})" if self.valid else "NotMemorizedResult with no value"
