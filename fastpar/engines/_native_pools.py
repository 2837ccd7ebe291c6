"""The thread pools inside native libraries: which are loaded, and how each is asked and told its size.

threadpoolctl recognises the libraries. Their own functions are then called directly: its setters leave
OpenBLAS alone when another thread has set it before, and a run may end in another thread than it began in.

Looking is cheap and listing is not, so the list is kept. It is made again when a module has been imported
since, and after `KEEP_S` seconds for libraries that arrive without an import (ctypes, MKL's own loading).
threadpoolctl itself is imported only when a library of a known name is loaded.

Any thread may enter, with the GIL or without it: the list is made under a lock and replaced whole. A child
made by fork gets a new lock.
"""

from __future__ import annotations

import sys
from collections import namedtuple
from threading import Lock
from time import monotonic

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

KEEP_S = 1.0  # listing takes up to 0.5 ms with scikit-learn loaded

#: How the file names begin that threadpoolctl knows, as they appear in /proc/self/maps.
NAMES = (
    b"/libgomp",
    b"/libomp",
    b"/libiomp",
    b"/libopenblas",
    b"/libscipy_openblas",
    b"/libblas",
    b"/libmkl_rt",
    b"/libblis",
    b"/libflexiblas",
)

#: Functions that get and set the size, and whether they act on the calling thread alone. An OpenBLAS that is
#: built on OpenMP asks for the calling thread's OpenMP number at each call, so that number is what counts.
FUNCTIONS = {
    "openmp": ("omp_get_max_threads", "omp_set_num_threads", True),
    "mkl": ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads_Local", True),
    "blis": ("bli_thread_get_num_threads", "bli_thread_set_num_threads", False),
    "flexiblas": ("flexiblas_get_num_threads", "flexiblas_set_num_threads", False),
}
#: OpenBLAS with threads of its own: one number for the process, under names that builds decorate.
OPENBLAS_FUNCTIONS = [
    (f"{prefix}openblas_get_num_threads{suffix}", f"{prefix}openblas_set_num_threads{suffix}", False)
    for prefix in ("", "scipy_")
    for suffix in ("", "64_", "_64")
]

#: One of these is imported when numba starts its threads. Before that nothing is limited: asking numba for
#: its number would start them, in programs without a parallel function too, and children that such a program
#: forks would then die in their first one, since numba forbids GNU OpenMP after fork.
NUMBA_LAYERS = ("numba.np.ufunc.omppool", "numba.np.ufunc.tbbpool", "numba.np.ufunc.workqueue")


class NativePool:
    """One library's threads.

    Attributes
    ----------
    name : str
        The library, for people.
    get, set : callable
        Return and change the number of threads.
    per_thread : bool
        Whether they speak of the calling thread's number, or of one for the whole process.
    """

    __slots__ = ("get", "name", "per_thread", "set")

    def __init__(
        self, name: str, get: Callable[[], int], set: Callable[[int], object], *, per_thread: bool
    ) -> None:
        self.name = name
        self.get = get
        self.set = set
        self.per_thread = per_thread

    def __repr__(self) -> str:
        return f"<{self.name}: {self.get()} threads>"


class Found(namedtuple("Found", ["process_wide", "per_thread"])):
    """The pools that are loaded, by what their functions act on."""

    __slots__ = ()
    process_wide: tuple[NativePool, ...]
    per_thread: tuple[NativePool, ...]


class Finder:
    """Keeps the list of pools. A pool, once found, stays the same object: runs keep numbers by it."""

    def __init__(self) -> None:
        self._pools: dict[str, NativePool] = {}
        self._libraries: frozenset[bytes] | None = frozenset()
        self._found = Found((), ())
        self._n_modules = -1
        self._expires = 0.0
        self.renew_lock()

    def renew_lock(self) -> None:
        """Begin with a free lock: in a forked child the old one may be held by a thread that is gone."""
        self._lock = Lock()

    def find(self) -> Found:
        """Return the pools that are loaded now."""
        if len(sys.modules) != self._n_modules or monotonic() >= self._expires:
            with self._lock:
                self._look_again()
        return self._found

    def _look_again(self) -> None:
        n_modules = len(sys.modules)  # before the look: what is imported during it is looked for next time
        libraries = loaded_libraries()
        if libraries is None or libraries != self._libraries:
            self._add_libraries()
            self._libraries = libraries
        if "numba" not in self._pools and not sys.modules.keys().isdisjoint(NUMBA_LAYERS):
            self._pools["numba"] = _numba_pool()
        pools = self._pools.values()
        self._found = Found(
            tuple(pool for pool in pools if not pool.per_thread),
            tuple(pool for pool in pools if pool.per_thread),
        )
        self._n_modules, self._expires = n_modules, monotonic() + KEEP_S

    def _add_libraries(self) -> None:
        from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

        for library in ThreadpoolController().lib_controllers:
            if library.filepath not in self._pools:
                self._pools[library.filepath] = _bind(library)


def loaded_libraries() -> frozenset[bytes] | None:
    """Return the loaded libraries with a known name, None where the system does not list its mappings."""
    try:
        with open("/proc/self/maps", "rb") as file:
            maps = file.read()
    except OSError:
        return None
    return frozenset(path for name in NAMES for path in _paths_with(name, maps))


def _paths_with(name: bytes, maps: bytes) -> Iterator[bytes]:
    """Yield the path of each line that holds `name`; searching is far faster than splitting all lines."""
    at = maps.find(name)
    while at >= 0:
        end = maps.find(b"\n", at)
        yield maps[maps.rfind(b" ", 0, at) : end]
        at = maps.find(name, end)


def _bind(library: Any) -> NativePool:
    """Return the pool of a library that threadpoolctl recognised."""
    get, set, per_thread = library.get_num_threads, library.set_num_threads, False
    for get_name, set_name, is_per_thread in _candidates(library):
        try:
            get, set = getattr(library.dynlib, get_name), getattr(library.dynlib, set_name)
        except AttributeError:
            continue  # a build that names its functions otherwise
        per_thread = is_per_thread
        break
    return NativePool(f"{library.internal_api} in {library.filepath}", get, set, per_thread=per_thread)


def _candidates(library: Any) -> list[tuple[str, str, bool]]:
    """Return the names its functions may have; none for a kind that others registered with threadpoolctl."""
    kind = library.internal_api
    if kind == "openblas" and library.threading_layer != "openmp":
        return OPENBLAS_FUNCTIONS
    if kind == "openmp" and library.prefix == "vcomp":
        return [(*FUNCTIONS["openmp"][:2], False)]  # Microsoft's keeps one number for the process
    functions = FUNCTIONS.get("openmp" if kind == "openblas" else kind)
    return [functions] if functions else []


def _numba_pool() -> NativePool:
    """Return numba's threads. The caller's number is within its maximum, and so is anything smaller."""
    numba: Any = sys.modules["numba"]
    return NativePool("numba", numba.get_num_threads, numba.set_num_threads, per_thread=True)
