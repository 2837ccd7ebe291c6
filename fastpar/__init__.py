"""Embarrassingly parallel loops with joblib's API on a compiled core.

    from fastpar import Parallel, delayed
    Parallel(n_jobs=4)(delayed(f)(x) for x in xs)
"""

from __future__ import annotations

from os.path import dirname, isdir, join

from fastpar.cpu import cpu_count
from fastpar.engines.active import shutdown
from fastpar.logger import Logger, PrintTime
from fastpar.parallel import (
    Parallel,
    ParallelBackendBase,
    delayed,
    effective_n_jobs,
    parallel_backend,
    parallel_config,
    register_parallel_backend,
)
from fastpar.wrapping import wrap_non_picklable_objects

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from fastpar.arrays import shared_array, shared_empty
    from fastpar.engines.attempts import TaskFailure
    from fastpar.errors import KernelError
    from fastpar.hashing import hash
    from fastpar.kernels import kernel, kernel_map, parallel_for, parallel_reduce
    from fastpar.memory import MemorizedResult, Memory, StoreBackendBase, expires_after, register_store_backend
    from fastpar.persist import dump, load, register_compressor

__version__ = "0.1.0"

__all__ = [
    "KernelError",
    "Logger",
    "MemorizedResult",
    "Memory",
    "Parallel",
    "ParallelBackendBase",
    "PrintTime",
    "StoreBackendBase",
    "TaskFailure",
    "cpu_count",
    "delayed",
    "dump",
    "effective_n_jobs",
    "expires_after",
    "get_include",
    "hash",
    "kernel",
    "kernel_map",
    "load",
    "parallel_backend",
    "parallel_config",
    "parallel_for",
    "parallel_reduce",
    "register_compressor",
    "register_parallel_backend",
    "register_store_backend",
    "shared_array",
    "shared_empty",
    "shutdown",
    "wrap_non_picklable_objects",
]

#: Names that are imported when they are first used, since a loop needs none of them, and where they are.
_LATE = {
    "KernelError": "errors",
    "MemorizedResult": "memory",
    "Memory": "memory",
    "StoreBackendBase": "memory",
    "TaskFailure": "engines.attempts",
    "dump": "persist",
    "expires_after": "memory",
    "hash": "hashing",
    "kernel": "kernels",
    "kernel_map": "kernels",
    "load": "persist",
    "parallel_for": "kernels",
    "parallel_reduce": "kernels",
    "register_compressor": "persist",
    "register_store_backend": "memory",
    "shared_array": "arrays",
    "shared_empty": "arrays",
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _LATE:
        value = globals()[name] = getattr(import_module(f"fastpar.{_LATE[name]}"), name)
        return value
    if name in _LATE.values():
        return import_module(f"fastpar.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


def get_include() -> str:
    """The directory of the C headers that fastpar's .pxd files declare, for ``Extension(include_dirs=[...])``."""
    package = dirname(__file__)
    installed = join(package, "include")
    return installed if isdir(installed) else join(dirname(package), "src_c")  # the second in a checkout
