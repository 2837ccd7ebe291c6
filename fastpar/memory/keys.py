"""`key=`: what identifies a call in place of its arguments, and how that function is given them.

Each way to write a call gives the key function the same: the call is bound to the signature of the cached function, and
defaults are filled in. By name if the key function has those names; else in order, which serves `len` and the like.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["KeyFunction"]

_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_MANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class KeyFunction:
    """A key function and the signature of the function whose calls it identifies. Immutable.

    Parameters
    ----------
    key : callable
    signature : inspect.Signature or None
        Of the cached function; None if it has none: then arguments are passed on as they come.
    owner : tuple
        The object that a bound method brings along, which is passed only where `key` has its name.
    """

    def __init__(self, key: Callable[..., Any], signature: inspect.Signature | None, owner: tuple[Any, ...]) -> None:
        self._key = key
        self._signature = signature
        self._owner = owner
        taken = _parameters(key)
        kinds = {it.kind for it in taken}
        self._names = frozenset(it.name for it in taken if it.kind in _BY_NAME)
        self._takes_all_names = inspect.Parameter.VAR_KEYWORD in kinds
        takes_all_places = inspect.Parameter.VAR_POSITIONAL in kinds
        self._n_places = sys.maxsize if takes_all_places else len([it for it in taken if it.kind in _BY_PLACE])
        is_nameless = not taken or takes_all_places or inspect.Parameter.POSITIONAL_ONLY in kinds
        self._is_by_name = signature is not None and not is_nameless and self._has_names_of(signature, taken)

    def _has_names_of(self, signature: inspect.Signature, taken: list[inspect.Parameter]) -> bool:
        """Whether `key` asks for no other names, and takes all that each call has."""
        given = list(signature.parameters.values())[len(self._owner) :]
        always = _required(given) if not self._takes_all_names else set()
        return _required(taken) <= set(signature.parameters) and always <= self._names

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What identifies this call.

        Raises
        ------
        TypeError
            The cached function, or the key function, cannot be called so.
        """
        if self._signature is None:
            return self._key(*args, **kwargs)
        bound = self._signature.bind(*self._owner, *args, **kwargs)
        given = set(list(bound.arguments)[len(self._owner) :])
        bound.apply_defaults()
        placed, named, more = self._parts(bound, given)
        return self._key(*placed, **named, **more)

    def _parts(
        self, bound: inspect.BoundArguments, given: set[str]
    ) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
        """What to pass in order, by name, and by the names of the caller's own. Defaults only where there is room."""
        places: dict[str, Any] = {}
        named: dict[str, Any] = {}
        more: dict[str, Any] = {}
        rest: tuple[Any, ...] = ()
        for name, value in bound.arguments.items():
            kind = bound.signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                more = value
            elif not self._is_by_name and kind is inspect.Parameter.VAR_POSITIONAL:
                rest = value
            elif not self._is_by_name and kind in _BY_PLACE:
                places[name] = value
            elif name in given or name in self._names or self._takes_all_names:
                named[name] = value
        names = list(places)[len(self._owner) :]
        n_given = len(names) if rest else max((i + 1 for i, name in enumerate(names) if name in given), default=0)
        n_placed = self._n_places if self._takes_all_names and not rest else max(n_given, self._n_places)
        if self._takes_all_names:
            named |= {name: places[name] for name in names[n_placed:]}
        return [*(places[name] for name in names[:n_placed]), *rest], named, more


def _required(parameters: list[inspect.Parameter]) -> set[str]:
    return {it.name for it in parameters if it.default is it.empty and it.kind not in _MANY}


def _parameters(key: Callable[..., Any]) -> list[inspect.Parameter]:
    """Of a function written in C there may be none to see."""
    try:
        return list(inspect.signature(key).parameters.values())
    except (ValueError, TypeError):
        return []
