"""Parallel loops over compiled functions, with no GIL and no OpenMP.

    k = kernel(numba_cfunc)                       # or SciPy's LowLevelCallable, ctypes, cffi, "package.module:name"
    kernel_map(k, x, y)                           # k on each element, or each row
    parallel_for(k, n, data=array)                # k(i, data) for i in range(n)
    parallel_reduce(k, n, data=array, op="sum")   # the same number at any number of threads

Cython code calls the same loops by `from fastpar.kernels cimport parallel_for`, C code through `fastpar.h`. Imported
only when it is used. Any thread may call anything here, inside kernels' loops too. A child made by `os.fork` starts
with a pool of its own.
"""

from __future__ import annotations

from time import monotonic

from fastpar import config, cpu
from fastpar._core.kernel import INITIAL, Kernel, Loop, run_for, run_map, run_reduce
from fastpar._core.pool import __pyx_capi__  # noqa: F401 -- for those who look a function up by this module's name
from fastpar._kernel_sources import Found, data_address, find
from fastpar._signatures import check, encode, has_const_data
from fastpar.errors import KernelError

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from typing import Any, Literal

    import numpy as np

    Schedule = Literal["auto", "static", "dynamic", "guided"]

__all__ = ["Kernel", "KernelError", "kernel", "kernel_map", "parallel_for", "parallel_reduce"]

#: Seconds for which the number of CPUs is not asked for again: asking costs more than a short loop.
KEEP_S = 0.1

_cpus = (0.0, 1)  # when to count again, and the count; replaced whole, so any thread may


def kernel(source: Any, signature: str | None = None, data: Any = None) -> Kernel:
    """A compiled function as an object that the loops of this module can call.

    Parameters
    ----------
    source : scipy.LowLevelCallable, PyCapsule, ctypes or cffi function pointer, numba.cfunc, str or Kernel
        The function. A string is ``"package.module:name"`` of a Cython `cdef` function without the GIL. It must not
        raise: see the notes.
    signature : str, optional
        In C's notation, ``"double (double, void *)"``. Needed only where `source` does not know it (a ctypes function
        without `argtypes`); where both are there they must agree.
    data : optional
        What the function's ``void *`` is given: a contiguous array, a ctypes or cffi object, or an address. Kept alive.
        An array may be read-only if the signature says ``const void *``.

    Returns
    -------
    Kernel
        Also a plain callable: ``k(0.5)``. It keeps `source` alive.

    Raises
    ------
    TypeError
        If there is no compiled function in `source`, or its signature is unknown or not the one given, or it takes no
        data.
    ValueError
        If `data` is an array that is not contiguous, or read-only.

    Notes
    -----
    A Cython function must be ``noexcept``, which it does not show from outside, and report failures by its status.
    An exception that it raises in the calling thread arrives, perhaps when the loop has ended. One that it raises in a
    thread of the pool, which is no thread of Python's, is lost: what the function returned (-1, mostly) is all that is
    left of it.

    Examples
    --------
    >>> import ctypes.util
    >>> libm = ctypes.CDLL(ctypes.util.find_library("m"))
    >>> root = kernel(libm.sqrt, "double (double)")
    >>> root(2.25)
    1.5
    """
    if isinstance(source, Kernel):
        if data is None and signature is None:
            return source
        found = Found(source.address, source.signature, source.data_address, source)
    else:
        found = find(source)
    address, known, bound, owner = found
    if known is None and signature is None:
        raise TypeError(f"the signature of {source!r} is not known: set its argtypes and restype, or give `signature`")
    shown = signature if signature is not None else known
    assert shown is not None
    code = encode(shown)
    if known is not None and encode(known) != code:
        raise TypeError(f"the function's signature is {known!r}, not {signature!r}")
    if not address:
        raise TypeError(f"{source!r} is a null pointer, no function")
    given, data_owner = _data_for(code, shown, data)
    return Kernel(address, shown, code, given or bound, (owner, data_owner), as_ctypes_function)


def kernel_map(
    k: Any,
    *arrays: Any,
    out: Any = None,
    n_jobs: int | None = None,
    schedule: Schedule = "auto",
    grain: int = 0,
    data: Any = None,
) -> np.ndarray[Any, Any]:
    """Apply a kernel to each element, or each row, of arrays.

    *Serial equivalent*: ``for i in np.ndindex(out.shape): out[i] = k(*(a[i] for a in arrays))``.

    Parameters
    ----------
    k : Kernel, or what `kernel` takes
        For elements, ``double (double, ...)`` or ``float (float, ...)`` with 1 to 4 inputs and perhaps a ``void *`` at
        the end. For rows to numbers, ``int (double *row, intptr_t n, double *out, void *data)``; for rows to rows,
        ``int (double *row, intptr_t n, double *out, intptr_t n_out, void *data)`` (SciPy's generic_filter and
        generic_filter1d). Rows lie along the last axis.
    *arrays : array
        Of one shape, float64 or float32 as the kernel says, with any strides; rows must be contiguous. No copy is made.
    out : array, optional
        Where results go: of the same shape, without the last axis for rows to numbers. It may be one of the inputs, but
        must not overlap them otherwise. Default: a new array.
    n_jobs : int, optional
        Threads that take part, as in `Parallel`; default: the CPUs that this code may use.
    schedule : {'auto', 'static', 'dynamic', 'guided'}
    grain : int
        Least number of elements, or rows, in a piece.
    data : optional
        See `kernel`.

    Returns
    -------
    numpy.ndarray
        `out`.

    Raises
    ------
    TypeError, ValueError
        For a signature, type, shape or overlap that does not fit, before anything runs.
    KernelError
        If a row kernel returned something else than 0: with the index of the row, and that status.

    Notes
    -----
    The GIL is released once for the whole loop. Ctrl-C stops it within 0.1 s.

    Examples
    --------
    >>> import ctypes.util
    >>> import numpy as np
    >>> libm = ctypes.CDLL(ctypes.util.find_library("m"))
    >>> kernel_map(kernel(libm.sqrt, "double (double)"), np.array([1.0, 4.0, 9.0]))
    array([1., 2., 3.])
    """
    k = kernel(k) if type(k) is not Kernel else k
    check(k.code, k.signature, "kernel_map")
    n_inputs = k.code.count("d") + k.code.count("f") - 1 if k.code[0] != "i" else 1
    if len(arrays) != n_inputs:
        raise TypeError(f"a kernel of signature {k.signature!r} takes {n_inputs} arrays, not {len(arrays)}")
    address, _owner = _data_for(k.code, k.signature, data)
    result: np.ndarray[Any, Any] = run_map(k, arrays, out, address, Loop(_n_threads(n_jobs), schedule, grain))
    return result


def parallel_for(
    k: Any,
    n: int,
    data: Any = None,
    *,
    n_jobs: int | None = None,
    schedule: Schedule = "auto",
    grain: int = 0,
) -> None:
    """Call a kernel for each index below n.

    *Serial equivalent*: ``for i in range(n): k(i, data)``.

    Parameters
    ----------
    k : Kernel, or what `kernel` takes
        ``int (int64_t i, void *data)``, ``int (int64_t i)``, or ``int (int64_t begin, int64_t end, void *data)`` for
        pieces. It returns 0 to go on.
    n : int
        Up to 2**63 - 1.
    data : optional
        What the kernel's ``void *`` is given; see `kernel`. Held until the loop ends.
    n_jobs : int, optional
        Threads that take part, as in `Parallel`; default: the CPUs that this code may use.
    schedule : {'auto', 'static', 'dynamic', 'guided'}
        How the range is cut: by measured time, once per thread, in pieces of `grain`, or in shrinking pieces.
    grain : int
        Least number of indices in a piece.

    Raises
    ------
    KernelError
        If a call returned something else than 0: its index, or where its piece begins, and the status. Other threads
        stop after the piece that they are in.
    """
    k = kernel(k) if type(k) is not Kernel else k
    check(k.code, k.signature, "parallel_for")
    address, _owner = _data_for(k.code, k.signature, data)
    run_for(k, _range(n), address, Loop(_n_threads(n_jobs), schedule, grain))


def parallel_reduce(
    k: Any,
    n: int,
    data: Any = None,
    *,
    op: Literal["sum", "prod", "min", "max"] = "sum",
    n_jobs: int | None = None,
    schedule: Schedule = "auto",
    block: int = 0,
) -> float:
    """Combine what a kernel returns for each index below n.

    *Serial equivalent*: ``sum(k(i, data) for i in range(n))``, added up in blocks, and the blocks pair by pair.

    Parameters
    ----------
    k : Kernel, or what `kernel` takes
        ``double (int64_t i, void *data)``, ``double (int64_t i)``, or, for the result of a whole block,
        ``double (int64_t begin, int64_t end, void *data)``.
    n : int
    data : optional
        See `parallel_for`.
    op : {'sum', 'prod', 'min', 'max'}
    n_jobs, schedule : optional
        See `parallel_for`.
    block : int
        Indices in a block; default: n / 1024, at least 1.

    Returns
    -------
    float
        Bitwise the same at any number of threads and with any schedule: blocks depend on `n` and `block` alone.
    """
    k = kernel(k) if type(k) is not Kernel else k
    check(k.code, k.signature, "parallel_reduce")
    if op not in INITIAL:
        raise ValueError(f"op={op!r}: it is one of {', '.join(map(repr, INITIAL))}")
    address, _owner = _data_for(k.code, k.signature, data)
    return float(run_reduce(k, _range(n), address, op, block, Loop(_n_threads(n_jobs), schedule, 0)))


def _data_for(code: str, signature: str, data: Any) -> tuple[int, object]:
    """What a kernel's ``void *`` is given, 0 for what it is bound to, and what keeps it alive."""
    if data is None:
        return 0, None
    if not code.endswith("P)"):
        raise TypeError(f"a function of signature {signature!r} takes no data: its last parameter is no `void *`")
    return data_address(data, is_const=has_const_data(signature))


def _range(n: int) -> int:
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"n must be an integer, not {n!r}")
    if not 0 <= n < 2**63:
        raise ValueError(f"n={n}: it is between 0 and 2**63 - 1")
    return n


def _n_threads(n_jobs: int | None) -> int:
    if type(n_jobs) is int and n_jobs > 0:
        return n_jobs
    budget = _budget()
    return budget if n_jobs is None else int(config.parse_n_jobs(n_jobs, budget))


def _budget() -> int:
    """`cpu.budget`, but with a number of CPUs that may be a tenth of a second old."""
    global _cpus  # noqa: PLW0603 -- the cache described above
    part = cpu.own_share()
    if part is not None:
        return part
    now = monotonic()
    if now >= _cpus[0]:
        _cpus = (now + KEEP_S, cpu.cpu_count())
    return _cpus[1]


def as_ctypes_function(k: Kernel) -> Any:
    """A kernel as a function that Python can call; its bound data is added."""
    import ctypes

    numbers: dict[str, Any] = {"d": ctypes.c_double, "f": ctypes.c_float, "i": ctypes.c_int, "l": ctypes.c_int64}
    types: dict[str, Any] = {"v": None, "P": ctypes.c_void_p, **numbers}
    types |= {code.upper(): ctypes.POINTER(number) for code, number in numbers.items()}
    result, parameters = k.code[0], k.code[2:-1]
    function = ctypes.CFUNCTYPE(types[result], *(types[code] for code in parameters))(k.address)
    if not parameters.endswith("P"):
        return function
    n_others, bound = len(parameters) - 1, k.data_address or None

    def with_data(*args: Any) -> Any:
        if len(args) == n_others:
            return function(*args, bound)
        if len(args) == n_others + 1:
            return function(*args[:-1], _data_for(k.code, k.signature, args[-1])[0] or None)
        return function(*args)

    return with_data
