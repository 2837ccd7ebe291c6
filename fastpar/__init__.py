"""Embarrassingly parallel loops with joblib's API on a compiled core.

    from fastpar import Parallel, delayed
    Parallel(n_jobs=4)(delayed(f)(x) for x in xs)
"""

from __future__ import annotations

from os.path import dirname, isdir, join

from fastpar.cpu import cpu_count
from fastpar.engines.threads import shutdown
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

__version__ = "0.1.0"

__all__ = [
    "Logger",
    "Parallel",
    "ParallelBackendBase",
    "PrintTime",
    "cpu_count",
    "delayed",
    "effective_n_jobs",
    "get_include",
    "parallel_backend",
    "parallel_config",
    "register_parallel_backend",
    "shutdown",
    "wrap_non_picklable_objects",
]


def get_include() -> str:
    """The directory of the C headers that fastpar's .pxd files declare, for ``Extension(include_dirs=[...])``."""
    package = dirname(__file__)
    installed = join(package, "include")
    return installed if isdir(installed) else join(dirname(package), "src_c")  # the second in a checkout


#: Imported with the first use of one of them.
_OF_KERNELS = ("KernelError", "kernel", "kernel_map", "parallel_for", "parallel_reduce")


def __getattr__(name: str) -> object:
    if name == "kernels" or name in _OF_KERNELS:
        from importlib import import_module

        kernels = import_module("fastpar.kernels")
        return kernels if name == "kernels" else getattr(kernels, name)
    raise AttributeError(f"module 'fastpar' has no attribute {name!r}")
