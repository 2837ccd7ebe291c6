"""Reads what joblib wrote, from 0.10 on, and plain pickles.

joblib's file is a pickle, compressed as a whole or not, in which the bytes of each array stand between two opcodes:
right after the record that describes the array (its class name is `NumpyArrayWrapper`). The unpickler must stop there,
take the array's bytes, and put the array in the place of the record. Only the unpickler written in Python can, so these
files load at joblib's speed, not at ours. Nothing in them is protected by a checksum.
"""

from __future__ import annotations

import io
import pickle
import sys
from typing import TYPE_CHECKING, Any, ClassVar

from fastpar.errors import CorruptFileError, ForeignFileError, PersistError, TruncatedFileError
from fastpar.persist import format as fmt
from fastpar.persist import trust
from fastpar.persist.codecs import codec_for_prefix
from fastpar.persist.streams import Prefixed, Unpacked, read_exactly, read_into, read_up_to

if TYPE_CHECKING:
    from fastpar.persist.reader import Options

__all__ = ["load_joblib"]

#: First bytes of pickles: protocol 2 and later; the opcodes that protocols 0 and 1 can begin with.
_PICKLE_STARTS = b"\x80" + b"(]})cIFVSLNKMJGUTXle"


def load_joblib(file: Any, first: bytes, options: Options) -> Any:
    """The object in a file of joblib's or pickle's, whose `first` bytes were taken from `file`.

    It may be compressed as a whole, and a file of ours may be too: by another program, or through `gzip.open`.
    """
    codec = codec_for_prefix(first)
    if codec is None and first[:1] not in [_PICKLE_STARTS[i : i + 1] for i in range(len(_PICKLE_STARTS))]:
        raise ForeignFileError(f"The file was not written by fastpar, joblib or pickle: it begins with {first!r}.")
    plain = _rewound(file, first)
    if codec is not None:
        from fastpar.persist._api import load_own, warn_compressed

        if options.mmap_mode is not None:
            warn_compressed(file, options)
            options = options._replace(mmap_mode=None)
        inner = Unpacked(codec.open(plain if isinstance(plain, io.BufferedIOBase) else io.BufferedReader(plain)))
        first = read_up_to(inner, len(fmt.MAGIC))
        plain = io.BufferedReader(Prefixed(first, inner))
        if first == fmt.MAGIC:
            return load_own(plain, options, None)
    try:
        return JoblibUnpickler(plain, options, can_map=codec is None).load()
    except PersistError:
        raise
    except Exception as error:
        if options.trusted and (isinstance(error, (ImportError, AttributeError)) or _is_the_users(error)):
            raise
        raise CorruptFileError(f"The file is damaged: {type(error).__name__}: {error}") from error


def _rewound(file: Any, first: bytes) -> Any:
    try:
        file.seek(-len(first), io.SEEK_CUR)
    except (AttributeError, OSError, ValueError):
        return Prefixed(first, file)
    return file


def _is_the_users(error: BaseException) -> bool:
    """Whether the error comes from code that the pickle called, rather than from reading it."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    name = at.tb_frame.f_globals.get("__name__", "") if at is not None else ""
    own = (
        "pickle",
        "fastpar.persist",
        "gzip",
        "bz2",
        "lzma",
        "_compression",
        "compression",
        "lz4",
        "numpy",
        "backports",
    )
    return not str(name).startswith(own)


class _Exact:
    """A file that gives what is asked for or raises, and takes no memory for what is not there."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def read(self, n_bytes: int) -> bytes:
        return read_exactly(self.file, n_bytes)

    def readinto(self, view: Any) -> int:
        read_into(self.file, memoryview(view))
        return len(view)

    def readline(self) -> bytes:
        line: bytes = self.file.readline(1 << 16)
        return line


#: Not in the type stubs of pickle.
_PythonUnpickler: Any = vars(pickle)["_Unpickler"]


class ArrayRecord:
    """What joblib writes in front of an array's bytes; its attributes come from the file."""

    subclass: Any
    shape: Any
    order: Any
    dtype: Any
    allow_mmap: Any = False
    numpy_array_alignment_bytes: Any = None


class JoblibUnpickler(_PythonUnpickler):  # type: ignore[misc]
    """Python's own unpickler, which lets us in between two opcodes."""

    dispatch: ClassVar[dict[int, Any]] = dict(_PythonUnpickler.dispatch)

    def __init__(self, file: Any, options: Options, *, can_map: bool) -> None:
        self._source = _Exact(file)
        self._options = options
        self._can_map = can_map
        super().__init__(self._source)

    def find_class(self, module: str, name: str) -> Any:
        if name == "NumpyArrayWrapper" and module.endswith("joblib.numpy_pickle"):
            return ArrayRecord
        if name in ("NDArrayWrapper", "ZNDArrayWrapper") and "joblib" in module:
            raise ForeignFileError(
                "The file was written by joblib 0.9 or earlier: load it with joblib and dump it again."
            )
        module = trust.moved(module)
        if self._options.trusted:
            return super().find_class(module, name)
        if (sealed := _safe_function(module, name)) is not None:
            return sealed
        return trust.find(module, name, super().find_class)

    def load_build(self) -> None:
        self._check_state(self.stack[-2], self.stack[-1])
        super().load_build()
        if isinstance(self.stack[-1], ArrayRecord):
            self.stack[-1] = self._array(self.stack[-1])

    dispatch[pickle.BUILD[0]] = load_build

    def _check_state(self, made: Any, state: Any) -> None:
        """Refuse a state that NumPy would believe and crash on, or put one that it made itself in its place."""
        numpy = sys.modules.get("numpy")
        if numpy is None:
            return
        if getattr(type(made), "__setstate__", None) is numpy.ndarray.__setstate__:
            _check_array_state(state)
        elif isinstance(made, numpy.dtype):
            self.stack[-1] = _dtype_like(made, state).__reduce__()[2]

    def _array(self, record: ArrayRecord) -> Any:
        import numpy as np

        from fastpar.persist.arrays import to_native

        if not isinstance(record.dtype, np.dtype):
            raise CorruptFileError("The file describes an array without a dtype.")
        if record.dtype.hasobject:
            values = JoblibUnpickler(self._source.file, self._options, can_map=False).load()
        else:
            values = self._raw_array(record)
        if self._options.native_byte_order and isinstance(values, np.ndarray):
            values = to_native(values)
        kind = trust.Named.unwrapped(record.subclass)
        if kind in (np.ndarray, np.memmap) or not isinstance(kind, type):
            return values
        return values.view(kind) if issubclass(kind, np.ndarray) else values

    def _raw_array(self, record: ArrayRecord) -> Any:
        import numpy as np

        from fastpar.persist.arrays import shape_size

        order: Any = "F" if record.order == "F" else "C"
        n_bytes = shape_size(record.shape) * record.dtype.itemsize
        if record.numpy_array_alignment_bytes is not None:
            self._source.read(self._source.read(1)[0])
        if self._options.mmap_mode is not None and self._can_map and record.allow_mmap and n_bytes:
            return self._mapped(record, n_bytes, order)
        memory = self._memory(n_bytes)
        return np.ndarray(record.shape, record.dtype, memory, order=order)

    def _memory(self, n_bytes: int) -> Any:
        """Memory grows as the bytes come, for the file's word on their number is not protected."""
        import numpy as np

        if n_bytes <= 1 << 26:
            into = np.empty(n_bytes, np.uint8)
            self._source.readinto(into)
            return into
        grown = bytearray()
        while len(grown) < n_bytes:
            grown += self._source.read(min(1 << 26, n_bytes - len(grown)))
        return grown

    def _mapped(self, record: ArrayRecord, n_bytes: int, order: Any) -> Any:
        import numpy as np

        file = self._source.file
        offset = file.tell()
        mode: Any = self._options.mmap_mode
        try:
            values = np.memmap(file, record.dtype, mode, offset, record.shape, order)
        except ValueError as error:
            raise TruncatedFileError(f"The file ends within an array: {error}") from error
        file.seek(offset + n_bytes)
        return values


def _check_array_state(state: Any) -> None:
    import numpy as np

    from fastpar.persist.arrays import shape_size

    _, shape, dtype, _, content = state
    if not isinstance(dtype, np.dtype) or not isinstance(content, list if dtype.hasobject else (bytes, str)):
        raise CorruptFileError("The file describes an array in a way that NumPy does not.")
    if len(content) != shape_size(shape) * (1 if dtype.hasobject else dtype.itemsize):
        raise CorruptFileError(f"The file has an array of shape {shape} with {len(content)} members or bytes.")


def _dtype_like(made: Any, state: Any) -> Any:
    """The dtype that `made` becomes with the state, made by NumPy's constructor, which checks everything."""
    import numpy as np

    _, order, base, names, fields, size, _, flags, *more = state
    if base is not None:
        found: Any = np.dtype(base)
    elif names is not None:
        parts = [fields[name] for name in names]
        spec: Any = {
            "names": list(names),
            "formats": [part[0] for part in parts],
            "offsets": [part[1] for part in parts],
            "titles": [(*part, None)[2] for part in parts],
            "itemsize": size,
        }
        found = np.dtype(spec, align=bool(flags & _ALIGNED))
    elif made.kind in "mM" and more:
        unit, count, *_ = more[0][1]
        found = np.dtype(f"{made.kind}8[{count}{unit.decode()}]").newbyteorder(order)
    else:
        found = made.newbyteorder(order)
    metadata: Any = (more[0][0] if made.kind in "mM" else more[0]) if more else None
    return np.dtype(found, metadata=dict(metadata)) if metadata else found


_ALIGNED = 0x80  # the flag of a dtype whose fields are


def _safe_function(module: str, name: str) -> Any:
    """Functions of NumPy that pickles of arrays and scalars call, narrowed to what those need."""
    if module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        return {"scalar": trust.Sealed(_scalar), "_reconstruct": trust.Sealed(_reconstruct)}.get(name)
    if module in ("numpy.core.numeric", "numpy._core.numeric") and name == "_frombuffer":
        return trust.Sealed(_frombuffer)
    if (module, name) == ("numpy", "dtype"):
        return trust.Sealed(_dtype)
    if (module, name) == ("_codecs", "encode"):
        return trust.Sealed(_latin1)
    return None


def _scalar(dtype: Any, block: Any) -> Any:
    import numpy as np

    if not isinstance(dtype, np.dtype) or dtype.hasobject or not isinstance(block, bytes):
        raise CorruptFileError("The file describes a number in a way that is not allowed.")
    return np.ndarray((), dtype, bytearray(block))[()]


def _dtype(kind: Any, align: Any = False, copy: Any = True) -> Any:
    """A new one, for its state will be set."""
    import numpy as np

    if kind is not np.record and not isinstance(kind, str):
        raise CorruptFileError("The file describes a dtype in a way that is not allowed.")
    return np.dtype(kind, False, True)


def _reconstruct(kind: Any, shape: Any, dtype: Any) -> Any:
    import numpy as np

    if kind is not np.ndarray:
        raise CorruptFileError("The file describes an array in a way that is not allowed.")
    return np.ndarray((0,), np.int8)


def _frombuffer(block: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> Any:
    import numpy as np

    if not isinstance(dtype, np.dtype) or dtype.hasobject or not isinstance(block, (bytes, bytearray)):
        raise CorruptFileError("The file describes an array in a way that is not allowed.")
    if order == "K" and axes is not None:
        return np.frombuffer(block, dtype).reshape(shape).transpose(axes)
    return np.frombuffer(block, dtype).reshape(shape, order=order)


def _latin1(text: str, encoding: str) -> bytes:
    return text.encode("latin-1")
