"""The names that authors of backends import from joblib's module of this name; here they come from `engines.backend`.

`LokyBackend` and `MultiprocessingBackend` are missing: fastpar's processes are no subclasses of what those were.
"""

from fastpar.engines.backend import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
    ThreadingBackend,
)

__all__ = ["AutoBatchingMixin", "FallbackToBackend", "ParallelBackendBase", "SequentialBackend", "ThreadingBackend"]
