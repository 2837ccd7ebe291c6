"""How an exception travels from a worker to the caller: as itself where it can, else as a `RemoteTaskError`.

As itself means that no constructor of the user's is called: pickle calls the class with `args`, and those are what the
constructor gave to the built-in one, not what it was given itself. So an exception is taken to its parts, its
attributes and what C keeps of it, and made of them. A class that says itself how it is pickled is pickled so.
"""

from __future__ import annotations

import _pickle as pickle  # the C half: the other takes milliseconds to import
import copyreg
from contextlib import suppress
from types import BuiltinFunctionType, GetSetDescriptorType, MemberDescriptorType, WrapperDescriptorType

from fastpar.engines.processes.arguments import hint_for
from fastpar.engines.processes.pickling import dumps
from fastpar.errors import RemoteTaskError, RemoteTraceback, add_note, set_attribute, text_of, user_traceback

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from typing import Any

    #: An exception, and the buffers beside it.
    Pickled = tuple[bytes, list[bytearray]]
    #: The exception pickled, or None; its type's name, its text, its traceback as text, its notes.
    Description = tuple[Pickled | None, str, str, str, list[str]]

#: Py_TPFLAGS_HEAPTYPE: the class was made by Python code, or by C code that might have been.
_IS_HEAP_TYPE = 1 << 9

#: With which a class says how it is pickled.
_PICKLING = ("__reduce__", "__reduce_ex__")

#: With which it says what of it is, beside what C keeps.
_STATE = ("__getstate__", "__setstate__")


def describe_error(error: BaseException) -> Description:
    """An exception in pieces that arrive in any case. In the worker."""
    hint = hint_for(error)
    if hint is not None:
        add_note(error, hint)
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    text = text_of(error)
    pickled = _pickled(error, _reduce_error)
    if pickled is None:  # Python's own way leaves slots out, which may be why; it may give a constructor the wrong text
        pickled = _pickled(error, None)
        if pickled is not None and text_of(_unpickled(pickled)) != text:
            pickled = None
    return pickled, kind, text, _traceback_of(error), _notes_of(error)


def _pickled(error: BaseException, reduce: Any) -> Pickled | None:
    """None if the exception cannot be pickled so, or can be pickled and then not made again, as many."""
    try:
        body, buffers = dumps(error, reduce=reduce)
        pickled = body, [bytearray(buffer.raw()) for buffer in buffers]
        _unpickled(pickled)
    except Exception:  # noqa: BLE001 -- whatever the user's class raises
        return None
    return pickled


def _unpickled(pickled: Pickled) -> Any:
    return pickle.loads(pickled[0], buffers=pickled[1])


def _reduce_error(value: Any) -> Any:
    """How to pickle an exception, also one in another; NotImplemented for what pickle does as well, or alone can do."""
    kind = type(value)
    if not issubclass(kind, BaseException) or kind in copyreg.dispatch_table:
        return NotImplemented
    builtin: Any = _builtin_base(kind)
    if _defines(kind, _PICKLING) or _has_secrets(kind):
        return NotImplemented
    made_with: tuple[Any, ...] = ()
    if builtin.__name__ == "BaseExceptionGroup":  # from Python 3.11 on; nobody can set what it holds
        made_with = builtin.message.__get__(value), list(builtin.exceptions.__get__(value))
    has_state = _defines(kind, _STATE[:1])
    parts = {}
    for name, field in _fields_of(kind).items():
        is_slot = field.__objclass__.__flags__ & _IS_HEAP_TYPE
        if is_slot and has_state:
            continue
        with suppress(AttributeError):  # never set
            part = field.__get__(value)
            if part is not None or is_slot:  # for C None may be more than nothing
                parts[name] = part
    attributes = value.__getstate__() if has_state else vars(value)
    return _make_error, (kind, made_with), (attributes, parts), None, None, _set_parts


def _defines(kind: type, names: tuple[str, ...]) -> bool:
    """Whether a class, or one between it and the built-in one, has methods of these names."""
    builtin = _builtin_base(kind)
    return any(getattr(kind, name, None) is not getattr(builtin, name, None) for name in names)


def _make_error(kind: type[BaseException], made_with: tuple[Any, ...]) -> BaseException:
    return _builtin_base(kind).__new__(kind, *made_with)  # type: ignore[no-any-return]


def _set_parts(error: BaseException, state: tuple[Any, dict[str, Any]]) -> None:
    attributes, parts = state
    fields = _fields_of(type(error))
    for name, part in parts.items():
        with suppress(AttributeError):  # read-only, and so made with it
            fields[name].__set__(error, part)
    if _defines(type(error), _STATE):
        error.__setstate__(attributes)
    else:
        vars(error).update(attributes)  # past a `__setattr__` that refuses, as a frozen dataclass has


def _builtin_base(kind: Any) -> Any:
    """The built-in class, or that of a C extension, whose instances an exception's are in memory."""
    while kind.__flags__ & _IS_HEAP_TYPE:
        kind = kind.__base__
    return kind


def _has_secrets(kind: type) -> bool:
    """Whether C code that is not Python's own makes the instances: nobody knows what it keeps in them."""
    makers = [
        vars(base).get(name)
        for base in kind.__mro__
        if base.__flags__ & _IS_HEAP_TYPE
        for name in ("__new__", "__init__")
    ]
    is_of_c = any(type(maker) in (BuiltinFunctionType, WrapperDescriptorType) for maker in makers)
    return is_of_c or _builtin_base(kind).__module__ != "builtins"


def _fields_of(kind: type) -> dict[str, Any]:
    """What an exception has beside its `__dict__`, by name: `args`, slots, and what the built-in classes have.

    Without the object that lacks an attribute: it may be of any size, and Python 3.12 does not pickle it either.
    """
    fields: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        for name, field in vars(base).items():
            if type(field) in (MemberDescriptorType, GetSetDescriptorType) and not name.startswith("__"):
                fields[name] = field
    if fields.get("obj") is vars(AttributeError)["obj"]:
        del fields["obj"]
    return fields


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
            error = _unpickled(pickled)
        except Exception:  # noqa: BLE001 -- whatever the user's class raises
            error = None
    if not isinstance(error, BaseException):
        error = RemoteTaskError(kind, text)
    if notes and not _notes_of(error):
        set_attribute(error, "__notes__", notes)
    set_attribute(error, "__cause__", RemoteTraceback(told))
    return error  # type: ignore[no-any-return]
