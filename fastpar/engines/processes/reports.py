"""How an exception travels from a worker to the caller: as itself where it can, else as a `RemoteTaskError`."""

from __future__ import annotations

import _pickle as pickle  # the C half: the other takes milliseconds to import

from fastpar.engines.processes.arguments import hint_for
from fastpar.engines.processes.pickling import dumps
from fastpar.errors import RemoteTaskError, RemoteTraceback, add_note, set_attribute, text_of, user_traceback

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from typing import Any

    #: The pickled exception or None, its type's name, its text, its traceback as text, its notes.
    Description = tuple[bytes | None, str, str, str, list[str]]


def describe_error(error: BaseException) -> Description:
    """An exception in pieces that arrive in any case. In the worker."""
    hint = hint_for(error)
    if hint is not None:
        add_note(error, hint)
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    pickled = None
    try:
        pickled = dumps(error)[0]
        pickle.loads(pickled)  # many can be pickled, and then not made again
    except Exception:  # noqa: BLE001 -- whatever the user's class raises
        pickled = None
    return pickled, kind, text_of(error), _traceback_of(error), _notes_of(error)


def _traceback_of(error: BaseException) -> str:
    import traceback

    frames = user_traceback(error)
    try:
        return "".join(traceback.format_exception(type(error), error, frames))
    except Exception:  # noqa: BLE001 -- whatever the attributes of the user's class raise
        return "".join([*traceback.format_tb(frames), f"{type(error).__qualname__}: {text_of(error)}"])


def _notes_of(error: BaseException) -> list[str]:
    """The notes, if they are any: they may be anything that the user has put there."""
    try:
        return [str.__str__(str(note)) for note in getattr(error, "__notes__", None) or ()]
    except Exception:  # noqa: BLE001 -- whatever the user's classes raise
        return []


def restore_error(description: Description) -> BaseException:
    """The exception that a description is of. In the parent."""
    pickled, kind, text, told, notes = description
    error: Any = None
    if pickled is not None:
        try:
            error = pickle.loads(pickled)
        except Exception:  # noqa: BLE001 -- whatever the user's class raises
            error = None
    if not isinstance(error, BaseException):
        error = RemoteTaskError(kind, text)
    if notes and not _notes_of(error):
        set_attribute(error, "__notes__", notes)
    set_attribute(error, "__cause__", RemoteTraceback(told))
    return error  # type: ignore[no-any-return]
