"""Rules of `fastpar.hash` for arrays, frames and compiled functions: by content, whatever holds it.

Each function takes an object of the library it is named for and describes it as `hashing.py` says. It is imported when
the first such object is hashed, so the library is loaded by then.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastpar.errors import UnhashableError
from fastpar.hashing import BLOCK_BYTES, Description, module_of


def class_name(kind: type) -> str:
    """A class by its package and name: libraries move their classes between modules."""
    return f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"


# -- numpy -----------------------------------------------------------------------------------------------------------


def array(values: Any) -> Description:
    """An array: its class, dtype, shape and values; the attributes that a subclass adds."""
    kind = "numpy.ndarray" if type(values) is np.ndarray or _maps_nothing(values) else class_name(type(values))
    extra = None if kind == "numpy.ndarray" else _attributes(values)
    plain = values.view(np.ndarray) if extra is not None or type(values) is not np.ndarray else values
    parts: tuple[Any, ...] = (kind, extra, describe_dtype(plain.dtype), plain.shape)
    if plain.dtype.hasobject or plain.dtype.kind == "T":
        return "array", (*parts, plain.tolist()), None
    if plain.dtype.names is not None and _has_padding(plain.dtype):
        # The bytes between the fields hold anything.
        return "array", (*parts, *(np.asarray(plain[name]) for name in plain.dtype.names)), None
    return "array", parts, blocks(plain)


def _maps_nothing(values: Any) -> bool:
    """Whether a `numpy.memmap` is one by its class alone: a copy of one, or an array that was sent to a worker."""
    return type(values) is np.memmap and getattr(values, "_mmap", None) is None


def _attributes(values: Any) -> dict[str, Any] | None:
    if isinstance(values, np.ma.MaskedArray):
        return {"mask": np.ma.getmaskarray(values), "fill_value": values.fill_value, "data": values.filled()}
    if isinstance(values, np.memmap):
        return None  # its attributes tell where the values lie, not what they are
    return dict(getattr(values, "__dict__", None) or {}) or None


def blocks(values: Any) -> Iterator[Any]:
    """The memory of an array in C order: in place when it is contiguous, else copied block by block."""
    if values.size == 0 or values.dtype.itemsize == 0:
        return
    if values.flags.c_contiguous:
        yield values.reshape(-1).view(np.uint8)
        return
    if values.shape[0] == 1 or values.nbytes <= BLOCK_BYTES:
        for block in [values] if values.nbytes <= BLOCK_BYTES else values:
            yield from blocks(np.ascontiguousarray(block) if values.nbytes <= BLOCK_BYTES else block)
        return
    rows = max(1, BLOCK_BYTES // (values.nbytes // values.shape[0]))
    for start in range(0, values.shape[0], rows):
        yield from blocks(values[start : start + rows])


def _has_padding(dtype: Any) -> bool:
    fields = [dtype.fields[name][0] for name in dtype.names]
    nested = any(field.base.names is not None and _has_padding(field.base) for field in fields)
    return nested or sum(field.itemsize for field in fields) != dtype.itemsize


def describe_dtype(dtype: Any) -> Any:
    """What makes two dtypes equal, in built-in types that no NumPy version changes."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return ("sub", describe_dtype(base), shape)
    if dtype.names is None:
        return dtype.str if dtype.kind != "T" else "T"
    fields = [(name, describe_dtype(dtype.fields[name][0]), dtype.fields[name][1]) for name in dtype.names]
    return ("struct", fields, dtype.itemsize, dtype.isalignedstruct)


def scalar(value: Any) -> Description:
    """A NumPy scalar: its class and the array of one value."""
    if isinstance(value, (str, bytes)):
        return "numpy scalar", (type(value).__name__, value[:]), None
    return "numpy scalar", (describe_dtype(value.dtype), np.asarray(value)), None


def dtype(kind: Any) -> Description:
    return "dtype", (describe_dtype(kind),), None


def ufunc(function: Any) -> Description:
    """A ufunc by the name that finds it: `frompyfunc` gives many the same one. Modules inside NumPy move."""
    name = function.__name__
    if vars(np).get(name) is function:
        return "ufunc", (name,), None
    special = sys.modules.get("scipy.special")
    module = "scipy.special" if getattr(special, name, None) is function else module_of(function, name)
    return "ufunc", (name,) if module.partition(".")[0] == "numpy" else (module, name), None


def numpy_function(function: Any) -> Description:
    """A function of NumPy's by name alone: its code is another in each version."""
    return "global", (module_of(function, function.__qualname__), function.__qualname__), None


def vectorized(function: Any) -> Description:
    """A `numpy.vectorize` by what it calls and how; it also keeps what it made in earlier calls."""
    parts = (function.pyfunc, function.otypes, function.signature, function.excluded)
    return "vectorized", (class_name(type(function)), *parts), None


def generator(source: Any) -> Description:
    return "random generator", (source.bit_generator.state,), None


def random_state(source: Any) -> Description:
    return "random state", (source.get_state(legacy=False),), None


# -- pandas ----------------------------------------------------------------------------------------------------------


def frame(table: Any) -> Description:
    """A frame by its columns: how pandas groups them into blocks does not count."""
    columns = tuple(table.iloc[:, position].array for position in range(table.shape[1]))
    parts = (class_name(type(table)), table.index, table.columns, table.attrs, _metadata(table))
    return "frame", (*parts, *map(column, columns)), None


def series(values: Any) -> Description:
    parts = (class_name(type(values)), values.index, values.name, values.attrs, _metadata(values))
    return "series", (*parts, column(values.array)), None


def _metadata(table: Any) -> dict[str, Any]:
    """The attributes that a subclass adds and pandas keeps with the object; a series' name is counted anyway."""
    added = [name for name in table._metadata if name not in ("name", "_name")]
    return {name: getattr(table, name) for name in added if hasattr(table, name)}


def index(values: Any) -> Description:
    """An index by its values and names; a RangeIndex equals the index that spells it out."""
    if values.nlevels > 1:
        levels = tuple(column(values.get_level_values(level).array) for level in range(values.nlevels))
        return "multi-index", (list(values.names), *levels), None
    frequency = getattr(values, "freqstr", None)
    return "index", (values.name, frequency, column(values.array)), None


def extension_array(values: Any) -> Description:
    return "pandas array", (column(values),), None


def column(values: Any) -> tuple[Any, ...]:  # noqa: PLR0911 - one return a kind of array
    """The dtype and content of one pandas array, independent of how it is stored."""
    pd: Any = sys.modules["pandas"]

    kind = values.dtype
    if isinstance(kind, pd.StringDtype):
        return (f"string[{type(kind.na_value).__name__}]", *_items(values))
    if isinstance(values, _around_numpy(pd)):
        return column(np.asarray(values))
    if isinstance(kind, np.dtype):
        return ("object", *_items(values)) if kind.kind == "O" else (describe_dtype(kind), np.asarray(values))
    if isinstance(kind, pd.CategoricalDtype):
        return ("category", column(values.categories.array), kind.ordered, np.asarray(values.codes, dtype=np.int64))
    if isinstance(kind, pd.DatetimeTZDtype):
        return (str(kind), np.asarray(values.astype("int64")))
    if isinstance(kind, pd.SparseDtype):
        return (str(kind), column(values.to_dense()))
    if isinstance(values, (pd.arrays.IntegerArray, pd.arrays.FloatingArray, pd.arrays.BooleanArray)):
        return (str(kind), *_unmasked(values))
    if isinstance(kind, getattr(pd, "ArrowDtype", ())):
        return (str(kind), *_arrow(values))
    return (str(kind), *_items(values))


def _around_numpy(pd: Any) -> type:
    """What pandas puts around an array of NumPy's: PandasArray before 2.1."""
    return getattr(pd.arrays, "NumpyExtensionArray", None) or pd.arrays.PandasArray  # type: ignore[no-any-return]


def _unmasked(values: Any) -> tuple[Any, Any]:
    """Where numbers are missing, and the numbers: what lies under a missing one is arbitrary."""
    kind = values.dtype.numpy_dtype
    return (np.asarray(values.isna(), dtype=bool), values.to_numpy(dtype=kind, na_value=kind.type(0)))


def _arrow(values: Any) -> tuple[Any, ...]:
    """What Arrow holds, by ways on which a missing number and a nan stay two things."""
    kind, number, content = values.dtype.pyarrow_dtype, values.dtype.numpy_dtype, values.__arrow_array__()
    if number.kind in "biuf" and number != np.float16:  # which not every Arrow can fill
        return (content.is_null().to_numpy(), content.fill_null(number.type(0).item()).to_numpy())
    if kind.num_fields or number == np.float16:
        return (content.to_pylist(),)
    if str(kind) == "time64[ns]":  # Python's time would lose nanoseconds
        return (content.cast("int64").to_pylist(),)
    return _items(values)


def _items(values: Any) -> tuple[Any, Any]:
    """Where items are missing, and the items as Python objects; a missing one by its type: None, nan and NA differ."""
    missing = np.asarray(sys.modules["pandas"].isna(values), dtype=bool)
    items: list[Any] = np.asarray(values, dtype=object).tolist()
    for position in np.flatnonzero(missing).tolist():
        items[position] = type(items[position]).__name__
    return (missing, items)


# -- scipy, polars, torch --------------------------------------------------------------------------------------------


def sparse(matrix: Any) -> Description:
    """A sparse array by format, shape and its canonical entries: sorted, without duplicates, indices as int64."""
    parts = (type(matrix).__name__, matrix.shape, describe_dtype(matrix.dtype))
    if matrix.format in ("csr", "csc", "bsr"):
        if not matrix.has_canonical_format:
            matrix = matrix.copy()
            matrix.sum_duplicates()
        fields = (matrix.data, matrix.indices.astype(np.int64, copy=False), matrix.indptr.astype(np.int64, copy=False))
        return "sparse", (*parts, *fields), None
    entries = matrix.tocoo(copy=True)
    entries.sum_duplicates()
    indices = getattr(entries, "coords", None) or (entries.row, entries.col)
    return "sparse", (*parts, entries.data, *(i.astype(np.int64, copy=False) for i in indices)), None


def polars_frame(table: Any) -> Description:
    return "polars frame", tuple(table.get_columns()), None


def polars_series(values: Any) -> Description:
    """A series by name, dtype and values, however they are chunked."""
    kind = str(values.dtype)
    if kind in _NUMPY_HAS and values.null_count() == 0:
        return "polars series", (values.name, kind, np.asarray(values.to_numpy())), None
    return "polars series", (values.name, kind, values.to_list()), None


_NUMPY_HAS = frozenset(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)) | {"Float32", "Float64"}


def tensor(values: Any) -> Description:
    """A dense tensor by dtype, shape and values, wherever it is stored."""
    torch: Any = sys.modules["torch"]
    if values.layout is not torch.strided or values.is_quantized or values.is_meta:
        raise UnhashableError(f"a {values.layout} tensor of {values.dtype} on {values.device} has no value to hash")
    plain = values.detach().cpu().resolve_conj().resolve_neg()
    try:
        members = plain.numpy()
    except TypeError:  # a dtype that NumPy does not have
        members = plain.contiguous().reshape(-1).view(torch.uint8).numpy()
    return "tensor", (class_name(type(values)), str(values.dtype), tuple(values.shape), members), None


# -- numba -----------------------------------------------------------------------------------------------------------
# What numba pickles holds a name that is new in each process, and what was compiled so far.


def dispatcher(function: Any) -> Description:
    """A `numba.jit` function by its Python function and how that is compiled; by its types where they are fixed."""
    fixed = () if function._can_compile else tuple(map(str, function.overloads))
    kinds = {name: str(kind) for name, kind in function.locals.items()}
    return "numba", (class_name(type(function)), function.py_func, function.targetoptions, kinds, fixed), None


def dynamic_ufunc(function: Any) -> Description:
    """What `numba.vectorize` made."""
    maker = function._dispatcher
    fixed = tuple(map(str, maker.overloads)) if function._frozen else ()
    parts = (maker.py_func, maker.targetoptions, function.identity, fixed)
    return "numba", (class_name(type(function)), *parts), None


def generalized_ufunc(function: Any) -> Description:
    """What `numba.guvectorize` made."""
    maker = function.gufunc_builder
    fixed = tuple(map(str, maker._sigs)) if function._frozen else ()
    parts = (maker.py_func, maker.targetoptions, maker.identity, maker.signature, maker.writable_args, fixed)
    return "numba", (class_name(type(function)), *parts), None
