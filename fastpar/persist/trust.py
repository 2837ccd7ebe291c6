"""Which globals a pickle may name when its file is not trusted, and what files call things that have moved since.

`ALLOWED` is a list of what cannot do harm when called with any arguments: constructors of numbers, dates and
containers. It holds no function that takes a function, and no class whose instances run code of the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from fastpar.errors import UntrustedFileError

__all__ = ["Named", "Sealed", "find", "moved"]

ALLOWED = frozenset(
    {
        ("builtins", "complex"),
        ("builtins", "range"),
        ("builtins", "slice"),
        ("collections", "OrderedDict"),
        ("collections", "deque"),
        ("datetime", "date"),
        ("datetime", "datetime"),
        ("datetime", "time"),
        ("datetime", "timedelta"),
        ("datetime", "timezone"),
        ("decimal", "Decimal"),
        ("uuid", "UUID"),
    }
)


#: Classes that say what an array is. A pickle may name them, for our functions, but neither call them nor set the state
#: of their instances: NumPy believes what it is told there, and crashes.
NAMED = frozenset(
    {
        ("numpy", "ndarray"),
        ("numpy", "matrix"),
        ("numpy", "recarray"),
        ("numpy.rec", "recarray"),
        ("numpy", "record"),
    }
)


def find(module: str, name: str, found: Callable[[str, str], Any]) -> Any:
    """`found(module, name)` if that is allowed, or what stands for it.

    Raises
    ------
    UntrustedFileError
        It is not allowed.
    """
    if (module, name) == ("fractions", "Fraction"):
        return Sealed(_fraction)
    if (module, name) in NAMED:
        return Named(found(module, name))
    if (module, name) not in ALLOWED:
        raise UntrustedFileError(
            f"The file names {module}.{name}, which load(trusted=False) refuses: it takes arrays, numbers, strings, "
            "dates and containers. Load it without trusted=False if you know who wrote it."
        )
    return found(module, name)


def _fraction(*parts: Any) -> Any:
    """What pickle writes of a Fraction, and not "1e999999999", whose digits nobody has the memory for."""
    from fractions import Fraction

    if not all(type(part) is int or (type(part) is str and _FRACTION.fullmatch(part)) for part in parts):
        raise UntrustedFileError(f"The file describes a Fraction by {parts!r:.100}, which load(trusted=False) refuses.")
    return Fraction(*parts)


_FRACTION = re.compile(r"-?[0-9]+(/[0-9]+)?")


class Named:
    """A class in the hands of a pickle that may pass it to a `Sealed` function, and nothing else."""

    __slots__ = ("_thing",)

    def __init__(self, thing: Any) -> None:
        self._thing = thing

    def __setstate__(self, state: Any) -> None:
        raise UntrustedFileError("The file tries to change a class.")

    @staticmethod
    def unwrapped(part: Any) -> Any:
        return part._thing if type(part) is Named else part


class Sealed:
    """A function that a pickle may call and nothing else: not read, not changed."""

    __slots__ = ("__call",)

    def __init__(self, function: Any) -> None:
        self.__call = function

    def __call__(self, *args: Any) -> Any:
        return self.__call(*map(Named.unwrapped, args))

    def __reduce__(self) -> Any:
        raise TypeError("a sealed function cannot be pickled")

    def __setstate__(self, state: Any) -> None:
        raise UntrustedFileError("The file tries to change a function of fastpar.")


def moved(module: str) -> str:
    """The module that holds now what a file of another NumPy or Python calls by an older or newer name."""
    if module.startswith(("numpy.core", "numpy._core")):
        import numpy

        old, new = "numpy.core", "numpy._core"
        is_new = int(numpy.__version__.partition(".")[0]) >= 2
        return module.replace(old, new, 1) if is_new else module.replace(new, old, 1)
    return {"pathlib._local": "pathlib"}.get(module, module)
