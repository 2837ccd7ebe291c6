"""`hash`: one digest for equal values, whichever process, run, Python or NumPy computes it.

What it owns: what a value *is* for every type that the compiled walk (`_core/hashing.pyx`) does not know. A rule takes
an object and gives `(name, parts, blocks)`: a name that tells its kind, a tuple of objects that the walk goes on with,
and an iterable of buffers holding raw memory, or None. Rules are looked up by exact type first, then by the names in
the type's `__mro__`, so no library has to be imported to recognise its objects. What no rule covers goes through its
own reduce protocol, as pickle would.

What is not its job: identity of code (`fingerprint.py`) and what a cached call is keyed by (`memory/`).
Any thread may call it; the only shared state is the table of rules found for types, whose entries never change.
"""

from __future__ import annotations

import copyreg
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from operator import attrgetter
from typing import Any
from weakref import WeakKeyDictionary

from fastpar._core.hashing import SCHEME, digest
from fastpar.cpu import budget
from fastpar.errors import UnhashableError

__all__ = ["SCHEME", "hash"]

Description = tuple[str, tuple[Any, ...], "Iterable[Any] | None"]
Rule = Callable[[Any], Description]

#: Bytes that are copied at a time where memory is not contiguous: what a core keeps close by.
BLOCK_BYTES = 1 << 18


def hash(obj: Any, hash_name: str = "xxh3", coerce_mmap: bool = False) -> str:
    """Digest that two objects share when they have equal values, across processes, runs, Pythons and NumPys.

    Parameters
    ----------
    obj : object
        Anything with a value: built-in types, arrays, frames, functions (by code), and objects that can be pickled.
    hash_name : {"xxh3", "md5", "sha1"}, default "xxh3"
        The hash function. XXH3 (128 bits) runs at memory speed and is no defence against an adversary.
    coerce_mmap : bool, default False
        Whether a `numpy.memmap` counts as the `numpy.ndarray` with the same content. One that maps nothing always does:
        a copy of one, and what fastpar makes of a large array on its way to a worker process.

    Returns
    -------
    str
        32 hexadecimal digits (40 for "sha1"). The first two are the version of the scheme; it rises whenever a value's
        encoding changes, so that digests of two schemes never match.

    Raises
    ------
    UnhashableError
        Some part of `obj` has no value (a lock, a generator, ...); the message names the path to it.
    ValueError
        `hash_name` is unknown.

    Notes
    -----
    Types count: ``1``, ``1.0`` and ``True`` differ, and so do a list and a tuple. Sets and dicts count without order,
    an `OrderedDict` with it. Arrays count by dtype, shape and values, whatever their memory order and strides; an
    array that is C-contiguous is hashed in place, any other in copies of one block. Floats count by their bits: 0.0 and
    -0.0 differ, a NaN equals itself. Whether two parts are one object or two equal ones does not count.
    Functions count by module, name, code, defaults and closure (`fingerprint.py`), classes by name, and ufuncs by the
    name that finds them.

    The digests differ from joblib's, which depend on pickle, on memory order and on shared identity.

    Thread safety: any thread; no other thread may change `obj` meanwhile.

    Examples
    --------
    >>> import fastpar
    >>> fastpar.hash({"a": 1, "b": [2.0]}) == fastpar.hash({"b": [2.0], "a": 1})
    True
    >>> fastpar.hash(1) == fastpar.hash(1.0)
    False
    """
    return digest(obj, hash_name, describe_coerced if coerce_mmap else describe, digest_chunks)


def digest_chunks(view: memoryview, n_bytes: int, one_shot: Callable[[Any], bytes]) -> list[bytes]:
    """The digests of memory cut into chunks, computed by all threads that this process may use."""
    chunks = [view[start : start + n_bytes] for start in range(0, len(view), n_bytes)]
    n_threads = min(budget(), len(chunks))
    if n_threads == 1:
        return [one_shot(chunk) for chunk in chunks]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(n_threads) as threads:
        return list(threads.map(one_shot, chunks))


def describe(obj: Any) -> Description:
    """Name, parts and blocks of an object that the compiled walk does not know."""
    rule = _by_type.get(type(obj)) or _found.get(type(obj))
    if rule is None:
        rule = _found[type(obj)] = _find_rule(type(obj))
    return rule(obj)


def describe_coerced(obj: Any) -> Description:
    """`describe`, with a memory-mapped array described as an ordinary one."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(obj, numpy.memmap):
        return describe(numpy.asarray(obj))
    return describe(obj)


def _find_rule(kind: type) -> Rule:
    for base in kind.__mro__:
        rule = _by_type.get(base)
        if rule is not None and base in _INHERITED:
            return rule
        found = _BY_NAME.get(f"{base.__module__}.{base.__qualname__}")
        if found is not None:
            module, name = found
            return getattr(_rules_module(module), name)  # type: ignore[no-any-return]
    return _reduced


def _rules_module(name: str) -> types.ModuleType:
    from importlib import import_module

    return import_module(f"fastpar.{name}")


# -- the standard library's types ------------------------------------------------------------------------------------


def name_of(thing: Any) -> str:
    """Where a class or function is found: its module and qualified name."""
    return f"{getattr(thing, '__module__', None)}.{getattr(thing, '__qualname__', type(thing).__qualname__)}"


def module_of(thing: Any, name: str) -> str:
    """The module in which pickle finds this very object by that name.

    Raises
    ------
    UnhashableError
        There is none. Objects that have only a name in common are not equal.
    """
    module = getattr(thing, "__module__", None)
    try:
        module = module or vars(pickle)["whichmodule"](thing, name)  # not in the type stubs of pickle
        if attrgetter(name)(sys.modules[module]) is thing:
            return str(module)
    except (pickle.PicklingError, AttributeError, KeyError):
        pass
    raise UnhashableError(
        f"a {type(thing).__qualname__} has no value to hash: it is known by its name alone, and {module}.{name} is not "
        "this object"
    )


def _type(kind: type) -> Description:
    return "type", (name_of(kind),), None


def _module(module: types.ModuleType) -> Description:
    return "module", (module.__name__,), None


def _function(function: types.FunctionType) -> Description:
    from fastpar.fingerprint import code_fingerprint

    parts = (
        name_of(function),
        code_fingerprint(function),
        function.__defaults__,
        function.__kwdefaults__,
        cell_values(function),
    )
    return "function", parts, None


def cell_values(function: types.FunctionType) -> tuple[tuple[Any, ...], ...]:
    """What a function closes over: a 1-tuple a cell, empty where the variable is not bound yet."""
    found: list[tuple[Any, ...]] = []
    for cell in function.__closure__ or ():
        try:
            found.append((cell.cell_contents,))
        except ValueError:
            found.append(())
    return tuple(found)


def _method(method: types.MethodType) -> Description:
    return "method", (method.__func__, method.__self__), None


def _builtin(function: types.BuiltinFunctionType) -> Description:
    owner = function.__self__
    if owner is None or isinstance(owner, types.ModuleType):
        return "builtin", (name_of(function),), None
    return "builtin method", (function.__name__, owner), None


def _slot(descriptor: Any) -> Description:
    return "slot", (name_of(descriptor.__objclass__), descriptor.__name__), None


def _slot_of(wrapper: Any) -> Description:
    return "slot of", (wrapper.__name__, wrapper.__self__), None


def _partial(call: partial[Any]) -> Description:
    return "partial", (name_of(type(call)), call.func, call.args, call.keywords, dict(vars(call))), None


def _memorized(cached: Any) -> Description:
    # A function with a cache is its function: not where its results are, nor how much it says.
    return "memorized", (cached.func,), None


def _cached(function: Any) -> Description:
    # By name it would be what it was before an edit.
    return "cached", (function.__wrapped__,), None


def _code(code: types.CodeType) -> Description:
    from fastpar.fingerprint import bytecode_fingerprint

    return "code", (bytecode_fingerprint(code),), None


def _range(span: range) -> Description:
    # Ranges are equal when they hold the same numbers.
    return "range", (len(span), span[0] if len(span) else None, span.step if len(span) > 1 else None), None


def _slice(span: slice) -> Description:
    return "slice", (span.start, span.stop, span.step), None


def _memoryview(view: memoryview) -> Description:
    return "memoryview", (view.shape, view.format, view.tobytes()), None


def _mapping_proxy(proxy: types.MappingProxyType[Any, Any]) -> Description:
    return "mappingproxy", (dict(proxy),), None


def _enum(member: Any) -> Description:
    # Its reduction differs between Pythons.
    return "enum", (name_of(type(member)), member.name, member._value_), None


def _path(path: Any) -> Description:
    # Its module differs between Pythons.
    return "path", (type(path).__name__, str(path)), None


def _fraction(number: Any) -> Description:
    return "fraction", (name_of(type(number)), number.numerator, number.denominator), None


def _set_subclass(obj: set[Any]) -> Description:
    return "set subclass", (name_of(type(obj)), frozenset(obj), getattr(obj, "__dict__", None)), None


def _ordered_dict(obj: OrderedDict[Any, Any]) -> Description:
    return "ordered dict", (name_of(type(obj)), list(obj.items()), dict(vars(obj)) or None), None


# -- everything else: the reduce protocol ----------------------------------------------------------------------------


def _reduced(obj: Any) -> Description:
    """What pickle would save: a constructor by name, its arguments, the state, the members."""
    try:
        reducer = copyreg.dispatch_table.get(type(obj))
        reduction = reducer(obj) if reducer is not None else obj.__reduce_ex__(4)
    except UnhashableError:
        raise
    except Exception as error:
        raise UnhashableError(f"a {type(obj).__qualname__} has no value to hash: {error}") from error
    if isinstance(reduction, str):
        return _named(obj, reduction)
    make, args, state, members, items = (*reduction, None, None, None, None)[:5]
    parts = (
        type(obj).__qualname__,
        _constructor(make),
        args,
        state,
        None if members is None else list(members),
        None if items is None else _unordered(items),
    )
    return "object", parts, None


def _named(thing: Any, name: str) -> Description:
    """What pickle finds by its name, and what it wraps: an edit of that changes the result."""
    module, wrapped = module_of(thing, name), getattr(thing, "__wrapped__", None)
    return "global", (module, name) if wrapped is None else (module, name, wrapped), None


def _constructor(make: Any) -> Any:
    """What a reduction calls: by name, unless more than its name makes it what it is."""
    owner = getattr(make, "__self__", None)
    if isinstance(owner, type):
        return f"{name_of(owner)}.{make.__name__}"
    is_method = owner is not None and not isinstance(owner, types.ModuleType)
    if isinstance(make, types.BuiltinFunctionType) and make.__module__:
        is_method = False  # C++ binds functions to what describes them
    name = getattr(make, "__qualname__", None)
    has_name = isinstance(name, str) and "<" not in name  # one in front of <locals> or a <lambda> is that of many
    return name_of(make) if has_name and not is_method else make


def _unordered(items: Iterator[tuple[Any, Any]]) -> dict[Any, Any]:
    return dict(items)


#: What `_find_rule` found before.
_found: WeakKeyDictionary[type, Rule] = WeakKeyDictionary()

#: Rules by exact type.
_by_type: dict[type, Rule] = {
    type: _type,
    types.ModuleType: _module,
    types.FunctionType: _function,
    types.MethodType: _method,
    types.BuiltinFunctionType: _builtin,
    types.WrapperDescriptorType: _slot,
    types.MethodDescriptorType: _slot,
    types.ClassMethodDescriptorType: _slot,
    types.GetSetDescriptorType: _slot,
    types.MemberDescriptorType: _slot,
    types.MethodWrapperType: _slot_of,
    types.CodeType: _code,
    types.MappingProxyType: _mapping_proxy,
    range: _range,
    slice: _slice,
    memoryview: _memoryview,
    partial: _partial,
    set: _set_subclass,
    frozenset: _set_subclass,
    OrderedDict: _ordered_dict,
}

#: Rules that hold for subclasses too.
_INHERITED = frozenset({type, types.ModuleType, partial, set, frozenset, OrderedDict})

#: Rules for types that are recognised by name, since their module may not be loaded: (module of fastpar, function).
_BY_NAME: dict[str, tuple[str, str]] = {
    "enum.Enum": ("hashing", "_enum"),
    "fastpar.memory.memorized.MemorizedFunc": ("hashing", "_memorized"),
    "fastpar.memory.memorized.NotMemorizedFunc": ("hashing", "_memorized"),
    "pathlib.PurePath": ("hashing", "_path"),
    "pathlib._local.PurePath": ("hashing", "_path"),
    "fractions.Fraction": ("hashing", "_fraction"),
    "functools._lru_cache_wrapper": ("hashing", "_cached"),
    "numpy.ndarray": ("hashing_arrays", "array"),
    "numpy.generic": ("hashing_arrays", "scalar"),
    "numpy.dtype": ("hashing_arrays", "dtype"),
    "numpy.ufunc": ("hashing_arrays", "ufunc"),
    "numpy._ArrayFunctionDispatcher": ("hashing_arrays", "numpy_function"),
    "numpy.vectorize": ("hashing_arrays", "vectorized"),
    "numpy.random._generator.Generator": ("hashing_arrays", "generator"),
    "numpy.random.mtrand.RandomState": ("hashing_arrays", "random_state"),
    "pandas.core.frame.DataFrame": ("hashing_arrays", "frame"),
    "pandas.DataFrame": ("hashing_arrays", "frame"),
    "pandas.core.series.Series": ("hashing_arrays", "series"),
    "pandas.Series": ("hashing_arrays", "series"),
    "pandas.core.indexes.base.Index": ("hashing_arrays", "index"),
    "pandas.Index": ("hashing_arrays", "index"),
    "pandas.core.arrays.base.ExtensionArray": ("hashing_arrays", "extension_array"),
    "pandas.api.extensions.ExtensionArray": ("hashing_arrays", "extension_array"),
    "scipy.sparse._base._spbase": ("hashing_arrays", "sparse"),
    "scipy.sparse._base.spmatrix": ("hashing_arrays", "sparse"),
    "polars.dataframe.frame.DataFrame": ("hashing_arrays", "polars_frame"),
    "polars.series.series.Series": ("hashing_arrays", "polars_series"),
    "torch.Tensor": ("hashing_arrays", "tensor"),
    "numba.core.dispatcher.Dispatcher": ("hashing_arrays", "dispatcher"),
    "numba.np.ufunc.dufunc.DUFunc": ("hashing_arrays", "dynamic_ufunc"),
    "numba.np.ufunc.gufunc.GUFunc": ("hashing_arrays", "generalized_ufunc"),
}
