"""`Memory`: function results kept on disk.

    _memory      Memory, the public face             memorized, asynchronous   functions with a cache
    identity     which function, which generation    arguments                 which call
    dependencies what else counts                    keys                      `key=` in place of arguments
    entries      one result, to and from bytes       flights                   one computation, many callers
    store        what a cache needs of a store       local, remote, foreign    stores; registry: by name
    limits       size and age                        reasons, stats, checks    what happened, and why

State: a function with a cache holds counters only; everything else is in the store. Imports run downward in this list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastpar.errors import JobLibCollisionWarning, MemoryWriteWarning
from fastpar.memory._memory import Memory, expires_after
from fastpar.memory.registry import register_store_backend
from fastpar.memory.store import Store

if TYPE_CHECKING:
    from fastpar.memory.foreign import StoreBackendBase
    from fastpar.memory.memorized import MemorizedFunc, NotMemorizedFunc
    from fastpar.memory.results import MemorizedResult, NotMemorizedResult

__all__ = [
    "JobLibCollisionWarning",
    "MemorizedFunc",
    "MemorizedResult",
    "Memory",
    "MemoryWriteWarning",
    "NotMemorizedFunc",
    "NotMemorizedResult",
    "Store",
    "StoreBackendBase",
    "expires_after",
    "register_store_backend",
]

#: Names whose modules are heavy to import, and where they are.
_LATE = {
    "MemorizedFunc": "memorized",
    "MemorizedResult": "results",
    "NotMemorizedFunc": "memorized",
    "NotMemorizedResult": "results",
    "StoreBackendBase": "foreign",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"fastpar.memory.{_LATE[name]}"), name)
