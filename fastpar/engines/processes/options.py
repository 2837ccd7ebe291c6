"""What users may ask of worker processes."""

from __future__ import annotations

from collections import namedtuple

from fastpar.config import parse_memory
from fastpar.engines.processes.places import find_folder

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from typing import Any

    from fastpar.engines.processes.worker import Worker

START_METHODS = ("nursery", "spawn", "fork")


class Initializer:
    """What each worker calls before its first task: a function and its arguments."""

    __slots__ = ("args", "function")

    def __init__(self, function: Any, args: tuple[Any, ...]) -> None:
        self.function = function
        self.args = args

    def __eq__(self, other: object) -> bool:
        """Whether workers that one has been called in can do for the other."""
        if not isinstance(other, Initializer):
            return False
        try:
            return bool((self.function, self.args) == (other.function, other.args))
        except Exception:  # noqa: BLE001 -- of what cannot be compared, like arrays, nobody knows whether it is the same
            return False

    __hash__ = None  # type: ignore[assignment]


class WorkerOptions(namedtuple("WorkerOptions", ["initializer", "idle_s", "max_tasks", "max_bytes", "folder"])):
    """The part that workers are told.

    Attributes
    ----------
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
        if self.initializer is not None:
            self.initializer.function(*self.initializer.args)


class Options(
    namedtuple(
        "Options", ["start_method", "preload", "max_nbytes", "mmap_mode", "task_timeout_ns", "for_worker"]
    )
):
    """All of them, checked.

    Attributes
    ----------
    start_method : str
        One of `START_METHODS`.
    preload : tuple of str
        Modules that the nursery imports before the first worker is forked.
    max_nbytes : int or None
        Arguments larger than this arrive as memory-mapped arrays; None: none does.
    mmap_mode : str or None
        The mode that they arrive in.
    task_timeout_ns : int
        How long one task may run; 0 for no limit.
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
    """Options from what `Parallel` was given; unknown names have been refused before."""
    initializer = given.get("initializer")
    workers = WorkerOptions(
        None if initializer is None else Initializer(initializer, tuple(given.get("initargs") or ())),
        float(given.get("idle_worker_timeout") or 300.0),
        int(given.get("max_tasks_per_worker") or given.get("maxtasksperchild") or 0),
        parse_memory(given.get("max_worker_memory"), "max_worker_memory") or 0,
        find_folder(given.get("temp_folder")),
    )
    return Options(
        _start_method(given),
        tuple(given.get("preload") or ()),
        given.get("max_nbytes"),
        given.get("mmap_mode"),
        int((given.get("task_timeout") or 0) * 1e9),
        workers,
    )


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
