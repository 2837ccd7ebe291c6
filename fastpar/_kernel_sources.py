"""Where the compiled functions are in the objects that users have: SciPy, ctypes, cffi, numba, Cython, capsules.

Each reader takes one kind of object and returns what was found: address, signature, what its `void *data` points to,
and whatever must be kept alive. None of these libraries is imported here unless the user has done so.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from typing import Any, NamedTuple

    class Found(NamedTuple):
        """What is known of a function."""

        address: int
        signature: str | None
        data: int
        owner: object
else:
    from collections import namedtuple

    Found = namedtuple("Found", ["address", "signature", "data", "owner"])


def find(source: Any) -> Found:
    """What is known of the function in `source`.

    Raises
    ------
    TypeError
        If there is none.
    """
    kind = type(source)
    if kind.__name__ == "PyCapsule":
        return _from_capsule(source, source)
    if kind.__name__ == "LowLevelCallable" and isinstance(source, tuple):
        return _from_capsule(tuple.__getitem__(source, 0), source)
    if isinstance(source, str):
        return _from_cython(source)
    if kind.__module__.startswith("numba.") and hasattr(source, "address"):
        return _from_numba(source)
    if kind.__module__ == "_cffi_backend":
        return _from_cffi(source)
    ctypes = sys.modules.get("ctypes")
    if ctypes is not None and isinstance(source, ctypes._CFuncPtr):
        return _from_ctypes(source)
    raise TypeError(
        f"{kind.__name__} holds no compiled function. kernel() takes a scipy.LowLevelCallable, a PyCapsule, a ctypes "
        "function, a cffi function pointer, a numba.cfunc, or 'package.module:name' of a cdef function"
    )


def _from_capsule(capsule: Any, owner: object) -> Found:
    import ctypes

    api = ctypes.pythonapi
    get_name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", api))
    get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", api))
    get_context = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(("PyCapsule_GetContext", api))
    name = get_name(capsule)
    signature = None if name is None else name.decode()
    return Found(get_pointer(capsule, name), signature, get_context(capsule) or 0, owner)


def _from_cython(path: str) -> Found:
    import importlib

    module_name, colon, name = path.partition(":")
    if not colon or not name:
        raise TypeError(f"{path!r}: write 'package.module:name'")
    module = importlib.import_module(module_name)
    functions = getattr(module, "__pyx_capi__", {})
    if name not in functions:
        there = ", ".join(sorted(functions)) or "none"
        raise TypeError(
            f"{module_name} exports no cdef function {name!r} (there are: {there}); Cython exports those that are "
            "declared in the module's .pxd, or as `cdef api`"
        )
    return _from_capsule(functions[name], module)


def _from_numba(source: Any) -> Found:
    signature = source._sig
    parameters = ", ".join(str(parameter) for parameter in signature.args)
    return Found(source.address, f"{signature.return_type} ({parameters})", 0, source)


def _from_cffi(source: Any) -> Found:
    import cffi  # type: ignore[import-untyped]

    ffi = cffi.FFI()
    try:
        function = ffi.typeof(source)
    except TypeError:
        function = None
    if function is None or function.kind != "function":
        raise TypeError("this cffi object is no function pointer: use ffi.addressof(lib, 'name'), or a callback")
    parameters = ", ".join(parameter.cname for parameter in function.args)
    return Found(int(ffi.cast("uintptr_t", source)), f"{function.result.cname} ({parameters})", 0, source)


def _from_ctypes(source: Any) -> Found:
    import ctypes

    address = ctypes.cast(source, ctypes.c_void_p).value or 0
    if source.argtypes is None:
        return Found(address, None, 0, source)
    parameters = ", ".join(_ctypes_name(parameter) for parameter in source.argtypes)
    return Found(address, f"{_ctypes_name(source.restype)} ({parameters})", 0, source)


def _ctypes_name(kind: Any) -> str:
    import ctypes

    if kind is None:
        return "void"
    if kind is ctypes.c_void_p:
        return "void *"
    if isinstance(kind, type) and issubclass(kind, ctypes._Pointer):
        return f"{_ctypes_name(kind._type_)} *"
    if issubclass(kind, ctypes._SimpleCData) and kind._type_ in "ilq":
        return "int" if ctypes.sizeof(kind) == 4 else "int64_t"
    return {"d": "double", "f": "float"}.get(getattr(kind, "_type_", ""), str(kind.__name__))


def data_address(data: Any, *, is_const: bool) -> tuple[int, object]:
    """Where the `data` for a kernel is, and what keeps it there: an address, an array, or a ctypes or cffi object.

    Raises
    ------
    TypeError
        If it has no address that lasts.
    ValueError
        If it is an array whose elements do not lie one after the other, or a read-only one where the kernel may write,
        which it may unless `is_const`.
    """
    if data is None:
        return 0, None
    if isinstance(data, int):
        return data, None
    if type(data).__module__ == "_cffi_backend":
        import cffi

        return int(cffi.FFI().cast("uintptr_t", data)), data
    ctypes = sys.modules.get("ctypes")
    if ctypes is not None and isinstance(data, (ctypes._Pointer, ctypes.c_void_p, ctypes._CFuncPtr)):
        return ctypes.cast(data, ctypes.c_void_p).value or 0, data
    if ctypes is not None and isinstance(data, (ctypes.Structure, ctypes.Union, ctypes.Array, ctypes._SimpleCData)):
        return ctypes.addressof(data), data
    interface = getattr(data, "__array_interface__", None)
    numpy = sys.modules.get("numpy")
    is_number = numpy is not None and isinstance(data, numpy.generic)  # what it shows is a copy, gone at once
    if interface is None or is_number or not isinstance(interface.get("data"), tuple):
        raise TypeError(
            f"data of type {type(data).__name__} has no address: give an array, a ctypes or cffi object, or an address"
        )
    address, is_read_only = interface["data"]
    if not _is_contiguous(interface):
        raise ValueError(
            "data is not contiguous, and the kernel gets nothing but the address of its first element: "
            "use numpy.ascontiguousarray"
        )
    if is_read_only and not is_const:
        raise ValueError(
            "data is read-only, and the kernel may write there: give a copy, or make the kernel with a signature whose "
            "last parameter is `const void *`"
        )
    return address, data


def _is_contiguous(interface: dict[str, Any]) -> bool:
    strides, shape = interface.get("strides"), interface["shape"]
    if strides is None or 0 in shape:
        return True
    kind, n_bytes = interface["typestr"][1], int(interface["typestr"][2:])
    expected = n_bytes * 4 if kind == "U" else n_bytes
    for n, stride in zip(reversed(shape), reversed(strides), strict=True):
        if n != 1 and stride != expected:
            return False
        expected *= n
    return True
