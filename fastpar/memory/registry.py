"""Stores by name. Written by `register_store_backend` only, in one assignment; any thread may read it."""

from __future__ import annotations

import os
from typing import Any

from fastpar.memory.store import Store

__all__ = ["open_store", "register_store_backend"]

#: Name -> class. The two of our own are imported when first used.
_registered: dict[str, Any] = {}

BUILT_IN = ("local", "fsspec")


def register_store_backend(backend_name: str, backend: Any) -> None:
    """Make a store available as ``Memory(backend=backend_name)``.

    Parameters
    ----------
    backend_name : str
        Its name; a name already taken is given to the new store.
    backend : class
        A subclass of `fastpar.memory.Store`, or of `StoreBackendBase` with joblib's methods.

    Raises
    ------
    ValueError
        The name is no string.
    """
    if not isinstance(backend_name, str):
        raise ValueError(f"Store backend name should be a string, '{backend_name}' given.")
    _registered[backend_name] = backend


def open_store(backend: str, location: Any, options: dict[str, Any]) -> Store:
    """The store at a location. A location with a protocol ("s3://...") is opened through fsspec.

    Raises
    ------
    TypeError
        The location is no path, or no store has that name.
    """
    made: Any = _registered.get(backend)
    if made is None:
        if backend not in BUILT_IN:
            raise TypeError(f"Unknown location {location!r} or backend {backend!r}: known are {_names()}.")
        if not isinstance(location, (str, os.PathLike)):
            raise TypeError(f"The location of a cache is a path, not {location!r}.")
        made = _built_in("fsspec" if "://" in str(location) else backend)
    if isinstance(made, type) and issubclass(made, Store):
        return made(os.fspath(location), options)
    from fastpar.memory.foreign import ForeignStore

    return ForeignStore(made, location, options)


def _built_in(backend: str) -> Any:
    if backend == "fsspec":
        from fastpar.memory.remote import FsspecStore

        return FsspecStore
    from fastpar.memory.local import LocalStore

    return LocalStore


def _names() -> str:
    return ", ".join(sorted({*_registered, *BUILT_IN}))
