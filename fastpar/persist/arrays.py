"""Arrays over the memory that a loader was given: mapped, and in the machine's byte order when asked. Needs NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastpar.errors import CorruptFileError
from fastpar.persist import rebuild
from fastpar.persist.sources import Region

if TYPE_CHECKING:
    from fastpar.persist.reader import Options

__all__ = ["ArrayMaker", "mapped_array", "shape_size", "to_native"]


class ArrayMaker:
    """`rebuild.array` for one load."""

    def __init__(self, options: Options) -> None:
        self._native = options.native_byte_order

    def array(self, buffer: Any, spec: Any, shape: Any, order: Any, kind: Any = None, state: Any = None) -> Any:
        made = self._plain(buffer, rebuild.dtype(spec), shape, order)
        if self._native:
            made = to_native(made)
        return made if kind is None else rebuild.subclass(made, kind, state)

    def _plain(self, buffer: Any, dtype: Any, shape: Any, order: Any) -> Any:
        n_bytes = buffer.n_bytes if isinstance(buffer, Region) else len(buffer)
        if dtype.hasobject or shape_size(shape) * dtype.itemsize != n_bytes:
            raise CorruptFileError(f"The file has an array of shape {shape} and dtype {dtype} in {n_bytes} bytes.")
        if isinstance(buffer, Region):
            if n_bytes == 0:
                return np.empty(shape, dtype, order=order)
            return mapped_array(buffer, dtype, shape, order)
        return np.ndarray(shape, dtype, buffer, order=order)


def shape_size(shape: Any) -> int:
    """How many elements an array of this shape has, in whole numbers that cannot overflow."""
    size = 1
    for length in shape:
        if not isinstance(length, int) or length < 0:
            raise CorruptFileError(f"The file has an array of shape {shape}.")
        size *= length
    return size


def mapped_array(region: Region, dtype: Any, shape: Any, order: Any) -> Any:
    """A memmap over part of a mapping that may hold several arrays, with the attributes that NumPy would set."""
    made = np.ndarray.__new__(np.memmap, shape, dtype, region.map, region.offset, None, order)
    made._mmap = region.map
    made.filename = region.path
    made.offset = region.offset
    made.mode = region.mode
    return made


def to_native(values: Any) -> Any:
    """The array in the machine's byte order; a copy if it was in the other."""
    native = values.dtype.newbyteorder("=")
    return values if native == values.dtype and native.str == values.dtype.str else values.astype(native)
