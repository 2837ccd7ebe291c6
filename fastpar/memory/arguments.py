"""The arguments of a call, in one form whichever way they were given: f(1), f(x=1) and a default of 1 are one call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from fastpar.errors import UnhashableError
from fastpar.hashing import hash as digest_of

__all__ = ["Arguments", "short_repr"]

_PLAIN = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Arguments:
    """How the calls of one function are keyed. Immutable.

    Parameters
    ----------
    function : callable
        Its signature says how arguments are given; a callable without one takes them as they come.
    ignore : iterable of str
        Parameters that do not count. "*" and "**" are the additional ones.

    Attributes
    ----------
    signature : inspect.Signature or None
        None for a callable without one.
    """

    def __init__(self, function: Callable[..., Any], ignore: Iterable[str]) -> None:
        self._ignore = frozenset(ignore)
        self._name = getattr(function, "__name__", repr(function))
        try:
            self.signature: inspect.Signature | None = inspect.signature(function)
        except (ValueError, TypeError):
            self.signature = None
        self._check_ignore()
        parameters = [] if self.signature is None else list(self.signature.parameters.values())
        plain = self.signature is not None and all(parameter.kind in _PLAIN for parameter in parameters)
        # A call that gives every parameter by position needs no binding, which costs 2 us.
        self._n_plain = len(parameters) if plain and not self._ignore else -1

    def _check_ignore(self) -> None:
        if self.signature is None:
            if self._ignore:
                raise ValueError(f"{self._name} has no signature, so no argument of it can be ignored.")
            return
        kinds = {p.kind for p in self.signature.parameters.values()}
        known = set(self.signature.parameters)
        known |= {"*"} if inspect.Parameter.VAR_POSITIONAL in kinds else set()
        known |= {"**"} if inspect.Parameter.VAR_KEYWORD in kinds else set()
        for name in self._ignore - known:
            raise ValueError(
                f"Ignore list: argument '{name}' is not defined for function {self._name}: {sorted(known)}."
            )

    def digest(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, coerce_mmap: bool) -> str:
        """The digest of a call.

        Raises
        ------
        TypeError
            The function cannot be called so.
        UnhashableError
            An argument has no value; the message names it.
        """
        values = args if len(args) == self._n_plain and not kwargs else self.bind(args, kwargs)
        try:
            return digest_of(values, coerce_mmap=coerce_mmap)
        except UnhashableError as error:
            raise self._explained(error, args, kwargs) from error.__cause__

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The values of the parameters that count, in the order of the signature."""
        return tuple(self.named(args, kwargs).values())

    def named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The same with the parameters' names."""
        if self.signature is None:
            return {"*": args, "**": kwargs}
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        if not self._ignore:
            return bound.arguments
        return {
            name: value
            for name, value in bound.arguments.items()
            if name not in self._ignore and _STARS.get(self.signature.parameters[name].kind) not in self._ignore
        }

    def _explained(self, error: UnhashableError, args: tuple[Any, ...], kwargs: dict[str, Any]) -> UnhashableError:
        for name, value in self.named(args, kwargs).items():
            try:
                digest_of(value)
            except UnhashableError as inner:
                return UnhashableError(
                    f"Argument {name!r} of {self._name} cannot be hashed: {inner}. "
                    f"Leave it out with ignore=[{name!r}] or say what identifies a call with key=."
                )
        return error

    def shown(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, str]:
        """The arguments as short text, for people."""
        try:
            return {name: short_repr(value) for name, value in self.named(args, kwargs).items()}
        except TypeError:
            return {"*": short_repr(args), "**": short_repr(kwargs)}


_STARS: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def short_repr(value: Any, depth: int = 2) -> str:
    """Text for a value, in bounded time: large or foreign objects are named, not shown."""
    kind = type(value)
    if kind in (int, float, complex, bool, type(None)):
        return repr(value) if kind is not int or value.bit_length() < 1024 else f"<int of {value.bit_length()} bits>"
    if kind in (str, bytes):
        return repr(value) if len(value) <= 100 else f"{value[:100]!r}..."
    if kind in (list, tuple, set, frozenset) and depth:
        return _short_members(value, kind, depth)
    if kind is dict and depth:
        inside = ", ".join(f"{short_repr(k, 0)}: {short_repr(v, depth - 1)}" for k, v in list(value.items())[:6])
        return f"{{{inside}{', ...' if len(value) > 6 else ''}}}"
    if getattr(kind, "__module__", "").partition(".")[0] == "numpy" and getattr(value, "shape", None) is not None:
        return f"{kind.__name__}(shape={value.shape}, dtype={value.dtype})"
    return f"<{kind.__qualname__}>" if not callable(value) else getattr(value, "__qualname__", f"<{kind.__qualname__}>")


def _short_members(value: Any, kind: type, depth: int) -> str:
    members: list[str] = []
    for member in value:
        if len(members) == 6:
            members.append("...")
            break
        members.append(short_repr(member, depth - 1))
    inside = ", ".join(members)
    if kind is tuple:
        return f"({inside},)" if len(members) == 1 else f"({inside})"
    return f"[{inside}]" if kind is list else f"{kind.__name__}({{{inside}}})"
