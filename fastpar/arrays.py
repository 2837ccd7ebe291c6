"""Arrays that worker processes share: written on either side, seen on the other.

Ordinary ndarrays over anonymous shared memory, which passes to a worker by reference and is freed with the last
array over it, in whatever process. Who writes where at what time is the user's affair, as with threads.
"""

from __future__ import annotations

import os
from weakref import WeakValueDictionary

from fastpar._core.segments import Segment

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from typing import Any, Literal

    from numpy.typing import ArrayLike, DTypeLike, NDArray

#: Shared memory that is mapped here, by device and inode, which name it in all processes: it is mapped once in each.
mapped: WeakValueDictionary[tuple[int, int], Segment] = WeakValueDictionary()


def shared_empty(
    shape: int | tuple[int, ...], dtype: DTypeLike = float, order: Literal["C", "F"] = "C"
) -> NDArray[Any]:
    """Make an array that worker processes see, and may write to. It holds zeros.

    *Serial equivalent*: ``numpy.zeros(shape, dtype, order)``.

    Parameters
    ----------
    shape : int or tuple of int
    dtype : dtype, default float
        Any that holds no Python objects.
    order : {'C', 'F'}
        Rows or columns contiguous.

    Returns
    -------
    ndarray
        It and its views pass to tasks by reference, and back.

    Raises
    ------
    TypeError
        For a dtype that holds objects: pointers mean nothing in another process.
    OSError
        If there is no memory for it.

    Notes
    -----
    Safe in any thread. The memory is taken at once, and takes one descriptor.

    Examples
    --------
    >>> from fastpar import Parallel, delayed
    >>> from fastpar.arrays import shared_empty
    >>> out = shared_empty(4)
    >>> def fill(out, i):
    ...     out[i] = i * i
    >>> _ = Parallel(2, "processes")(delayed(fill)(out, i) for i in range(4))
    >>> out
    array([0., 1., 4., 9.])
    """
    import numpy as np

    kind = np.dtype(dtype)
    if kind.hasobject:
        raise TypeError(f"an array of {kind} cannot be shared: its elements are objects of this process")
    dimensions = (shape,) if isinstance(shape, int) else tuple(shape)
    n_items = 1
    for n in dimensions:
        n_items *= int(n)
    segment = adopt(Segment.create(n_items * kind.itemsize))
    return np.ndarray(dimensions, kind, segment, order=order)  # type: ignore[arg-type, no-any-return]


def shared_array(array: ArrayLike) -> NDArray[Any]:
    """Make a shared copy of an array: see `shared_empty`.

    Examples
    --------
    >>> from fastpar.arrays import shared_array
    >>> shared_array([1.0, 2.0])
    array([1., 2.])
    """
    import numpy as np

    source = np.asarray(array)
    is_fortran = source.flags.f_contiguous and not source.flags.c_contiguous
    copy = shared_empty(source.shape, source.dtype, "F" if is_fortran else "C")
    copy[...] = source
    return copy


def adopt(segment: Segment) -> Segment:
    """Take shared memory in: this segment, or the one that has it here already."""
    key = key_of(segment)
    known = mapped.get(key)
    if known is None:
        segment.is_shared = True
        known = mapped[key] = segment
    return known


def key_of(segment: Segment) -> tuple[int, int]:
    """What names shared memory in all processes while it exists in one."""
    status = os.fstat(segment.fd)
    return status.st_dev, status.st_ino


def shared_segment(array: Any) -> Segment | None:
    """The segment of a shared array, or of a part of one; None for others."""
    base = array.base
    while base is not None and not isinstance(base, Segment):
        base = getattr(base, "base", None)
    return base if base is not None and base.is_shared else None
