"""How arrays, dtypes and NumPy scalars are pickled: in built-in types that no NumPy version changes.

A reducer takes an object and returns what `__reduce_ex__` would, calling functions of `rebuild.py`, or NotImplemented.
Imported once NumPy is.
"""

from __future__ import annotations

from pickle import PickleBuffer
from typing import Any

import numpy as np

from fastpar.persist import rebuild
from fastpar.persist.writer import ArrayToken

__all__ = ["reducer_for"]


def reducer_for(kind: type) -> Any:
    """The function that reduces objects of this type, or None: they reduce themselves."""
    if issubclass(kind, np.ndarray):
        own = kind.__reduce__ is not np.ndarray.__reduce__ or kind.__reduce_ex__ is not np.ndarray.__reduce_ex__
        if kind is np.ma.MaskedArray:
            return _reduce_masked
        return None if own else _reduce_array
    if issubclass(kind, np.generic) and not issubclass(kind, (str, bytes)):
        return _reduce_scalar
    if issubclass(kind, np.dtype):
        return _reduce_dtype
    return None


def _reduce_array(values: Any) -> Any:
    kind = None if type(values) in (np.ndarray, np.memmap) else type(values)
    state = vars(values) if kind is not None and getattr(values, "__dict__", None) else None
    plain = values.view(np.ndarray) if type(values) is not np.ndarray else values
    if plain.dtype.hasobject:
        return _reduce_objects(plain, values, kind, state)
    if plain.dtype.kind == "T":
        return NotImplemented
    token = ArrayToken(1)
    is_fortran = rebuild.is_fortran(plain)
    token.array = plain.T if is_fortran else plain
    spec = dtype_spec(values.dtype)
    args: tuple[Any, ...] = (PickleBuffer(token), spec, values.shape, "F" if is_fortran else "C")
    return rebuild.array, args if kind is None else (*args, kind, state)


def _reduce_objects(plain: Any, values: Any, kind: Any, state: Any) -> Any:
    # Filled after it was made, so that it may hold itself.
    args: tuple[Any, ...] = (dtype_spec(values.dtype), plain.shape, kind, state)
    if rebuild.is_fortran(plain):
        args = (*args, "F")
    return rebuild.empty_objects, args, rebuild.flat(plain).tolist(), None, None, rebuild.fill_objects


def _reduce_masked(values: Any) -> Any:
    mask = None if values.mask is np.ma.nomask else np.asarray(values.mask)
    fill = None if values._fill_value is None else np.asarray(values._fill_value)
    return rebuild.masked, (np.asanyarray(values.data), mask, fill, values.hardmask, values._optinfo or None)


def _reduce_scalar(value: Any) -> Any:
    if value.dtype.hasobject:
        return NotImplemented
    return rebuild.scalar, (dtype_spec(value.dtype), value.tobytes())


def _reduce_dtype(kind: Any) -> Any:
    spec = dtype_spec(kind)
    return NotImplemented if isinstance(spec, np.dtype) else (rebuild.dtype, (spec,))


def dtype_spec(kind: Any) -> Any:
    """A dtype in built-in types, or the dtype itself where these would lose something."""
    spec = None if kind.kind == "T" or kind.metadata else _spec(kind)
    if spec is None:
        return kind
    return spec if rebuild.dtype(spec) == kind and rebuild.dtype(spec).type is kind.type else kind


def _spec(kind: Any) -> Any:
    if kind.subdtype is not None:
        base = _spec(kind.subdtype[0])
        return None if base is None else (base, kind.subdtype[1])
    if kind.names is None:
        return kind.str
    formats = [_spec(kind.fields[name][0]) for name in kind.names]
    if None in formats:
        return None
    offsets = [kind.fields[name][1] for name in kind.names]
    titles = [(*kind.fields[name], None)[2] for name in kind.names]
    if not all(title is None or type(title) is str for title in titles):
        return None
    more: dict[str, Any] = {"titles": titles} if any(titles) else {}
    if kind.type is np.record:
        more["record"] = True
    return {
        "names": list(kind.names),
        "formats": formats,
        "offsets": offsets,
        "itemsize": kind.itemsize,
        "aligned": kind.isalignedstruct,
        **more,
    }
