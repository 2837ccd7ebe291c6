"""`Parallel`: reads the user's wishes, picks an engine, and hands the call to the run loop.

A `Parallel` object holds settings; the state of a call is in its `Run`. One call at a time: a second one, from whatever
thread, is an error. The other public names of joblib's module of this name are here too.
"""

from __future__ import annotations

from _thread import allocate_lock

from fastpar import config
from fastpar._core.delayed import delayed
from fastpar._core.slots import KEEP
from fastpar._core.threads import run_serial
from fastpar.call import NO_CALL, Call
from fastpar.config import DEFAULTS, Default
from fastpar.engines.active import (
    BACKENDS,
    as_backend,
    check_inner_threads,
    check_options,
    check_task_timeout,
    effective_n_jobs,
    find_backend,
    get_active_backend,
    parallel_backend,
    parallel_config,
    register_parallel_backend,
)
from fastpar.engines.attempts import TaskFailure, make_attempt
from fastpar.engines.backend import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
    ThreadingBackend,
)
from fastpar.engines.base import Plan
from fastpar.engines.batches import BatchedCalls
from fastpar.engines.serial import run_each
from fastpar.errors import BackendUnavailableError, CallInProgressError, keep_results, user_traceback
from fastpar.logger import Logger
from fastpar.progress import parse_progress
from fastpar.runloop import collect, stream

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Any, Literal


__all__ = [
    "BACKENDS",
    "AutoBatchingMixin",
    "BatchedCalls",
    "FallbackToBackend",
    "Parallel",
    "ParallelBackendBase",
    "SequentialBackend",
    "ThreadingBackend",
    "delayed",
    "effective_n_jobs",
    "get_active_backend",
    "parallel_backend",
    "parallel_config",
    "register_parallel_backend",
]

class Parallel(Logger):
    """Run independent calls of functions in parallel.

    *Serial equivalent*: ``[f(*args, **kwargs) for f, args, kwargs in tasks]``.

    Parameters
    ----------
    n_jobs : int, optional
        How many tasks run at once. -1 is one for each CPU that this process may use (`cpu_count`), -2 one fewer, and
        so on. By default what `parallel_config` says, else 1: the plain loop in the calling thread. So are threads and
        worker processes where fastpar is imported with ``JOBLIB_MULTIPROCESSING=0`` in the environment.
    backend : str, ParallelBackendBase, concurrent.futures.Executor, optional
        What executes the tasks; default ``"processes"``. A multiprocessing context is accepted for one too.
    return_as : {'list', 'generator', 'generator_unordered'}
        A list; or a generator of the results in the order of the tasks, or as they arrive. A generator reads the
        tasks only so far ahead as `pre_dispatch` says, so neither tasks nor results pile up.
    verbose : int, optional
        Messages on progress: none at 0, more with higher numbers, on stdout from 50 on. Default 0.
    timeout : float, optional
        Seconds that the oldest missing result may stay missing. Not used with one worker. Default None, no limit.
    pre_dispatch : int or str
        How far ahead of finished work the tasks are read, in batches: a number, an expression like the default
        ``"2 * n_jobs"``, or ``"all"``.
    batch_size : int or 'auto'
        How many tasks a worker takes at once. The default ``"auto"`` measures tasks and makes batches as long as their
        overhead asks for, a fraction of a millisecond.
    temp_folder, max_nbytes, mmap_mode : optional
        How large arrays reach worker processes; without effect on threads, which see the arrays themselves.
    prefer : {'processes', 'threads'}, optional
        Hint, for where nobody names a backend.
    require : {'sharedmem'}, optional
        Only a backend whose tasks see the caller's memory will do.
    progress : bool, 'tqdm' or callable, optional
        True: a progress bar on stderr. ``"tqdm"``: one of tqdm. A callable is called with ``(done, total, failed)``,
        total being None while it is not known.
    on_error : {'raise', 'return'}
        What a task's exception does: it ends the call; or a `TaskFailure` takes the place of the result, and the
        call goes on. `SystemExit`, `KeyboardInterrupt` and the like end it in any case.
    retries : int
        How often a task that has failed is tried again, before that. Also one whose worker process has died, or was
        killed by `task_timeout`. Default 0.
    task_timeout : float, optional
        Seconds that one task, or one try of it, may run; past them its worker is killed and replaced. Worker processes
        only; ``n_jobs=1`` then means one of them.
    inner_max_num_threads : int, optional
        BLAS and OpenMP threads of each worker; by default its share of the CPUs.
    **backend_kwargs
        Options of the backend. Of worker processes: ``initializer`` and ``initargs``, called once in each worker (what
        it keeps for tasks of a script or notebook has to be an attribute of an imported module: globals of `__main__`
        travel with each function); ``preload``, modules that are imported in each worker, and before workers are
        forked where it is named before there are any; ``idle_worker_timeout``, seconds after which
        an idle worker ends (300); ``max_tasks_per_worker`` (or ``maxtasksperchild``) and ``max_worker_memory``, past
        which a worker is replaced; ``env``, variables for workers; ``start_method`` (or ``context``): ``"nursery"``,
        the default, ``"spawn"`` or ``"fork"``.

    Raises
    ------
    ValueError, TypeError
        For a wrong argument, naming it and the fix.

    Notes
    -----
    The first task that raises stops the run, whatever its place: its exception arrives as it is, with a note that
    names the task; from a worker process as an equal one, and as a `fastpar.errors.RemoteTaskError` if it cannot be
    pickled. Queued tasks are dropped, running ones are let go; where a list was asked for, the results that were
    there by then are in ``fastpar.errors.finished_results(error)``. An exception of the iterable arrives as it is
    too, when the running tasks have ended. Ctrl-C stops a run at once.

    The iterable is read in the calling thread alone, ahead of the tasks: one that changes an object which an earlier
    task has may change it for that task, and worker processes have a function, with the object that a method belongs
    to, as it was when they first needed it in the call. Give each task an object of its own.

    One call at a time for each object; different objects may be used in different threads, and inside tasks. A child
    made by `os.fork` can start calls of its own.

    References
    ----------
    joblib 1.6, `joblib.Parallel`. Differences are listed in the README.

    Examples
    --------
    >>> from math import sqrt
    >>> from fastpar import Parallel, delayed
    >>> Parallel(n_jobs=2)(delayed(sqrt)(i**2) for i in range(10))
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    """

    def __init__(
        self,
        n_jobs: int | None | Default = DEFAULTS.n_jobs,
        backend: Any = DEFAULTS.backend,
        return_as: Literal["list", "generator", "generator_unordered"] = "list",
        verbose: float | Default = DEFAULTS.verbose,
        timeout: float | None = None,
        pre_dispatch: int | str = "2 * n_jobs",
        batch_size: int | Literal["auto"] = "auto",
        temp_folder: str | None | Default = DEFAULTS.temp_folder,
        max_nbytes: int | str | None | Default = DEFAULTS.max_nbytes,
        mmap_mode: str | None | Default = DEFAULTS.mmap_mode,
        prefer: str | None | Default = DEFAULTS.prefer,
        require: str | None | Default = DEFAULTS.require,
        *,
        progress: bool | str | Callable[[int, int | None, int], object] | None = None,
        on_error: Literal["raise", "return"] = "raise",
        retries: int = 0,
        task_timeout: float | None = None,
        **backend_kwargs: Any,
    ) -> None:
        super().__init__()
        active, settings = find_backend(config.current(), prefer, require, verbose)
        if backend is not DEFAULTS.backend and backend is not None:
            active = as_backend(backend, active.nesting_level)
        self._backend = active
        if require == "sharedmem" and not active.supports_sharedmem:
            raise ValueError(f"require='sharedmem' excludes {type(active).__name__}: use backend='threading'")
        self.n_jobs = self._resolve_n_jobs(n_jobs, settings)
        is_default = settings is DEFAULTS  # no context, the common case: a short call notices each look at one
        self.verbose = (
            0
            if is_default and verbose is DEFAULTS.verbose
            else config.parse_verbose(config.resolve("verbose", verbose, settings))
        )
        self.timeout = config.parse_timeout(timeout)
        self.pre_dispatch = pre_dispatch
        self.batch_size = batch_size
        self._batch_size = config.parse_batch_size(batch_size) or 0
        config.parse_choice("return_as", return_as)
        self.return_as = return_as
        if self.return_generator and not active.supports_return_generator:
            raise ValueError(f"return_as={return_as!r} excludes {type(active).__name__}: only return_as='list' will do")
        self.progress = parse_progress(progress)
        self._attempt = make_attempt(on_error, retries)
        self._failure_type = TaskFailure if on_error == "return" else None
        self._limits_tasks = self._resolve_task_timeout(task_timeout, backend_kwargs)
        self._backend_kwargs = self._resolve_options(
            settings,
            backend_kwargs,
            temp_folder=temp_folder,
            max_nbytes=max_nbytes,
            mmap_mode=mmap_mode,
            prefer=prefer,
            require=require,
        )
        self._lock = allocate_lock()  # held for the moment of a claim
        self._call = NO_CALL  # the current one, or the latest
        self._n_managed = 0  # workers of a backend that stays configured between calls
        self.n_tasks: int | None = None

    def _resolve_n_jobs(self, n_jobs: Any, settings: config.Config) -> int:
        value = config.resolve("n_jobs", n_jobs, settings)
        if value is None:
            value = self._backend.default_n_jobs
        if type(value) is int and value > 0:
            return value
        config.parse_n_jobs(value, 1)  # 0 is an error here already, not when it is called
        return int(value)

    def _resolve_task_timeout(self, task_timeout: float | None, backend_kwargs: dict[str, Any]) -> bool:
        """Whether there is one, from here or from the context; `configure` is given it among the options."""
        if task_timeout is None:
            task_timeout = getattr(self._backend, "backend_kwargs", {}).get("task_timeout")
        if not check_task_timeout(task_timeout, self._backend):
            return False
        backend_kwargs["task_timeout"] = task_timeout
        return True

    def _resolve_options(self, settings: config.Config, given: dict[str, Any], **known: Any) -> dict[str, Any]:
        """What `configure` of a backend is given."""
        inner_threads = given.pop("inner_max_num_threads", self._backend.inner_max_num_threads)
        self._inner_max_num_threads = config.parse_count(inner_threads, "inner_max_num_threads")
        if inner_threads is not None and not isinstance(self._backend, SequentialBackend):  # that may come of nesting
            check_inner_threads(self._backend)
        is_plain = settings is DEFAULTS and not given and not self._backend.takes_options
        if is_plain and tuple(known.values()) == _NOT_GIVEN:
            return _DEFAULT_OPTIONS
        options = {name: config.resolve(name, value, settings) for name, value in known.items()}
        options["max_nbytes"] = config.parse_memory(options["max_nbytes"])
        config.parse_choice("mmap_mode", options["mmap_mode"])
        check_options(given, self._backend, Parallel)
        if self._backend.takes_options:
            options["verbose"] = max(0, self.verbose - 50)  # joblib's rule, for those written for it
        return options | given

    # ---- what users read while a call runs, and after it

    @property
    def return_generator(self) -> bool:
        """Whether calls return a generator."""
        return self.return_as != "list"

    @property
    def return_ordered(self) -> bool:
        """Whether results come in the order of the tasks."""
        return self.return_as != "generator_unordered"

    @property
    def n_dispatched_tasks(self) -> int:
        """Tasks read from the iterable by the current or latest call."""
        return self._call.counts.n_pulled

    @property
    def n_completed_tasks(self) -> int:
        """Tasks of the current or latest call whose result is there."""
        return self._call.counts.n_completed

    @property
    def n_dispatched_batches(self) -> int:
        """Batches that workers of the current or latest call took."""
        return self._call.counts.n_batches

    def print_progress(self) -> None:
        """Show how far the call is, as `verbose` and `progress` ask for.

        Called in the calling thread when tasks have been completed. A subclass may show something else, from
        `n_completed_tasks`, `n_dispatched_tasks` and `n_tasks`.
        """
        call = self._call
        if call.reporter is not None:
            counts = call.counts
            call.reporter.update(counts.n_completed, call.n_total, counts.n_failed)

    # ---- calls

    def __enter__(self) -> Parallel:
        self._n_managed = self._configure_backend()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._n_managed = 0
        if self._call.is_over:  # else when the generator that is still in use ends
            self._backend.terminate()

    def _configure_backend(self) -> int:
        """Let the backend get ready for calls; the number of its workers. It may name another backend in its place."""
        try:
            n_workers = self._backend.configure(n_jobs=self.n_jobs, parallel=self, **self._backend_kwargs)
        except FallbackToBackend as fallback:
            self._backend = fallback.backend
            return self._configure_backend()
        if n_workers == 0:
            raise BackendUnavailableError(f"{type(self._backend).__name__} has no active worker: start some first")
        return n_workers

    def __call__(self, iterable: Iterable[Any]) -> Any:
        """Run the tasks of an iterable.

        Parameters
        ----------
        iterable : iterable
            Tasks, made by ``delayed(function)(arguments)``.

        Returns
        -------
        list or generator
            The results; see `return_as`.

        Raises
        ------
        CallInProgressError
            If an earlier call of this object has not ended; a generator ends when it is exhausted or closed.
        TimeoutError
            See `timeout`.
        """
        call = Call(self)
        try:
            results = self._start(call, iterable)
            if self.return_generator:
                return call.pass_on(results)
            call.end(completed=True)
            return results
        except BaseException as error:  # noqa: BLE001 -- passed on
            call.end(completed=False)
            raise error.with_traceback(user_traceback(error))  # noqa: B904 -- the same error, without our frames

    def _start(self, call: Call, iterable: Iterable[Any]) -> Any:
        """Run the call, or get it under way where it returns a generator."""
        self._claim(call)
        n_workers = self._n_managed or self._configure_backend()
        self.n_tasks = len(iterable) if hasattr(iterable, "__len__") else None  # type: ignore[arg-type]
        call.start_reporting(type(self._backend).__name__, n_workers)
        if self._attempt is not None:
            iterable = self._attempt.tasks(iterable)
        if n_workers > 1 or self._limits_tasks:
            return self._start_engine(call, iterable, n_workers)
        if self.return_generator:
            return run_each(iter(iterable), call.note, self._failure_type)
        results: list[Any] = []
        try:
            if call.watch is None:
                run_serial(iter(iterable), results)
            else:
                for result in run_each(iter(iterable), call.note, self._failure_type):
                    results.append(result)
        except BaseException as error:
            keep_results(error, dict(enumerate(results)))
            raise
        finally:
            call.n_serial = len(results)
        return results

    def _claim(self, call: Call) -> None:
        with self._lock:  # no signal comes between taking a lock with `with` and what follows
            if not self._call.is_over:
                raise CallInProgressError(
                    "this Parallel object is in a call already: exhaust or close the generator of that call first, or "
                    "use another Parallel object"
                )
            self._call = call
            call.is_over = False

    def _start_engine(self, call: Call, iterable: Iterable[Any], n_workers: int) -> Any:
        call.session = self._backend.engine.open(self._plan(iterable, n_workers))
        call.session.run.failure_type = self._failure_type
        limit_ns = None if self.timeout is None else int(self.timeout * 1e9)
        if not self.return_generator:
            return collect(call.session, limit_ns, call.watch)
        results = stream(call.session, limit_ns, call.watch)
        next(results)  # an error of the first step is __call__'s to deal with
        return results

    def _release_backend(self) -> None:
        if not self._n_managed:
            self._backend.terminate()

    def _shows_own_progress(self) -> bool:
        return getattr(self.print_progress, "__func__", None) is not _PRINT_PROGRESS

    def _plan(self, iterable: Iterable[Any], n_workers: int) -> Plan:
        backend, n_jobs = self._backend.get_nested_backend()
        nested = config.current()._replace(backend=backend, n_jobs=DEFAULTS.n_jobs if n_jobs is None else n_jobs)
        pre_dispatch = config.parse_pre_dispatch(self.pre_dispatch, n_workers)
        return Plan(
            source=iter(iterable),
            keep=KEEP[self.return_as],
            n_workers=n_workers,
            n_total=-1 if self.n_tasks is None else self.n_tasks,
            pre_dispatch=-1 if pre_dispatch is None else pre_dispatch,
            batch_size=self._batch_size,
            times_tasks=self.timeout is not None,
            inner_max_num_threads=self._inner_max_num_threads,
            nested_config=nested,
            keeps_backend=self._n_managed > 0,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(n_jobs={self.n_jobs})"


_NOT_GIVEN = (DEFAULTS.temp_folder, DEFAULTS.max_nbytes, DEFAULTS.mmap_mode, DEFAULTS.prefer, DEFAULTS.require)
_DEFAULT_OPTIONS = {
    "temp_folder": None,
    "max_nbytes": config.parse_memory(DEFAULTS.max_nbytes.default_value),
    "mmap_mode": DEFAULTS.mmap_mode.default_value,
    "prefer": None,
    "require": None,
}
_PRINT_PROGRESS = Parallel.print_progress  # to notice a subclass or a user's patch that shows its own
