"""`wrap_non_picklable_objects`: let an object travel to another process by value, as cloudpickle does it.

Lambdas, functions and classes of ``__main__`` or of other functions cannot be pickled by reference; cloudpickle writes
down what they are made of. fastpar's own engines do that by themselves. The wrapper is for other users of pickle.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from typing import Any


#: What the module of a script is called: in the script's process, and in a child that multiprocessing has spawned.
MAINS = ("__main__", "__mp_main__")


def import_cloudpickle() -> Any:
    """The module; it knows of `__main__` that others have another, and is told of a spawned child's."""
    import cloudpickle  # type: ignore[import-untyped]

    if "__mp_main__" in sys.modules:
        cloudpickle.register_pickle_by_value(sys.modules["__mp_main__"])
    return cloudpickle


class PickledByValue:
    """Stands for an object wherever one looks at its attributes, and pickles by value.

    Parameters
    ----------
    obj : object
        The object.
    keep_wrapper : bool
        Whether unpickling gives a wrapper again, or the object.
    """

    def __init__(self, obj: Any, keep_wrapper: bool) -> None:
        self._obj = obj
        self._keep_wrapper = keep_wrapper

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (import_cloudpickle().dumps(self._obj), self._keep_wrapper)

    def __getattr__(self, name: str) -> Any:
        if name in ("_obj", "_keep_wrapper"):  # while it is being made: there is nothing to ask yet
            raise AttributeError(name)
        return getattr(self._obj, name)


class CallableByValue(PickledByValue):
    """The same for what can be called."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the object."""
        return self._obj(*args, **kwargs)


def wrap_non_picklable_objects(obj: Any, keep_wrapper: bool = True) -> Any:
    """Make an object picklable that pickle alone cannot handle: it travels by value.

    Parameters
    ----------
    obj : object
        Usually a function or a class; may be used as a decorator.
    keep_wrapper : bool, default True
        Whether the other side gets a wrapper again, which can travel on, or the bare object.

    Returns
    -------
    object
        Something with the attributes of `obj`, callable if it is. For a class: a class whose instances are wrapped.

    Notes
    -----
    Costs a call of cloudpickle each time it is pickled, which is slower than pickle. Not needed for `Parallel`, whose
    engines send by value what has to. joblib's contract.

    Examples
    --------
    >>> import pickle
    >>> from fastpar import wrap_non_picklable_objects
    >>> square = wrap_non_picklable_objects(lambda x: x**2)
    >>> pickle.loads(pickle.dumps(square))(3)
    9
    """
    if isinstance(obj, type):
        return _wrap_class(obj, keep_wrapper)
    return _wrap(obj, keep_wrapper)


def _wrap(obj: Any, keep_wrapper: bool) -> PickledByValue:
    return (CallableByValue if callable(obj) else PickledByValue)(obj, keep_wrapper)


def _wrap_class(cls: type, keep_wrapper: bool) -> type:
    is_callable = any("__call__" in base.__dict__ for base in cls.__mro__)

    def wrap_instance(self: PickledByValue, *args: Any, **kwargs: Any) -> None:
        PickledByValue.__init__(self, cls(*args, **kwargs), keep_wrapper)

    kind = CallableByValue if is_callable else PickledByValue
    attributes = {"__init__": wrap_instance, "__doc__": cls.__doc__, "__module__": cls.__module__}
    return type(cls.__name__, (kind,), attributes)


def _restore(pickled: bytes, keep_wrapper: bool) -> Any:
    import pickle

    obj = pickle.loads(pickled)
    return _wrap(obj, keep_wrapper) if keep_wrapper else obj
