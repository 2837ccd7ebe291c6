"""Pickling as our channel wants it: C pickle first, by value only where needed, arrays beside the pickle.

An object of `__main__` cannot be pickled by name, for a worker has another `__main__`. Nor need it be found out
beforehand: the C pickler stops at the first one, and cloudpickle begins anew; so it does where the C pickler refuses.
The same holds of modules that the user has told cloudpickle to send by value.

Three things that scripts hold are beyond cloudpickle 3.1 and done here: functions under `functools.lru_cache`,
`functools.cached_property`, and classes with `__slots__`.
"""

from __future__ import annotations

import _pickle as pickle  # the C half: the other takes milliseconds to import
import copyreg
import functools
import io
import sys
from contextlib import suppress
from types import BuiltinFunctionType, FunctionType, ModuleType

from fastpar.engines.processes.packing import OUT_OF_BAND_BYTES
from fastpar.wrapping import MAINS, import_cloudpickle

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Reducers = dict[type, Callable[[Any], Any]]

PROTOCOL = 5


def dumps(
    value: object, reducers: Reducers | None = None, reduce: Callable[[Any], Any] | None = None
) -> tuple[bytes, list[pickle.PickleBuffer]]:
    """A pickle, and its large buffers beside it.

    Parameters
    ----------
    value : object
    reducers : dict, optional
        For types that are pickled our way.
    reduce : callable, optional
        Asked about each object first: how it is pickled, or `NotImplemented`.
    """
    registered = _registered()
    if type(value) is FunctionType or (type(value) is BuiltinFunctionType and type(value.__self__) is ModuleType):
        with suppress(pickle.PicklingError, AttributeError, ImportError):  # by its name, as most functions can
            if value.__module__ not in (None, *MAINS) and not _is_registered(value.__module__, registered):
                return pickle.dumps(value, PROTOCOL), []
    buffers: list[pickle.PickleBuffer] = []

    def keep_aside(buffer: pickle.PickleBuffer) -> bool:
        try:
            is_small = buffer.raw().nbytes < OUT_OF_BAND_BYTES
        except BufferError:  # not contiguous
            return True
        if not is_small:
            buffers.append(buffer)
        return is_small

    table = copyreg.dispatch_table if reducers is None else {**copyreg.dispatch_table, **reducers}
    try:
        pickled = _dumps_by_name(value, table, keep_aside, registered, reduce)
    except (pickle.PicklingError, AttributeError, TypeError, ImportError):
        buffers.clear()
        pickled = _dumps_by_value(value, table, keep_aside, reduce)
    return pickled, buffers


class _ByName(pickle.Pickler):
    """Refuses what is of `__main__`."""

    registered: set[str]
    reduce: Callable[[Any], Any] | None

    def reducer_override(self, value: Any) -> Any:
        module = getattr(value, "__module__", None)  # an object's own, or its class's
        if module in MAINS or (module is None and type(value) is FunctionType):  # which pickle takes for the same
            raise pickle.PicklingError("__main__ is another module in a worker")
        return NotImplemented


class _ByNameIfAtAll(_ByName):
    """Refuses what is of registered modules, too, and has its own way for some objects.

    A class of its own, for it is asked about each object.
    """

    def reducer_override(self, value: Any) -> Any:
        if _is_registered(getattr(value, "__module__", None), self.registered):
            raise pickle.PicklingError("its module is sent by value")
        reduction = NotImplemented if self.reduce is None else self.reduce(value)
        return super().reducer_override(value) if reduction is NotImplemented else reduction


def _registered() -> set[str]:
    """The modules and packages that `cloudpickle.register_pickle_by_value` has been told of."""
    registry = getattr(sys.modules.get("cloudpickle"), "list_registry_pickle_by_value", None)
    return registry() if registry is not None else set()  # not loaded: nobody can have told it


def _is_registered(module: object, registered: set[str]) -> bool:
    """Whether what is of a module goes by value, for its own sake or its package's."""
    if not registered or type(module) is not str:
        return False
    return module in registered or module.startswith(tuple([f"{name}." for name in registered]))


def _dumps_by_name(
    value: object,
    table: Reducers,
    keep_aside: Callable[[Any], bool],
    registered: set[str],
    reduce: Callable[[Any], Any] | None,
) -> bytes:
    file = io.BytesIO()
    if registered or reduce is not None:
        pickler: _ByName = _ByNameIfAtAll(file, PROTOCOL, buffer_callback=keep_aside)
        pickler.registered, pickler.reduce = registered, reduce
    else:
        pickler = _ByName(file, PROTOCOL, buffer_callback=keep_aside)
    if table is not copyreg.dispatch_table:
        pickler.dispatch_table = table
    pickler.dump(value)
    return file.getvalue()


def _dumps_by_value(
    value: object, table: Reducers, keep_aside: Callable[[Any], bool], reduce: Callable[[Any], Any] | None
) -> bytes:
    cloudpickle = import_cloudpickle()

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc, name-defined]
        dispatch_table = {  # noqa: RUF012 -- how a pickler is told
            **cloudpickle.Pickler.dispatch_table,
            functools._lru_cache_wrapper: _reduce_cached,
            functools.cached_property: _reduce_property,
            **table,
        }

        def reducer_override(self, value: Any) -> Any:
            reduction = NotImplemented if reduce is None else reduce(value)
            if reduction is NotImplemented:
                reduction = super().reducer_override(value)
            return _with_slots(value, reduction) if isinstance(value, type) else reduction

    file = io.BytesIO()
    Pickler(file, PROTOCOL, buffer_callback=keep_aside).dump(value)
    return file.getvalue()


def _with_slots(kind: type, reduction: Any) -> Any:
    """How cloudpickle makes a class anew, with the `__slots__` that make its instances what they are."""
    slots = vars(kind).get("__slots__")
    if slots is None or type(reduction) is not tuple or reduction[0].__name__ != "_make_skeleton_class":
        return reduction
    make, (metaclass, name, bases, attributes, *rest), *others = reduction
    if any(type(base) is FunctionType for base in bases):  # `typing.NamedTuple`, which makes the slots itself
        state = others[0][0]
        if getattr(state.get("__class_getitem__"), "__module__", None) == "typing":  # made there, too; it has no name
            del state["__class_getitem__"]
        return reduction
    attributes = {**attributes, "__slots__": slots if isinstance(slots, str) else tuple(slots)}
    return (make, (metaclass, name, bases, attributes, *rest), *others)


def _reduce_cached(cached: Any) -> Any:
    """A function under `lru_cache` that goes by value; the worker's cache begins empty.

    It may call itself by that name, so it is made first and learns later what it calls.
    """
    name, module = getattr(cached, "__qualname__", "<locals>"), cached.__module__  # around a partial there is no name
    if "<locals>" not in name and module not in MAINS and not _is_registered(module, _registered()):
        return name
    return _make_cached, (cached.cache_parameters(),), cached.__wrapped__, None, None, functools.update_wrapper


def _make_cached(parameters: dict[str, Any]) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        return cached.__wrapped__(*args, **kwargs)

    cached = functools.lru_cache(**parameters)(call)
    return cached


def _reduce_property(cached: Any) -> Any:
    """A `cached_property` without its lock, which Python 3.10 and 3.11 give it: the new one has its own."""
    state = {name: part for name, part in vars(cached).items() if name != "lock"}
    return functools.cached_property, (cached.func,), state


def culprit(value: object, name: str) -> tuple[str, BaseException] | None:
    """The innermost part of a value that cannot be pickled, as a path like ``args[1].model._lock``, and why not.

    None if it can be pickled after all.
    """
    error = _refusal(value)
    if error is None:
        return None
    seen: set[int] = set()
    kept: list[object] = []  # so that no id in `seen` is used again
    while True:
        seen.add(id(value))
        kept.append(value)
        for step, part in _known_parts(value):
            refusal = None if id(part) in seen else _refusal(part)
            if refusal is not None:
                name, value, error = name + step, part, refusal
                break
        else:
            return name, error


def _refusal(value: object) -> BaseException | None:
    try:
        dumps(value)
    except BaseException as error:  # noqa: BLE001 -- whatever a __reduce__ raises
        return error
    return None


def _known_parts(value: object) -> list[tuple[str, Any]]:
    try:
        return _parts(value)
    except Exception:  # noqa: BLE001 -- whatever the user's class raises when looked at: the way ends here
        return []


def _parts(value: Any) -> list[tuple[str, Any]]:
    """The parts that a value is pickled with, each with how one writes the way to it."""
    if isinstance(value, dict):
        return [(f"[{key!r}]", part) for key, part in value.items()]
    if isinstance(value, (list, tuple)):
        return [(f"[{place}]", part) for place, part in enumerate(value)]
    if isinstance(value, (set, frozenset)):
        return [(f"{{{part!r}}}", part) for part in value]
    parts: list[tuple[str, Any]] = []
    code = getattr(value, "__code__", None)
    if code is not None:
        cells = zip(code.co_freevars, getattr(value, "__closure__", None) or (), strict=False)
        parts += [(f".{name} (closure)", _content(cell)) for name, cell in cells]
        names = getattr(value, "__globals__", {})
        parts += [(f".{name} (global)", names[name]) for name in code.co_names if name in names]
    owner = getattr(value, "__self__", None)
    if owner is not None and not isinstance(owner, type(sys)):
        parts.append((".__self__", owner))
    for attribute in ("func", "args", "keywords"):
        if type(value).__name__ == "partial" and hasattr(value, attribute):
            parts.append((f".{attribute}", getattr(value, attribute)))
    if isinstance(getattr(value, "__dict__", None), dict):
        parts += [(f".{name}", part) for name, part in vars(value).items()]
    return parts


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return None
