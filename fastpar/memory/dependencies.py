"""What a cached function depends on beside its own code, as `depends=` names it: each thing has a name and a digest."""

from __future__ import annotations

import inspect
import os
import sys
import types
from functools import cached_property
from typing import Any

from fastpar.errors import UnhashableError
from fastpar.fingerprint import file_fingerprint
from fastpar.hashing import hash as digest_of
from fastpar.hashing import name_of

__all__ = ["check_dependency", "describe_dependency"]

#: Attributes of a class that tell where it stands and not what it does.
_NOISE = frozenset(
    {"__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__firstlineno__", "__static_attributes__"}
)


def check_dependency(thing: Any) -> None:
    """Refuse what would not be noticed when it changes.

    Raises
    ------
    TypeError
        It is none of the kinds.
    IsADirectoryError
        It is the path of a folder.
    """
    if isinstance(thing, (str, os.PathLike)):
        if os.path.isdir(thing):
            raise IsADirectoryError(f"depends names a folder, {os.fspath(thing)!r}: name the files in it that count.")
    elif not (isinstance(thing, types.ModuleType) or callable(thing)):
        raise TypeError(f"depends holds functions, classes, modules and paths of files, not {thing!r}.")


def describe_dependency(thing: Any) -> tuple[str, str]:
    """Its name, and the digest of what it is now."""
    if isinstance(thing, types.ModuleType):
        return f"module {thing.__name__}", file_fingerprint(getattr(thing, "__file__", None) or "")
    if isinstance(thing, (str, os.PathLike)):
        return f"file {os.fspath(thing)}", file_fingerprint(os.fspath(thing))
    thing = _as_it_is_now(thing)
    if isinstance(thing, type):
        return f"class {name_of(thing)}", digest_of(_members(thing))
    return f"function {getattr(thing, '__qualname__', type(thing).__qualname__)}", digest_of(thing)


def _as_it_is_now(thing: Any) -> Any:
    """What stands under the name of a function or class now: a cell of a notebook may have been run again."""
    found: Any = sys.modules.get(getattr(thing, "__module__", None) or "")
    for part in getattr(thing, "__qualname__", "<>").split("."):
        found = inspect.getattr_static(found, part, None)
    if hasattr(found, "check_call_in_cache"):  # it has a cache of its own
        found = found.func
    return found if type(found) is type(thing) else thing


def _members(kind: type) -> dict[str, Any]:
    """The attributes of a class and of those of its bases that come from the same package, by digest."""
    package = kind.__module__.partition(".")[0]
    return {
        f"{base.__qualname__}.{name}": _digest_of_member(member)
        for base in kind.__mro__
        if base.__module__.partition(".")[0] == package
        for name, member in vars(base).items()
        if name not in _NOISE
    }


def _digest_of_member(member: Any) -> str:
    if isinstance(member, (staticmethod, classmethod)):
        member = member.__func__
    elif isinstance(member, property):
        member = (member.fget, member.fset, member.fdel)
    elif isinstance(member, cached_property):
        member = member.func
    try:
        return digest_of(member)
    except UnhashableError:  # a lock, what abc keeps, ...: not what the class does
        return type(member).__qualname__
