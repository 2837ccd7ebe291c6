"""What the workers of a call know by a number: its functions, and large text and bytes that come again.

Each is pickled once, found by its identity, and gone when it dies: workers are told with their next batch. A constant
is known from its second coming on, since most come once; and so is a callable that is no function, since some libraries
make one for each task. Mutable arguments have no number: the source may change a list
between two tasks, so it is pickled for each batch; a closure or `functools.partial` over it, and a method or other
callable that it changes, are sent once.

Owner: the call's thread; but functions may die in any.
"""

from __future__ import annotations

import weakref
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, MethodWrapperType

from fastpar.engines.processes import arguments
from fastpar.engines.processes.packing import OUT_OF_BAND_BYTES
from fastpar.engines.processes.pickling import dumps

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    import _pickle as pickle
    from collections.abc import Callable
    from typing import Any

    from fastpar.engines.processes.arguments import Arrays

    Source = tuple[bytes | None, list[pickle.PickleBuffer]]

#: Things of types that cannot tell when they die: so many are kept.
MAX_STRONG = 8


#: Callables that have a number from the first: what they hold may be large, and one of them is for many tasks.
FUNCTIONS = frozenset({FunctionType, BuiltinFunctionType, MethodType, MethodWrapperType, partial, type})


class Entry:
    """A thing with a number.

    Attributes
    ----------
    owner : weakref.ref or object
        The thing, or the object that it is a method of: a method is made anew for each task.
    method : function or None
        Which method.
    number : int
    source : tuple
        Its pickle, None where that is in the segment of this number; and the buffers beside it.
    needs : dict
        Numbers of the segments that the pickle refers to: whoever gets the one gets the others.
    """

    __slots__ = ("method", "needs", "number", "owner", "source")

    def __init__(self, owner: Any, method: Any, number: int) -> None:
        self.owner = owner
        self.method = method
        self.number = number
        self.source: Source = None, []
        self.needs: dict[int, None] = {}

    def is_of(self, owner: object, method: object) -> bool:
        """Whether it is still the thing that it was made for: ids are used again."""
        return _referent(self.owner) is owner and self.method is method


def _referent(kept: Any) -> Any:
    return kept() if type(kept) is weakref.ref else kept


class Recalled:
    """Stands for a function or constant in a pickle."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        return arguments.recall, (self.number,)


class Repertoire:
    """See the module's docstring.

    Parameters
    ----------
    arrays : Arrays
        The call's, which counts the numbers and lists those that are gone.
    """

    def __init__(self, arrays: Arrays) -> None:
        self._arrays = arrays
        self._entries: dict[Any, Entry] = {}
        self._strong: dict[Any, None] = {}  # keys of entries that do not end by themselves, the oldest first
        self._recent: list[Any] = []  # what came once, lately; weakly where that can be

    def comes_again(self, thing: Any) -> bool:
        """Whether something may have been here before, a moment ago; it is remembered for the next time."""
        if id(thing) in self._entries or any(_referent(each) is thing for each in self._recent):
            return True
        try:
            self._recent.append(weakref.ref(thing))
        except TypeError:
            self._recent.append(thing)
        del self._recent[:-MAX_STRONG]
        return False

    def find(self, thing: Any) -> Entry:
        """The entry of a function or constant."""
        if type(thing) is MethodType:
            owner, method = thing.__self__, thing.__func__
            key: Any = id(owner), id(method)
        else:
            owner, method, key = thing, None, id(thing)
        entry = self._entries.get(key)
        if entry is None or not entry.is_of(owner, method):
            number = next(self._arrays.numbers)
            made = Entry(owner, method, number)
            self._pickle(thing, made)
            made.owner = self._refer(key, owner, number)
            entry = self._entries[key] = made
        return entry

    def renew(self, thing: Any, entry: Entry) -> None:
        """Have all that the pickle of an entry refers to: an array that was made for it alone has gone."""
        if not entry.needs.keys() <= self._arrays.segments.keys():
            self._pickle(thing, entry)

    def _pickle(self, thing: Any, entry: Entry) -> None:
        arrays = self._arrays
        outer, arrays.mentioned = arrays.mentioned, {}
        try:
            pickled, buffers = dumps(thing, arrays.reducers)
            entry.needs = arrays.mentioned
        finally:
            arrays.mentioned = outer
        if arrays.hold(entry.number, pickled):
            entry.needs[entry.number] = None
            entry.source = None, buffers
        else:
            entry.source = pickled, buffers

    def _refer(self, key: Any, owner: Any, number: int) -> Any:
        entries, gone = self._entries, self._arrays.gone

        def drop(_: object) -> None:
            entries.pop(key, None)
            gone.append(number)

        try:
            return weakref.ref(owner, drop)
        except TypeError:
            self._strong[key] = None
            if len(self._strong) > MAX_STRONG:
                oldest = next(iter(self._strong))
                del self._strong[oldest]
                gone.append(self._entries.pop(oldest).number)
            return owner

    def lighten(self, value: Any, mention: Callable[[Any], int]) -> Any:
        """An argument, or what stands for it if it is large and has come before.

        Parameters
        ----------
        value : object
        mention : callable
            Called with a constant whose number is used.
        """
        if type(value) not in (str, bytes) or len(value) < OUT_OF_BAND_BYTES:
            return value
        return Recalled(mention(value)) if self.comes_again(value) else value

    def close(self) -> None:
        """Keep nothing."""
        self._entries.clear()
        self._strong.clear()
        self._recent.clear()
