"""What users may ask of worker processes."""

from __future__ import annotations

from collections import namedtuple

from fastpar.config import parse_count, parse_folder, parse_memory, parse_timeout
from fastpar.engines.processes.places import find_folder
from fastpar.errors import add_note, describe_call

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from typing import Any

    from fastpar.engines.processes.worker import Worker

#: A worker without work for so long ends.
IDLE_S = 300.0

START_METHODS = ("nursery", "spawn", "fork")


class Initializer:
    """What each worker calls before its first task: a function and its arguments."""

    __slots__ = ("args", "function")

    def __init__(self, function: Any, args: tuple[Any, ...]) -> None:
        self.function = function
        self.args = args

    def call(self) -> None:
        """In the worker."""
        try:
            self.function(*self.args)
        except BaseException as error:
            add_note(error, f"in the initializer of a worker process: {describe_call(self.function, self.args, {})}")
            raise

    def __eq__(self, other: object) -> bool:
        """Whether workers that one has been called in can do for the other."""
        if not isinstance(other, Initializer):
            return False
        try:
            return bool((self.function, self.args) == (other.function, other.args))
        except Exception:  # noqa: BLE001 -- of what cannot be compared, like arrays, nobody knows whether it is the same
            return False

    __hash__ = None  # type: ignore[assignment]


class WorkerOptions(
    namedtuple("WorkerOptions", ["preload", "initializer", "idle_s", "max_tasks", "max_bytes", "folder"])
):
    """The part that workers are told.

    Attributes
    ----------
    preload : tuple of str
        Modules that each imports, unless the nursery had done so before it was forked.
    initializer : Initializer or None
    idle_s : float
        A worker without work for so long ends.
    max_tasks, max_bytes : int
        A worker that has run so many tasks, or has grown so large, is replaced; 0 for no limit.
    folder : str or None
        Where segments are made; None: in memory.
    """

    __slots__ = ()

    def enter(self, worker: Worker) -> None:
        """Take the options over. In the worker."""
        worker.idle_ns = int(self.idle_s * 1e9)
        worker.max_tasks = self.max_tasks
        worker.max_bytes = self.max_bytes
        worker.use_folder(self.folder)
        for name in self.preload:
            _import(name)
        if self.initializer is not None:
            self.initializer.call()


def _import(name: str) -> None:
    from importlib import import_module

    try:
        import_module(name)
    except BaseException as error:
        add_note(error, f"in a worker process, of preload={name!r}")
        raise


class Options(
    namedtuple(
        "Options", ["start_method", "max_nbytes", "mmap_mode", "task_timeout_ns", "env", "for_worker"]
    )
):
    """All of them, checked.

    Attributes
    ----------
    start_method : str
        One of `START_METHODS`.
    max_nbytes : int or None
        Arguments larger than this arrive as memory-mapped arrays; None: none does.
    mmap_mode : str or None
        The mode that they arrive in.
    task_timeout_ns : int
        How long one task may run; 0 for no limit.
    env : dict
        Variables that workers have beside, or in place of, the caller's.
    for_worker : WorkerOptions
        What workers are told.
    """

    __slots__ = ()

    @property
    def folder(self) -> str | None:
        """Where segments are made; None: in memory."""
        return self.for_worker.folder  # type: ignore[no-any-return]

    @property
    def kind(self) -> tuple[str, Initializer | None]:
        """Workers of one kind can stand in for each other."""
        return self.start_method, self.for_worker.initializer


def parse(given: dict[str, Any]) -> Options:
    """Options from what `Parallel` was given; unknown names have been refused before.

    Raises
    ------
    ValueError, TypeError
        For a value that makes no sense, naming the option.
    """
    preload = given.get("preload") or ()
    idle_s = parse_timeout(given.get("idle_worker_timeout"), "idle_worker_timeout")
    timeout_s = parse_timeout(given.get("task_timeout"), "task_timeout")
    workers = WorkerOptions(
        (preload,) if isinstance(preload, str) else tuple(preload),
        _initializer(given.get("initializer"), given.get("initargs") or ()),
        IDLE_S if idle_s is None else idle_s,
        _max_tasks(given),
        parse_memory(given.get("max_worker_memory"), "max_worker_memory") or 0,
        find_folder(parse_folder(given.get("temp_folder"))),
    )
    return Options(
        _start_method(given),
        given.get("max_nbytes"),
        given.get("mmap_mode"),
        0 if timeout_s is None else int(timeout_s * 1e9),
        _env(given.get("env") or {}),
        workers,
    )


def _initializer(function: Any, args: Any) -> Initializer | None:
    if function is None:
        if args:
            raise ValueError("initargs= is for an initializer, and there is none: write initializer=...")
        return None
    if not callable(function):
        raise TypeError(f"initializer must be callable, not {function!r}")
    try:
        return Initializer(function, tuple(args))
    except TypeError:
        raise TypeError(f"initargs must be a tuple of arguments, not {args!r}; write initargs=({args!r},)") from None


def _max_tasks(given: dict[str, Any]) -> int:
    ours, joblibs = (parse_count(given.get(name), name) for name in ("max_tasks_per_worker", "maxtasksperchild"))
    if ours and joblibs and ours != joblibs:
        raise ValueError("max_tasks_per_worker= and maxtasksperchild= are names of one option: leave one of them out")
    return ours or joblibs or 0


def _env(given: Any) -> dict[str, str]:
    try:
        return dict(given)
    except (TypeError, ValueError):
        raise TypeError(f"env must be a dict of environment variables, not {given!r}") from None


def _start_method(given: dict[str, Any]) -> str:
    """From `start_method=`, or from joblib's `context=`: a name, or a multiprocessing context."""
    wanted = given.get("start_method") or given.get("context")
    if wanted is None:
        return "nursery"
    name = wanted if isinstance(wanted, str) else wanted.get_start_method()
    known = {"nursery": "nursery", "forkserver": "nursery", "loky": "nursery", "spawn": "spawn", "fork": "fork"}
    if name not in known:
        raise ValueError(f"start_method={name!r} is not known, expected one of {', '.join(map(repr, START_METHODS))}")
    return known[name]
