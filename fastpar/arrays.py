"""Arrays that worker processes share: written on either side, seen on the other.

Ordinary ndarrays over anonymous shared memory, which passes to a worker by reference and is freed with the last
array over it, in whatever process. Who writes where at what time is the user's affair, as with threads.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from typing import Any, Literal

    from numpy.typing import ArrayLike, DTypeLike, NDArray


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
        It and its views pass to tasks by reference; what a task returns of it is a copy.

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

    from fastpar._core.segments import Segment

    kind = np.dtype(dtype)
    if kind.hasobject:
        raise TypeError(f"an array of {kind} cannot be shared: its elements are objects of this process")
    dimensions = (shape,) if isinstance(shape, int) else tuple(shape)
    n_items = 1
    for n in dimensions:
        n_items *= int(n)
    segment = Segment.create(n_items * kind.itemsize)
    segment.is_shared = True
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
