"""Which function a cached value belongs to: where it is found (its folder), and what it does (its generation).

    folder       module and qualified name, readable: "pkg/module/Class.method"
    generation   the digest of the function's normalised code, what it closes over, `version`, and `depends`

An edit that can change a result starts a new generation beside the old one, which stays until it is evicted: undoing
the edit finds it again, two branches of a project can share a cache, and two scripts whose `__main__` has a function of
the same name do not disturb each other. A notebook's function has the same identity in whichever cell it is run.
"""

from __future__ import annotations

import inspect
import os
import re
import types
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from fastpar.errors import JobLibCollisionWarning, UnhashableError
from fastpar.fingerprint import adopt_fingerprint, code_fingerprint, file_fingerprint
from fastpar.hashing import cell_values
from fastpar.hashing import hash as digest_of

__all__ = ["Identity", "function_folder", "owner_and_function", "underlying"]

_UNSAFE = re.compile(r"[^A-Za-z0-9_.\-]+")


def function_folder(function: Callable[..., Any]) -> str:
    """Where the entries of a function lie, relative to the store: module and qualified name."""
    plain = underlying(function)
    module = getattr(plain, "__module__", None) or "unknown"
    name = getattr(plain, "__qualname__", type(plain).__qualname__)
    return "/".join(_safe(part) for part in [*module.split("."), name])


def _safe(part: str) -> str:
    part = _UNSAFE.sub("_", part).lstrip(".") or "_"
    return part if len(part) <= 100 else f"{part[:70]}-{digest_of(part)[2:18]}"


def underlying(function: Callable[..., Any]) -> Any:
    """The function within partials and bound methods."""
    while True:
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, types.MethodType):
            function = function.__func__
        else:
            return function


def owner_and_function(function: Callable[..., Any]) -> tuple[tuple[Any, ...], Callable[..., Any]]:
    """The object that a callable calls with as its first argument (a 1-tuple, or empty), and what it calls.

    For a bound method and for an object with a `__call__` of its own, whose value is then part of each call.
    """
    if isinstance(function, types.MethodType):
        return (function.__self__,), function.__func__
    call = inspect.getattr_static(type(function), "__call__", None)
    if isinstance(call, types.FunctionType):
        return (function,), call
    return (), function


class Identity:
    """What a function is, as far as its cache is concerned.

    Parameters
    ----------
    function : callable
    version : object, optional
        Part of the identity: raise it to start anew.
    depends : iterable of functions, modules and paths
        What else the result depends on: code of functions, source of modules, content of files.
    """

    def __init__(self, function: Callable[..., Any], version: Any, depends: Iterable[Any]) -> None:
        self._function = function
        self._version = version
        self._depends = tuple(depends)
        self.folder = function_folder(function)
        self._closes_over = isinstance(function, types.FunctionType) and bool(function.__closure__)
        self._is_fixed = not self._depends and not self._closes_over
        self._generation: str | None = None

    @property
    def generation(self) -> str:
        """The folder of this generation. Computed once, unless it depends on something that can change."""
        if self._generation is not None:
            return self._generation
        made = f"{self.folder}/{digest_of(self.parts())[2:18]}"
        if self._is_fixed:
            self._generation = made
        return made

    def parts(self) -> dict[str, str]:
        """What makes the generation, by name, each as a digest: `explain` compares them."""
        parts = {"code": self._code(), "version": digest_of(self._version)}
        if self._closes_over:
            parts["closure"] = self._closure()
        for thing in self._depends:
            name, made = _dependency(thing)
            parts[name] = made
        return parts

    def _functions(self) -> list[Any]:
        return [underlying(getattr(thing, "func", thing)) for thing in (self._function, *self._depends)]

    def fingerprints(self) -> list[str | None]:
        """Of the functions it consists of, for `adopt` in another process."""
        return [code_fingerprint(it) if isinstance(it, types.FunctionType) else None for it in self._functions()]

    def adopt(self, fingerprints: list[str | None]) -> None:
        """Let functions that were sent here be what they are in the process that has their source."""
        for function, made in zip(self._functions(), fingerprints, strict=True):
            if made is not None and isinstance(function, types.FunctionType):
                adopt_fingerprint(function, made)

    def _code(self) -> str:
        function = underlying(self._function)
        if isinstance(function, types.FunctionType):
            own = code_fingerprint(function)
        else:
            own = _class_code(function)
        if isinstance(self._function, partial):
            return digest_of([own, self._function.args, self._function.keywords])
        return own

    def _closure(self) -> str:
        assert isinstance(self._function, types.FunctionType)
        try:
            return digest_of(cell_values(self._function))
        except UnhashableError as error:
            warnings.warn(
                f"{self._function.__qualname__} closes over something without a value ({error}): functions of the same "
                "name and code that close over other things share its cache.",
                JobLibCollisionWarning,
                stacklevel=6,
            )
            return "unknown"


def _class_code(thing: Any) -> str:
    """Of a callable that is no Python function: the code of its `__call__` if that is Python, else only its name."""
    call = inspect.getattr_static(type(thing), "__call__", None)
    if isinstance(call, types.FunctionType):
        return code_fingerprint(call)
    return digest_of(thing)


def _dependency(thing: Any) -> tuple[str, str]:
    if isinstance(thing, types.ModuleType):
        return f"module {thing.__name__}", file_fingerprint(getattr(thing, "__file__", None) or "")
    if isinstance(thing, (str, os.PathLike)):
        return f"file {os.fspath(thing)}", file_fingerprint(os.fspath(thing))
    if callable(thing):
        return f"function {getattr(thing, '__qualname__', repr(thing))}", digest_of(getattr(thing, "func", thing))
    raise TypeError(f"depends holds functions, modules and paths of files, not {thing!r}.")
