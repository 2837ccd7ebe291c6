"""What our pickles call to make arrays, dtypes and NumPy scalars.

The functions in `REBUILDERS` are named in files: renaming one breaks old files. A loader puts its own in the place of
`array`, which is where memory mapping and byte order come in. Imported when a file holds something of NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastpar.errors import CorruptFileError

__all__ = ["REBUILDERS"]


def dtype(spec: Any) -> Any:
    """The dtype that `dtype_spec` described."""
    if isinstance(spec, dict):
        parts: Any = {**spec, "formats": [dtype(part) for part in spec["formats"]]}
        is_record = parts.pop("record", False)
        return np.dtype((np.record, parts) if is_record else parts)
    if isinstance(spec, tuple):
        spec = (dtype(spec[0]), spec[1])
    return np.dtype(spec)


def array(buffer: Any, spec: Any, shape: Any, order: Any, kind: Any = None, state: Any = None) -> Any:
    """An array over `buffer`, without a copy."""
    made = np.ndarray(shape, dtype(spec), buffer, order=order)
    return made if kind is None else subclass(made, kind, state)


def subclass(plain: Any, kind: Any, state: Any) -> Any:
    """The array as an instance of its class, with its attributes."""
    made = plain.view(kind)
    if state:
        vars(made).update(state)
    return made


def is_fortran(values: Any) -> bool:
    return bool(values.flags.f_contiguous and not values.flags.c_contiguous)


def flat(values: Any) -> Any:
    """The members in memory order; a view of an array that is contiguous."""
    return (values.T if is_fortran(values) else values).reshape(-1)


def empty_objects(spec: Any, shape: Any, kind: Any, state: Any, order: Any = "C") -> Any:
    made = np.empty(shape, dtype(spec), order=order)
    return made if kind is None else subclass(made, kind, state)


def fill_objects(made: Any, members: list[Any]) -> None:
    places = flat(made.view(np.ndarray))
    for position, member in enumerate(members):
        places[position] = member


def masked(data: Any, mask: Any, fill: Any, hard: bool, info: Any) -> Any:
    made: Any = np.ma.MaskedArray(data, np.ma.nomask if mask is None else mask, hard_mask=hard)
    if fill is not None:
        made.fill_value = fill[()]
    if info:
        made._optinfo.update(info)
    return made


def scalar(spec: Any, block: bytes) -> Any:
    kind = dtype(spec)
    if len(block) != kind.itemsize:
        raise CorruptFileError(f"The file has a {kind} of {len(block)} bytes.")
    return np.ndarray((), kind, bytearray(block))[()]


REBUILDERS = {function.__name__: function for function in (array, dtype, scalar, masked, empty_objects, fill_objects)}
