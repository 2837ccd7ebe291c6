"""Which function a cached value belongs to: where it is found (its folder), and what it does (its generation).

    folder       module and qualified name, readable: "pkg/module/Class.method"; a script's also by where the script is
    generation   the digest of the function's normalised code, what it closes over and brings along, `version`,
                 `depends`, and which of its arguments count

An edit that can change a result starts a new generation beside the old one, which stays until it is evicted: undoing
the edit finds it again, and two branches of a project can share a cache. Two scripts do not disturb each other, though
the `__main__` of both has a function of the same name and text, which calls other helpers. A notebook's function has
the same identity in whichever cell it is run.
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
from fastpar.fingerprint import adopt_fingerprint, code_fingerprint
from fastpar.hashing import cell_values
from fastpar.hashing import hash as digest_of
from fastpar.memory.dependencies import check_dependency, describe_dependency
from fastpar.wrapping import MAINS

__all__ = ["Identity", "function_folder", "owner_and_function", "underlying"]

_UNSAFE = re.compile(r"[^A-Za-z0-9_.\-]+")


def function_folder(function: Callable[..., Any]) -> str:
    """Where the entries of a function lie, relative to the store: module and qualified name."""
    plain = underlying(function)
    module = getattr(plain, "__module__", None) or "unknown"
    name = getattr(plain, "__qualname__", type(plain).__qualname__)
    parts = ["__main__", *_script(plain)] if module in MAINS else module.split(".")
    return "/".join(_safe(part) for part in [*parts, name])


def _script(function: Any) -> list[str]:
    """The script that a function of `__main__` was defined in; nothing for a notebook or a prompt."""
    code = getattr(_python_function(function), "__code__", None)
    path = "" if code is None else code.co_filename
    in_cell = os.path.basename(os.path.dirname(path)).startswith("ipykernel_")  # a file while it is being debugged
    if in_cell or not os.path.isfile(path):
        return []
    path = os.path.realpath(path)
    return [f"{os.path.splitext(os.path.basename(path))[0]}-{digest_of(path)[2:10]}"]


def _safe(part: str) -> str:
    part = _UNSAFE.sub("_", part).lstrip(".") or "_"
    return part if len(part) <= 100 else f"{part[:70]}-{digest_of(part)[2:18]}"


def underlying(function: Callable[..., Any]) -> Any:
    """The innermost function within partials, bound methods, and compiled wrappers such as lru_cache's and numba's."""
    inner: Any = function
    while inner is not None:
        function, inner = inner, _within(inner)
    return function


def _within(function: Any) -> Any:
    """What a callable calls, where it is no more than a way to call that; else None."""
    if isinstance(function, partial):
        return function.func
    if isinstance(function, types.MethodType):
        return function.__func__
    if isinstance(function, type) or _python_function(function) is not None:
        return None
    return getattr(function, "py_func", getattr(function, "__wrapped__", None))


def _python_function(function: Any) -> types.FunctionType | None:
    """A Python function itself, or the one that is the `__call__` of an object's class."""
    if isinstance(function, types.FunctionType):
        return function
    call = inspect.getattr_static(type(function), "__call__", None)
    return call if isinstance(call, types.FunctionType) else None


def owner_and_function(function: Callable[..., Any]) -> tuple[tuple[Any, ...], Callable[..., Any]]:
    """The object that a callable calls with as its first argument (a 1-tuple, or empty), and what it calls.

    For a bound method and for an object with a `__call__` of its own, whose value is then part of each call.
    """
    if isinstance(function, types.MethodType):
        return (function.__self__,), function.__func__
    call = _python_function(function)
    return (() if call is None or call is function else (function,)), call or function


def _brought_along(function: Callable[..., Any]) -> list[Any]:
    """Values that a callable holds and calls with: arguments of partials, and objects bound within them.

    Not the object that `owner_and_function` returns.
    """
    found: list[Any] = []
    inner: Any = function
    while inner is not None:
        if isinstance(inner, partial):
            found += [inner.args, inner.keywords]
        elif inner is not function:
            found += owner_and_function(inner)[0]
        inner = _within(inner)
    return found


class Identity:
    """What a function is, as far as its cache is concerned.

    Parameters
    ----------
    function : callable
    version : object, optional
        Part of the identity: raise it to start anew.
    depends : iterable of functions, classes, modules and paths
        What else the result depends on: code of functions and classes, source of modules, content of files.
    ignore : iterable of str
        Parameters that do not count: a result is not used where they do.
    key : callable, optional
        What makes the digest of a call in place of its arguments.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        version: Any = None,
        depends: Iterable[Any] = (),
        ignore: Iterable[str] = (),
        key: Callable[..., Any] | None = None,
    ) -> None:
        self._function = function
        self._version = version
        self._depends = tuple(depends)
        for thing in self._depends:
            check_dependency(thing)
        self._asked = {"ignore=": sorted(ignore), "key=": key}
        self.folder = function_folder(function)
        self._plain = _python_function(underlying(function))
        self._closes_over = self._plain is not None and bool(self._plain.__closure__)
        self._brings = bool(_brought_along(function))
        self._is_fixed = not (self._depends or self._closes_over or self._brings)
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
        parts |= {name: digest_of(asked) for name, asked in self._asked.items() if asked}
        if self._closes_over:
            parts["closure"] = self._closure()
        if self._brings:
            parts["bound arguments"] = digest_of(_brought_along(self._function))
        return parts | dict(describe_dependency(thing) for thing in self._depends)

    def _functions(self) -> list[Any]:
        return [underlying(thing) for thing in (self._function, *self._depends)]

    def origin(self) -> tuple[str, list[str | None]]:
        """The folder, and fingerprints of the functions it consists of, for `adopt` in another process."""
        functions = self._functions()
        return self.folder, [code_fingerprint(it) if isinstance(it, types.FunctionType) else None for it in functions]

    def adopt(self, origin: tuple[str, list[str | None]]) -> None:
        """Let functions that were sent here be what they are in the process that has their source."""
        self.folder, fingerprints = origin
        for function, made in zip(self._functions(), fingerprints, strict=True):
            if made is not None and isinstance(function, types.FunctionType):
                adopt_fingerprint(function, made)

    def _code(self) -> str:
        """Of a callable without Python code: only its name."""
        return digest_of(underlying(self._function)) if self._plain is None else code_fingerprint(self._plain)

    def _closure(self) -> str:
        assert self._plain is not None
        try:
            return digest_of(cell_values(self._plain))
        except UnhashableError as error:
            warnings.warn(
                f"{self._plain.__qualname__} closes over something without a value ({error}): functions of the same "
                "name and code that close over other things share its cache.",
                JobLibCollisionWarning,
                stacklevel=6,
            )
            return "unknown"
