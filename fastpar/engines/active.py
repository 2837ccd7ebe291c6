"""Which backend a call uses: the registry of names, the context managers that set one, and the rule that picks it.

The rule: the argument of `Parallel`, then the innermost `parallel_config`, then the default; ``prefer`` decides where
nobody named a backend, ``require="sharedmem"`` overrules a backend whose workers are processes. The settings live in a
contextvar (`config`), so every thread and every asyncio task has its own; the registry is shared, written under the GIL
or the dict's own lock, one key at a time.
"""

from __future__ import annotations

import sys

from fastpar import config
from fastpar.config import DEFAULTS, Config, Default
from fastpar.engines.backend import ParallelBackendBase, ProcessBackend, SequentialBackend, ThreadingBackend
from fastpar.engines.threads import ENGINE  # now: a child forked while another thread imports it would wait for ever

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

#: Names that users may give, and what makes a backend of them.
BACKENDS: dict[str, Callable[..., ParallelBackendBase]] = {
    "threading": ThreadingBackend,
    "threads": ThreadingBackend,
    "sequential": SequentialBackend,
    "serial": SequentialBackend,
    "processes": ProcessBackend,
    "loky": ProcessBackend,
    "multiprocessing": ProcessBackend,
}

OWN_NAMES = frozenset(BACKENDS)

DEFAULT_BACKEND = "processes"


def available() -> dict[str, str]:
    """The engines of this build, each with one line on its state."""
    lines = {
        "serial": "the plain loop, for n_jobs=1",
        "processes": "worker processes (default); also called loky, multiprocessing",
        "threading": "threads of this process",
        "executor": "any concurrent.futures.Executor, passed as backend=",
    }
    foreign = sorted(set(BACKENDS) - OWN_NAMES)
    lines.update((name, "registered by a third party") for name in foreign)
    return lines


def register_parallel_backend(
    name: str, factory: Callable[..., ParallelBackendBase], make_default: bool = False
) -> None:
    """Make a backend available under a name.

    Parameters
    ----------
    name : str
        What users pass as ``backend=``.
    factory : callable
        Returns a `ParallelBackendBase`; given the user's backend parameters, usually none.
    make_default : bool, default False
        Whether it is used from now on where nobody names a backend.

    Notes
    -----
    Safe in any thread. joblib's contract.
    """
    global DEFAULT_BACKEND  # noqa: PLW0603 -- joblib's contract: a process-wide default
    BACKENDS[name] = factory
    if make_default:
        DEFAULT_BACKEND = name


def make_backend(name: str, nesting_level: int | None, **params: Any) -> ParallelBackendBase:
    """A backend from its name.

    Raises
    ------
    ValueError
        For a name that nobody knows, listing those that are.
    """
    factory = BACKENDS.get(name)
    if factory is not None:
        return as_backend(factory(**params), nesting_level)
    known = ", ".join(repr(known) for known in sorted(BACKENDS))
    raise ValueError(f"backend={name!r} is not known, expected one of {known}, or register_parallel_backend it first")


def as_backend(backend: Any, nesting_level: int | None, **params: Any) -> ParallelBackendBase:
    """A backend from whatever a user may pass for one: a name, an instance, an executor, a multiprocessing context."""
    if isinstance(backend, str):
        return make_backend(backend, nesting_level, **params)
    if params:
        raise ValueError(
            f"backend parameters {sorted(params)} go with a backend's name only: "
            f"pass them to {type(backend).__name__}() itself"
        )
    return _nest(backend if isinstance(backend, ParallelBackendBase) else _adapt(backend), nesting_level)


def _nest(backend: ParallelBackendBase, nesting_level: int | None) -> ParallelBackendBase:
    """The backend, on the level of its surroundings where it has none of its own."""
    if backend.nesting_level is None:
        backend.nesting_level = nesting_level
    return backend


def _adapt(backend: Any) -> ParallelBackendBase:
    futures = sys.modules.get("concurrent.futures")  # whoever has an executor has imported it
    if futures is not None and isinstance(backend, futures.Executor):
        from fastpar.engines.executor import ExecutorBackend

        return ExecutorBackend(backend)
    if hasattr(backend, "Pool") and hasattr(backend, "Lock"):  # joblib's way to pass a multiprocessing context
        return make_backend("multiprocessing", None)
    raise TypeError(
        "backend must be a name, an instance of fastpar's ParallelBackendBase (joblib's own is another class), "
        f"a concurrent.futures.Executor or a multiprocessing context, not {backend!r}"
    )


def find_backend(settings: Config, prefer: Any, require: Any, verbose: Any) -> tuple[ParallelBackendBase, Config]:
    """The backend that the context and the hints ask for, and the settings that go with it.

    Parameters
    ----------
    settings : Config
        Those of the context.
    prefer, require, verbose
        Arguments of `Parallel`; `Default` where not given.
    """
    if prefer is DEFAULTS.prefer and require is DEFAULTS.require and settings is DEFAULTS:
        return make_backend(DEFAULT_BACKEND, 0), settings  # by far the most common case
    prefer = config.parse_choice("prefer", config.resolve("prefer", prefer, settings))
    require = config.parse_choice("require", config.resolve("require", require, settings))
    if prefer == "processes" and require == "sharedmem":
        raise ValueError("prefer='processes' and require='sharedmem' exclude each other: leave one of them out")
    named = config.resolve("backend", DEFAULTS.backend, settings)
    backend = named if named is not None else make_backend(DEFAULT_BACKEND, 0)
    if require == "sharedmem" and not backend.supports_sharedmem:
        if named is not None and config.resolve("verbose", verbose, settings) >= 10:
            print(  # noqa: T201 -- joblib's text, at joblib's level
                f"Using ThreadingBackend as fastpar backend instead of {type(backend).__name__} as the latter does not "
                "provide shared memory semantics."
            )
        return ThreadingBackend(nesting_level=backend.nesting_level), settings._replace(n_jobs=1)
    if prefer == "processes" and named is None and backend.uses_threads:  # the default that somebody has registered
        return ProcessBackend(nesting_level=backend.nesting_level), settings._replace(n_jobs=1)
    if prefer == "threads" and named is None and not backend.uses_threads:
        return ThreadingBackend(nesting_level=backend.nesting_level), settings._replace(n_jobs=1)
    return backend, settings


def get_active_backend(
    prefer: Any = DEFAULTS.prefer, require: Any = DEFAULTS.require, verbose: Any = DEFAULTS.verbose
) -> tuple[ParallelBackendBase, int | None]:
    """The backend that `Parallel` would use here, and the configured n_jobs (None where nobody set one).

    Parameters
    ----------
    prefer : {'processes', 'threads', None}
        Hint for where no backend is named.
    require : {'sharedmem', None}
        Constraint.
    verbose : int
        At 10 and above a fall-back to threads is printed.
    """
    backend, settings = find_backend(config.current(), prefer, require, verbose)
    return backend, config.resolve("n_jobs", DEFAULTS.n_jobs, settings)


def effective_n_jobs(n_jobs: int | None = -1) -> int:
    """How many tasks run at once when `n_jobs` is asked for here.

    Parameters
    ----------
    n_jobs : int or None, default -1
        As for `Parallel`. None is the context's n_jobs, or 1.

    Raises
    ------
    ValueError, TypeError
        For 0, and for what is no integer.
    """
    config.parse_n_jobs(n_jobs, 1)
    if n_jobs == 1:
        return 1
    backend, configured = get_active_backend()
    if n_jobs is None:
        n_jobs = backend.default_n_jobs if configured is None else configured
    return backend.effective_n_jobs(n_jobs)


def shutdown() -> None:
    """End the idle worker threads and worker processes of this process, and wait until they are gone.

    Nobody needs to: they cost next to nothing while they wait, and end with the process. It frees the memory that
    workers hold, and the shared memory kept for them, and has the next call start afresh. Threads still in a task end
    after it. While a call on processes is under way its workers stay with it, and idle ones are told to end but not
    waited for. Safe in any thread.
    """
    ENGINE.pool.close()
    processes = sys.modules.get("fastpar.engines.processes.engine")
    if processes is not None:
        processes.POOL.rest()


#: Options of joblib's process backends. Where tasks run in threads they have no meaning, and no effect; `kill_workers`
#: and `reuse`, which say what becomes of joblib's only pool, have none anywhere.
PROCESS_OPTIONS = frozenset(
    {
        "context",
        "env",
        "idle_worker_timeout",
        "initargs",
        "initializer",
        "kill_workers",
        "max_tasks_per_worker",
        "max_worker_memory",
        "maxtasksperchild",
        "preload",
        "reuse",
        "start_method",
        "task_timeout",
    }
)

#: Arguments of `Parallel` that no context sets.
OF_PARALLEL_ALONE = ("batch_size", "on_error", "pre_dispatch", "progress", "retries", "return_as", "timeout")


def check_options(given: dict[str, Any], backend: ParallelBackendBase, whose: type) -> None:
    """Refuse options that no backend of ours has: most are slips of the pen."""
    unknown = sorted(set(given) - PROCESS_OPTIONS)
    if backend.takes_options or not unknown:
        return
    import difflib
    import inspect

    names = [*inspect.signature(whose).parameters, *PROCESS_OPTIONS]
    close = difflib.get_close_matches(unknown[0], names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    if unknown[0] in OF_PARALLEL_ALONE:
        hint = "; it is one of Parallel's"
    raise TypeError(f"{whose.__name__}() got an unexpected argument {unknown[0]!r}{hint}")


def check_inner_threads(backend: ParallelBackendBase) -> None:
    """Refuse a limit on inner threads where nobody would keep it."""
    if not backend.supports_inner_max_num_threads:
        raise ValueError(f"{type(backend).__name__} cannot limit inner threads: leave inner_max_num_threads out")


def check_task_timeout(task_timeout: float | None, backend: ParallelBackendBase) -> bool:
    """Whether the time of each task is limited.

    Raises
    ------
    ValueError, TypeError
        If that is no time, or the backend cannot end a task.
    """
    if config.parse_timeout(task_timeout, "task_timeout") is None:
        return False
    if not isinstance(backend, ProcessBackend):
        raise ValueError(
            f"task_timeout= needs workers that can be killed, {type(backend).__name__} has none: "
            "use backend='processes'"
        )
    return True


#: How each setting of a context is checked; what they return is for `Parallel` to compute again.
_PARSERS: dict[str, Callable[[Any], object]] = {
    "n_jobs": lambda value: config.parse_n_jobs(value, 1),
    "verbose": config.parse_verbose,
    "temp_folder": config.parse_folder,
    "max_nbytes": config.parse_memory,
    "mmap_mode": lambda value: config.parse_choice("mmap_mode", value),
    "prefer": lambda value: config.parse_choice("prefer", value),
    "require": lambda value: config.parse_choice("require", value),
}


class parallel_config:  # noqa: N801 -- joblib's name
    """Set defaults for the `Parallel` calls of a ``with`` block, or from now on.

    Parameters
    ----------
    backend : str, ParallelBackendBase, Executor or None
        What executes the tasks.
    n_jobs, verbose, temp_folder, max_nbytes, mmap_mode, prefer, require
        Defaults for the arguments of `Parallel` of the same name.
    inner_max_num_threads : int, optional
        BLAS and OpenMP threads of each worker; by default its share of the CPUs.
    **backend_params
        Given to the backend's constructor; `backend` must be a name.

    Raises
    ------
    ValueError, TypeError
        For an unknown backend, for backend parameters without a backend, and for a wrong argument, naming it.

    Notes
    -----
    The settings belong to the calling thread (and asyncio task): other threads do not see them. Without ``with`` they
    hold until `unregister`. joblib's contract.

    Examples
    --------
    >>> from fastpar import Parallel, delayed, parallel_config
    >>> with parallel_config(backend="threading", n_jobs=2):
    ...     Parallel()(delayed(abs)(x) for x in (-1, 2))
    [1, 2]
    """

    def __init__(
        self,
        backend: Any = DEFAULTS.backend,
        *,
        n_jobs: Any = DEFAULTS.n_jobs,
        verbose: Any = DEFAULTS.verbose,
        temp_folder: Any = DEFAULTS.temp_folder,
        max_nbytes: Any = DEFAULTS.max_nbytes,
        mmap_mode: Any = DEFAULTS.mmap_mode,
        prefer: Any = DEFAULTS.prefer,
        require: Any = DEFAULTS.require,
        inner_max_num_threads: int | None = None,
        **backend_params: Any,
    ) -> None:
        self.old_parallel_config = config.current()
        inner_max_num_threads = config.parse_count(inner_max_num_threads, "inner_max_num_threads")
        chosen = self._choose(backend, inner_max_num_threads, backend_params)
        given = {
            "backend": chosen,
            "n_jobs": n_jobs,
            "verbose": verbose,
            "temp_folder": temp_folder,
            "max_nbytes": max_nbytes,
            "mmap_mode": mmap_mode,
            "prefer": prefer,
            "require": require,
        }
        given = {name: value for name, value in given.items() if not isinstance(value, Default)}
        for name, value in given.items():
            if name in _PARSERS:
                _PARSERS[name](value)
        self.parallel_config = self.old_parallel_config._replace(**given)
        config.activate(self.parallel_config)

    def _choose(self, backend: Any, inner_max_num_threads: int | None, params: dict[str, Any]) -> Any:
        if isinstance(backend, Default) or backend is None:
            if inner_max_num_threads is not None or params:
                named = "inner_max_num_threads" if inner_max_num_threads is not None else ", ".join(sorted(params))
                raise ValueError(f"{named}: an option of a backend needs one; write parallel_config(backend=..., ...)")
            return backend
        outer = config.resolve("backend", DEFAULTS.backend, self.old_parallel_config)
        chosen = as_backend(backend, None, **params)
        check_options(params, chosen, parallel_config)
        if not chosen.takes_options:
            check_task_timeout(params.get("task_timeout"), chosen)
        if inner_max_num_threads is not None:
            check_inner_threads(chosen)
            chosen.inner_max_num_threads = inner_max_num_threads
        if chosen.nesting_level is None:
            chosen.nesting_level = 0 if outer is None else outer.nesting_level
        return chosen

    def __enter__(self) -> Any:
        return self.parallel_config

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.unregister()

    def unregister(self) -> None:
        """Put the settings back that held before."""
        config.activate(self.old_parallel_config)


class parallel_backend(parallel_config):  # noqa: N801 -- joblib's name
    """Set the backend for the `Parallel` calls of a ``with`` block: `parallel_config` with joblib's older signature.

    Parameters
    ----------
    backend : str or ParallelBackendBase
        What executes the tasks.
    n_jobs : int, default -1
        All CPUs unless said otherwise.
    inner_max_num_threads : int, optional
        BLAS and OpenMP threads of each worker.
    **backend_params
        Given to the backend's constructor.

    Notes
    -----
    Entering it gives the pair ``(backend, n_jobs)``.
    """

    def __init__(
        self, backend: Any, n_jobs: int = -1, inner_max_num_threads: int | None = None, **backend_params: Any
    ) -> None:
        super().__init__(backend, n_jobs=n_jobs, inner_max_num_threads=inner_max_num_threads, **backend_params)

    def __enter__(self) -> tuple[ParallelBackendBase, int]:
        return self.parallel_config.backend, self.parallel_config.n_jobs
