"""What a worker takes over from its caller before it runs tasks: search path, arguments, directory, environment,
shares, filters, what it shall tell of logs and output.

Collected for each call, compared with what the worker was told last, and sent only where it differs.
"""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import suppress

from fastpar import config, cpu
from fastpar.engines.backend import ParallelBackendBase
from fastpar.engines.processes import notes
from fastpar.errors import BackendUnavailableError

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from typing import Any

    from fastpar.engines.base import Plan
    from fastpar.engines.processes.options import Options
    from fastpar.engines.processes.worker import Worker

    Settings = tuple[Any, ...]

#: What BLAS, OpenMP and their like read when they are loaded.
THREAD_VARIABLES = tuple(os.fsencode(name) for name in ParallelBackendBase.MAX_NUM_THREADS_VARS)

#: Tells a worker how deep it is.
DEPTH_VARIABLE = b"FASTPAR_WORKER_DEPTH"
MAX_DEPTH = 3


def collect(plan: Plan, options: Options, n_cpus: int) -> Settings:
    """The settings of a call, comparable with ``==``."""
    if depth() >= MAX_DEPTH:
        raise BackendUnavailableError(
            f"worker processes of worker processes, {MAX_DEPTH} deep. If a module calls Parallel when it is imported, "
            "each worker that imports it does so again: put the call under `if __name__ == '__main__':`"
        )
    nested = plan.nested_config
    backend = nested.backend
    return (
        tuple(sys.path),
        tuple(getattr(sys, "argv", ())),
        _directory(),
        _environment(plan, n_cpus, options.env),
        cpu.share(n_cpus, plan.n_workers, plan.n_workers - 1),
        plan.inner_max_num_threads or max(1, n_cpus // plan.n_workers),
        tuple(warnings.filters),
        nested._replace(backend=(type(backend), getattr(backend, "nesting_level", None))),
        options.for_worker,
        _authkey(),
        _error_state(),
        notes.wanted(),
    )


def _directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it has been removed
        return None


def _environment(plan: Plan, n_cpus: int, more: dict[str, str]) -> dict[bytes, bytes]:
    """Of the call's workers: the caller's, and the shares of the libraries that read theirs there.

    As bytes, which is how the system has it: to decode thirty variables takes longer than all else here.
    """
    environment = dict(os.environ._data)  # type: ignore[attr-defined]
    n_inner = plan.inner_max_num_threads or max(1, n_cpus // plan.n_workers)
    for name in THREAD_VARIABLES:
        if plan.inner_max_num_threads is not None or name not in environment:
            environment[name] = b"%d" % n_inner
    for variable, value in more.items():
        environment[os.fsencode(variable)] = os.fsencode(str(value))
    environment[DEPTH_VARIABLE] = b"%d" % (depth() + 1)
    return environment


def depth() -> int:
    """How many worker processes are between this one and the user's: 0 in the user's own."""
    return int(os.environb.get(DEPTH_VARIABLE, b"0"))


def _authkey() -> bytes | None:
    """What lets a process talk to managers and listeners of this one, if there is any of multiprocessing here."""
    process = sys.modules.get("multiprocessing.process")
    return None if process is None else bytes(process.current_process().authkey)


def _join_multiprocessing(authkey: bytes, number: int) -> None:
    """Be one of the caller's processes to multiprocessing: proxies of managers work, and logs tell who it is."""
    import multiprocessing

    process: Any = multiprocessing.current_process()
    process.authkey = authkey
    process.name = f"FastparProcess-{number}"
    process._identity = (number,)


def _error_state() -> dict[str, str] | None:
    np = sys.modules.get("numpy")
    return np.geterr() if np is not None and hasattr(np, "geterr") else None


def apply(worker: Worker, settings: Settings) -> None:
    """Take settings over. In the worker."""
    path, argv, directory, environment, share, n_inner, *rest = settings
    filters, nested, options, authkey, error_state, wanted = rest
    sys.path[:] = path
    sys.argv = [*argv]
    if directory is not None:
        with suppress(OSError):  # what is relative to it will say so
            os.chdir(directory)
    _take_environment(environment)
    cpu.set_process_share(share)
    _limit_inner_threads(n_inner)
    warnings.resetwarnings()  # which says, too, that what was decided before holds no longer
    warnings.filters[:] = filters  # type: ignore[index]
    kind, level = nested.backend
    config.activate(nested._replace(backend=None if kind is type(None) else kind(nesting_level=level)))
    if authkey is not None:
        _join_multiprocessing(authkey, worker.number)
    if error_state is not None:
        import numpy as np

        np.seterr(**error_state)
    worker.scribe.heed(wanted)
    options.enter(worker)


def _take_environment(environment: dict[bytes, bytes]) -> None:
    for name in set(os.environb) - set(environment):
        del os.environb[name]
    for name, value in environment.items():
        if os.environb.get(name) != value:
            os.environb[name] = value


def _limit_inner_threads(n_inner: int) -> None:
    """Tell the libraries that the nursery has loaded already; those loaded later read the environment."""
    from fastpar.engines._native_pools import Finder

    found = Finder().find()
    for pool in (*found.process_wide, *found.per_thread):
        if pool.get() != n_inner:
            pool.set(n_inner)
