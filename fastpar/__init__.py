"""Embarrassingly parallel loops with joblib's API on a compiled core.

    from fastpar import Parallel, delayed
    Parallel(n_jobs=4)(delayed(f)(x) for x in xs)
"""

from __future__ import annotations

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
    "parallel_backend",
    "parallel_config",
    "register_parallel_backend",
    "shutdown",
    "wrap_non_picklable_objects",
]
