"""The exceptions and warnings that fastpar itself raises.

A task's own exception always arrives as itself; the types here are for what goes wrong around the tasks.
"""

from __future__ import annotations

import os
from contextlib import suppress

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    import reprlib
    from types import TracebackType
    from typing import Any

_PACKAGE = __file__.rpartition("errors")[0]
_NOTE = "in task"
_KEPT = "_fastpar_results"

#: An exception object that is raised again and again keeps the notes of the latest calls only.
MAX_NOTES = 8


class FastparError(Exception):
    """Base class of the errors that fastpar raises on its own account."""


class BackendUnavailableError(FastparError, ValueError):
    """The requested backend is known, but cannot be used here: not built yet, or its package is missing."""


class CallInProgressError(FastparError, RuntimeError):
    """A `Parallel` object was called while an earlier call of the same object had not ended."""


class ForkedRunError(FastparError, RuntimeError):
    """A run was continued in a child made by `os.fork`: its workers exist in the parent process only."""


class KernelError(FastparError):
    """A compiled kernel returned a status other than 0, and its loop stopped.

    Attributes
    ----------
    index : int
        Where: the lowest index among those that failed before the loop stopped.
    code : int
        What the kernel returned.
    """

    def __init__(self, index: int, code: int) -> None:
        super().__init__(index, code)
        self.index = index
        self.code = code

    def __str__(self) -> str:
        return f"the kernel returned {self.code} at index {self.index}"


class UnhashableError(FastparError, TypeError):
    """`fastpar.hash` met an object that has no value to hash; the message names the path to it."""


class PersistError(FastparError):
    """A file could not be written or read by `dump` or `load`."""


class ForeignFileError(PersistError, ValueError):
    """The file was written neither by fastpar nor by joblib or pickle."""


class CorruptFileError(PersistError, ValueError):
    """The file's content does not match its checksums or breaks its format."""


class TruncatedFileError(CorruptFileError, EOFError):
    """The file ends before its content does."""


class NewerFileError(PersistError, ValueError):
    """The file has a format that this version of fastpar does not know yet."""


class UntrustedFileError(PersistError, ValueError):
    """The file names a global that `load(trusted=False)` refuses; the message names it."""


class CodecUnavailableError(PersistError, ValueError):
    """The compressor exists, but its package is not installed, or it is not registered."""


class MemoryWriteWarning(UserWarning):
    """A result could not be stored. It was returned all the same, and will be computed again."""


class JobLibCollisionWarning(UserWarning):
    """Two functions that the cache cannot tell apart share their results."""


def add_task_note(error: BaseException, index: int, task: tuple[object, tuple[object, ...], dict[str, object]]) -> None:
    """Say on a task's own exception which task it was: PEP 678, shown below the traceback.

    Parameters
    ----------
    error : BaseException
        What the task raised; left as it is but for the note.
    index : int
        Place of the task in the iterable.
    task : tuple
        ``(function, args, kwargs)``.
    """
    with suppress(Exception):  # notes that are no list are not ours
        notes = getattr(error, "__notes__", None) or []
        ours = [place for place, text in enumerate(notes) if str(text).startswith(_NOTE)]
        if len(ours) >= MAX_NOTES:
            del notes[ours[0]]
    add_note(error, f"{_NOTE} {index} of fastpar.Parallel: {describe_call(*plain_task(task))}")


def plain_task(
    task: tuple[Any, tuple[Any, ...], dict[str, Any]],
) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The user's task within a callable of ours that runs it, which knows it; any other task as it is."""
    find = getattr(type(task[0]), "_plain_task", None)
    return task if find is None else find(task)


def add_note(error: BaseException, note: str) -> None:
    """What ``error.add_note`` does; Python 3.10 has no such method, but its tools read the attribute."""
    with suppress(Exception):  # notes that are no list are not ours
        notes = getattr(error, "__notes__", None) or []
        notes.append(note)
        set_attribute(error, "__notes__", notes)


def set_attribute(error: BaseException, name: str, value: object) -> None:
    """Set an attribute of a user's exception, also where its class forbids it, as a frozen dataclass does."""
    with suppress(Exception):  # a property is in the way: the error matters more than what we have to add
        BaseException.__setattr__(error, name, value)


def text_of(error: BaseException) -> str:
    """What ``str(error)`` gives, whatever the class of a user's exception does instead."""
    try:
        return str.__str__(str(error))  # of a subclass of str, which need not be picklable, the text alone
    except Exception:  # noqa: BLE001 -- whatever the user's class raises
        return "(its text cannot be had)"


def finished_results(error: BaseException) -> dict[int, Any]:
    """The results of a call that ended with this exception: those that it had when it ended.

    Parameters
    ----------
    error : BaseException
        What a call of `Parallel` raised: a task's exception, a timeout, a `KeyboardInterrupt`, ...

    Returns
    -------
    dict
        The results by the index of their task. Empty for an exception of anything else, and for calls that return
        generators, whose results are with the reader. They live as long as the exception, and do not travel with it
        to other processes.

    Examples
    --------
    >>> from fastpar import Parallel, delayed
    >>> from fastpar.errors import finished_results
    >>> try:
    ...     Parallel(n_jobs=1)(delayed(divmod)(7, x) for x in (3, 2, 0, 1))
    ... except ZeroDivisionError as error:
    ...     finished_results(error)
    {0: (2, 1), 1: (3, 1)}
    """
    kept = getattr(error, _KEPT, None)
    return kept.results if isinstance(kept, _Kept) else {}


def keep_results(error: BaseException, results: dict[int, Any]) -> None:
    """Have `finished_results` find them."""
    set_attribute(error, _KEPT, _Kept(results))


class _Kept:
    """The results on an exception; they stay behind when it is pickled or copied."""

    __slots__ = ("results",)

    def __init__(self, results: dict[int, Any]) -> None:
        self.results = results

    def __reduce__(self) -> tuple[Any, ...]:
        return _Kept, ({},)


def describe_call(function: object, args: tuple[object, ...], kwargs: dict[str, object]) -> str:
    """A call as one line of bounded length, whatever the arguments are."""
    import reprlib

    brief = reprlib.Repr()
    brief.maxother = brief.maxstring = 80
    shown = [_one_line(brief, value) for value in args[:8]]
    shown += [f"{key}={_one_line(brief, value)}" for key, value in list(kwargs.items())[:8]]
    if len(args) > 8 or len(kwargs) > 8:
        shown.append("...")
    return f"{_name_of(function) or _one_line(brief, function)}({', '.join(shown)})"


def _name_of(function: object) -> object:
    try:
        return getattr(function, "__qualname__", None)
    except Exception:  # noqa: BLE001 -- whatever a __getattr__ of the user's raises
        return None


def _one_line(brief: reprlib.Repr, value: object) -> str:
    try:
        return " ".join(brief.repr(value).split())
    except Exception:  # noqa: BLE001 -- what stands for another object, and refuses even to say its class
        return f"<{type(value).__name__}>"


def user_traceback(error: BaseException) -> TracebackType | None:
    """The traceback of an error from the first frame that is not fastpar's on: how it got to us is our affair.

    None where all are ours: a frame keeps those that called it, and with them what the call held. All of it where
    FASTPAR_FULL_TRACEBACK is set.
    """
    traceback = error.__traceback__
    if os.environ.get("FASTPAR_FULL_TRACEBACK"):
        return traceback
    while traceback is not None and _is_ours(traceback.tb_frame.f_code.co_filename):
        traceback = traceback.tb_next
    return traceback


def _is_ours(filename: str) -> bool:
    return filename.startswith((_PACKAGE, "fastpar/"))  # compiled modules have relative names


def timeout_error(message: str) -> Exception:
    """An error that is both Python's `TimeoutError` and multiprocessing's, which joblib raises."""
    import multiprocessing

    class TaskTimeoutError(FastparError, TimeoutError, multiprocessing.TimeoutError):
        """A task took longer than `timeout`."""

    return TaskTimeoutError(message)


class RemoteTaskError(FastparError, RuntimeError):
    """A task raised an exception that cannot be sent to this process: its type and text, in place of itself.

    Attributes
    ----------
    type_name : str
        Module and name of the exception's class.
    text : str
        What it said.
    """

    def __init__(self, type_name: str, text: str) -> None:
        super().__init__(type_name, text)
        self.type_name = type_name
        self.text = text

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text}" if self.text else self.type_name


class RemoteTraceback(Exception):  # noqa: N818 -- the cause that is shown above an exception from a worker, never raised
    """The traceback of an exception in the worker process, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"in the worker process\n{self.text.rstrip()}"


class TaskPicklingError(FastparError, TypeError):
    """An argument or a result cannot be sent between processes; the message names the part that cannot."""


class TerminatedWorkerError(FastparError, RuntimeError):
    """A worker process ended while it had a task: killed, crashed, or out of memory.

    Attributes
    ----------
    exitcode : int or None
        As in `subprocess`: negative for a signal. None: not known.
    """

    def __init__(self, message: str, exitcode: int | None = None) -> None:
        super().__init__(message, exitcode)
        self.exitcode = exitcode

    def __str__(self) -> str:
        return str(self.args[0])


class WorkerStartError(FastparError, OSError):
    """A worker process could not be started."""
