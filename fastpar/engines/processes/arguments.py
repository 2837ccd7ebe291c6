"""Arrays on their way to a worker and back, and the few other types that we pickle our own way.

In the parent, `Arrays` replaces a large array in a pickle by the number of a segment. In the worker, `receive` takes
the segments in, and `load_array`, which the pickle calls, makes arrays over them. Memory-mapped files pass by name.

Many arrays arrive as a `numpy.memmap` that were none. NumPy keeps the map of one in `_mmap` and gives it to views. Here
that is set if and only if the array was a memmap where it came from, and maps something. So `fastpar.hash` and `Memory`
see what the caller had, in copies too, which NumPy makes with the class and without a map.
"""

from __future__ import annotations

import _pickle as pickle  # the C half: the other takes milliseconds to import
import itertools
import os
import sys
import weakref

from fastpar._core.segments import Segment
from fastpar.arrays import adopt, key_of, mapped, shared_segment
from fastpar.engines.processes.packing import OWN_BYTES, unpack
from fastpar.errors import TaskPicklingError, text_of

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from typing import Any

    from fastpar.engines.processes.pickling import Reducers
    from fastpar.engines.processes.warehouse import Copy, Warehouse

#: Arrays that a call has in segments of its own at a time; what is more is copied for each task. Each takes a
#: descriptor here and in the workers, and a message carries no more than `MAX_FDS`.
MAX_STORED = 200

# ------------------------------------------------------------------------------------------ in the worker

#: Segments of the current call by number, as they came: descriptor and size; or mapped, by number and mode.
received: dict[Any, Any] = {}


#: What the worker knows by a number (`repertoire`): functions, and constants.
repertoire: dict[int, Any] = {}


class Unreadable:
    """Stands for a function that could not be unpickled, for whoever wants to call it."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def recall(number: int) -> Any:
    """A function or constant that has come before."""
    known = repertoire[number]
    if type(known) is Unreadable:
        raise known.error
    return known


def receive(number: int, fd: int, size: int) -> None:
    """Take a segment in."""
    received[number] = Segment.attach(fd, size)


def read(number: int, buffers: list[memoryview]) -> Any:
    """What has been pickled into a segment, which is then the parent's again."""
    return pickle.loads(memoryview(received.pop(number)), buffers=buffers)


def forget(numbers: list[int]) -> None:
    """Let go of what the parent will not refer to any more."""
    for number in numbers:
        received.pop(number, None)
        repertoire.pop(number, None)


def load_array(
    number: int,
    mode: str,
    dtype: Any,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offset: int,
    was_memmap: bool = False,
) -> Any:
    """An array over a segment: a `numpy.memmap` in `mode`, or for mode "shared" an ordinary array."""
    import numpy as np

    segment = received[number]
    if mode == "shared":
        if not segment.is_shared:
            segment = received[number] = adopt(segment)
        return np.ndarray(shape, dtype, segment, offset, strides)
    if mode == "c":
        segment = segment.private()  # each time: what a task writes is that task's
        segment.give_up_fd()
    elif segment.fd >= 0:
        segment.protect(mode)
        segment.give_up_fd()
    array = np.ndarray.__new__(np.memmap, shape, dtype, segment, offset, strides)
    array.mode = mode
    array._mmap = segment if was_memmap else None
    return array


def load_memmap(
    path: str,
    mode: str,
    offset: int,
    dtype: Any,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    was_memmap: bool = True,
) -> Any:
    """A memory-mapped file, or an ordinary array over one, mapped here."""
    import numpy as np

    array: Any
    if all(strides[i] == dtype.itemsize * _product(shape[i + 1 :]) for i in range(len(shape))):
        array = np.memmap(path, dtype, mode, offset, shape)  # type: ignore[call-overload]
    else:
        n_bytes = sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + dtype.itemsize
        flat: Any = np.memmap(path, np.uint8, mode, offset, n_bytes)  # type: ignore[call-overload]
        array = np.ndarray.__new__(np.memmap, shape, dtype, flat, 0, strides)
        array.mode, array.filename, array.offset, array._mmap = mode, path, flat.offset, flat._mmap
    if not was_memmap:
        array._mmap = None
    return array


def load_copy(values: Any) -> Any:
    """A memory-mapped array of which only the values could be sent: it counts as what it was."""
    import numpy as np

    array = values.view(np.memmap)
    array._mmap = values
    return array


def is_memmap(array: Any) -> bool:
    """Whether an array is a `numpy.memmap` that maps something."""
    return getattr(array, "_mmap", None) is not None


def _product(numbers: tuple[int, ...]) -> int:
    product = 1
    for number in numbers:
        product *= number
    return product


def global_random() -> Any:
    """The random numbers of this process that are behind `random.random` and its like."""
    import random

    return random._inst


def global_numpy_random() -> Any:
    """The random numbers of this process that are behind `numpy.random.rand` and its like."""
    import numpy as np

    return np.random.mtrand._rand


def reseed() -> None:
    """Random numbers of our own: a fork has those of its siblings."""
    random = sys.modules.get("random")
    if random is not None:
        random.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


#: Shared memory in the results that are being pickled.
returned: dict[tuple[int, int], Segment] = {}

#: More of it than this in one message is copied: each takes a descriptor.
MAX_RETURNED = 200


def returning() -> Reducers | None:
    """How a worker pickles results; `returned` has what must go along."""
    returned.clear()
    if not mapped and not received:
        return None
    import numpy as np

    return {np.ndarray: _return, np.memmap: _return_memmap}


def _return(array: Any) -> Any:
    segment = shared_segment(array)
    if segment is None:
        return array.__reduce_ex__(5)
    key = key_of(segment)
    if key not in returned and len(returned) >= MAX_RETURNED:
        return array.__reduce_ex__(5)
    returned[key] = segment
    return load_shared, (key, array.dtype, array.shape, array.strides, segment.offset_of(_address(array)))


def _return_memmap(array: Any) -> Any:
    if is_memmap(array):
        return array.__reduce_ex__(5)
    import numpy as np

    return np.asarray(array).__reduce_ex__(5)  # an argument: the caller has an ordinary array


def hint_for(error: BaseException) -> str | None:
    """What to say of an error that a write to a read-only argument may have raised."""
    if not isinstance(error, (ValueError, TypeError, BufferError)):
        return None
    text = text_of(error).lower()
    if not any(word in text for word in ("read-only", "readonly", "writable", "writeable")):
        return None
    if not any(segment.mode == "r" for segment in received.values()):
        return None
    return (
        "arrays larger than max_nbytes reach worker processes as read-only memory maps: with mmap_mode='c' each task "
        "may write to a copy of its own, with max_nbytes=None all arrays are copied, and what fastpar.shared_array "
        "makes is written by all"
    )


def cannot_return(result: object, error: BaseException) -> TaskPicklingError:
    """The error for a result that cannot be pickled."""
    from fastpar.engines.processes.pickling import culprit

    path, reason = culprit(result, "result") or ("result", error)
    return TaskPicklingError(f"{path} cannot be sent back from the worker: {type(reason).__name__}: {text_of(reason)}")


# ------------------------------------------------------------------------------------------ in the parent


def load_results(body: bytes, fds: list[int], is_packed: int) -> Any:
    """What a worker has sent back. Shared arrays lie over the memory that this process has already."""
    if not is_packed:
        return pickle.loads(body)
    shared: list[Segment] = []  # until there are arrays over them
    pickled, buffers = unpack(body, fds, lambda _, fd, size: shared.append(adopt(Segment.attach(fd, size))))
    return pickle.loads(pickled, buffers=buffers)


def load_shared(
    key: tuple[int, int], dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> Any:
    """An array over shared memory that has come with the message."""
    import numpy as np

    return np.ndarray(shape, dtype, mapped[key], offset, strides)  # type: ignore[arg-type]


#: Modules whose objects we pickle our own way, once they have been imported.
_MODULES = ("random", "numpy", "numpy.random")


class Arrays:
    """The arrays of one call that have been put into segments, each once while it lives.

    An entry is found by the array's identity, and goes when the array does: its weak reference says so, so an id
    that is used again is never mistaken. Owner: the call's thread; but arrays may die in any.

    Parameters
    ----------
    warehouse : Warehouse
        Where the segments come from and go to.
    max_nbytes : int or None
        Arrays from this size on; None for none.
    mode : str or None
        How workers see them; None for copies of their own.
    """

    def __init__(self, warehouse: Warehouse, max_nbytes: int | None, mode: str | None) -> None:
        self._warehouse = warehouse
        self._max_nbytes = sys.maxsize if max_nbytes is None or mode is None else max_nbytes
        self._mode = "r+" if mode in ("w+", None) else mode
        self._numbers: dict[int, tuple[weakref.ref[Any], int]] = {}
        self.segments: dict[int, Segment] = {}
        self._copies: dict[int, Copy] = {}  # those of them that are the warehouse's
        self.gone: list[int] = []  # numbers whose array or function has gone; appended by whoever drops it
        self._n_buried = 0
        self.numbers = itertools.count()
        self.mentioned: dict[int, None] = {}  # numbers in the pickle that is being made
        self._modules: list[str] = []  # that `_reducers` are for
        self._reducers: Reducers | None = None

    @property
    def reducers(self) -> Reducers | None:
        """How a call's arguments are pickled; None, as usual, while nothing that needs it has been imported."""
        modules = [name for name in _MODULES if name in sys.modules]
        if modules != self._modules:
            self._modules = modules
            self._reducers = self._make_reducers()
        return self._reducers

    def _make_reducers(self) -> Reducers:
        reducers: Reducers = {}
        if "random" in self._modules:
            reducers[sys.modules["random"].Random] = _reduce_random
        if "numpy" in self._modules:
            import numpy as np

            reducers |= {np.ndarray: self._reduce, np.memmap: self._reduce}
        if "numpy.random" in self._modules:
            reducers[np.random.RandomState] = _reduce_numpy_random
        return reducers

    def _reduce(self, array: Any) -> Any:
        shared = shared_segment(array)
        if shared is None and array.base is not None:
            place = _place_in_file(array)
            if place is not None:
                return load_memmap, (*place, array.dtype, array.shape, array.strides, is_memmap(array))
        if shared is None and not self._is_stored(array):
            if is_memmap(array):
                import numpy as np

                return load_copy, (np.asarray(array),)
            return array.__reduce_ex__(5)
        if shared is not None:
            number = self._number(shared, shared)
            offset = shared.offset_of(_address(array))
            return load_array, (number, "shared", array.dtype, array.shape, array.strides, offset)
        number = self._number(array, None)
        strides = contiguous_strides(array)
        return load_array, (number, self._mode, array.dtype, array.shape, strides, 0, is_memmap(array))

    def _is_stored(self, array: Any) -> bool:
        """Whether an array has, or gets, a segment."""
        if array.nbytes <= self._max_nbytes or array.dtype.hasobject:
            return False
        entry = self._numbers.get(id(array))
        return len(self._copies) < MAX_STORED or (entry is not None and entry[0]() is array)

    def _number(self, owner: Any, segment: Segment | None) -> int:
        entry = self._numbers.get(id(owner))
        if entry is None or entry[0]() is not owner:
            number = next(self.numbers)
            if segment is None:
                copy = self._copies[number] = self._warehouse.store(owner, is_private=self._mode == "r+")
                segment = copy.segment
            self.segments[number] = segment
            entry = weakref.ref(owner, lambda _, gone=self.gone, number=number: gone.append(number)), number  # type: ignore[misc]
            self._numbers[id(owner)] = entry
        self.mentioned[entry[1]] = None
        return entry[1]

    def hold(self, number: int, pickled: bytes) -> bool:
        """Put a large pickle into a segment of this number, once for all workers. False: it had better go along."""
        self._let_go(number)  # of an earlier pickle of the same
        if len(pickled) < OWN_BYTES or len(self._copies) >= MAX_STORED:
            return False
        copy = self._copies[number] = self._warehouse.hold(pickled)
        self.segments[number] = copy.segment
        return True

    def forgotten_since(self, n: int) -> list[int]:
        """Numbers of what has gone, but for the first n of them. Segments of arrays may be used again."""
        gone = self.gone
        while self._n_buried < len(gone):
            self._let_go(gone[self._n_buried])
            self._n_buried += 1
        return gone[n:] if n < len(gone) else []

    def close(self) -> None:
        """Give all segments back."""
        for number in list(self.segments):
            self._let_go(number)
        self._numbers.clear()

    def _let_go(self, number: int) -> None:
        self.segments.pop(number, None)
        copy = self._copies.pop(number, None)
        if copy is not None:
            self._warehouse.give(copy)


def _reduce_random(generator: Any) -> Any:
    """`random.random` means each process's own generator: a copy of ours would give all workers the same numbers."""
    return (global_random, ()) if generator is global_random() else generator.__reduce__()


def _reduce_numpy_random(generator: Any) -> Any:
    return (global_numpy_random, ()) if generator is global_numpy_random() else generator.__reduce__()


def _address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def contiguous_strides(array: Any) -> tuple[int, ...]:
    """Strides of a copy without gaps: Fortran's if the array has them, else C's."""
    if array.flags.f_contiguous and not array.flags.c_contiguous:
        return tuple(array.itemsize * _product(array.shape[:i]) for i in range(array.ndim))
    return tuple(array.itemsize * _product(array.shape[i + 1 :]) for i in range(array.ndim))


def _place_in_file(array: Any) -> tuple[str, str, int] | None:
    """File, mode and offset of what a memory-mapped array or a view of one shows; None where that is not enough."""
    import mmap

    import numpy as np

    owner, base = array, array.base
    while isinstance(base, np.ndarray):
        owner, base = base, base.base
    if not isinstance(base, mmap.mmap) or not isinstance(owner, np.memmap) or not array.nbytes:
        return None
    if owner.filename is None or owner.mode in (None, "c") or any(step < 0 for step in array.strides):
        return None
    if not os.path.isfile(owner.filename):
        return None
    mode = "r+" if owner.mode == "w+" else owner.mode
    return str(owner.filename), mode, owner.offset + _address(array) - _address(owner)
