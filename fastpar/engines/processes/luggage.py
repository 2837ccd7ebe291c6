"""What a call sends to workers: its batches, and with them what they do not have yet. Owner: the call's thread."""

from __future__ import annotations

import _pickle as pickle  # the C half: the other takes milliseconds to import

from fastpar._core.remote import columns, is_plain
from fastpar.engines.attempts import Attempt
from fastpar.engines.processes.arguments import Arrays
from fastpar.engines.processes.packing import OUT_OF_BAND_BYTES, Parcel, Stock, pack
from fastpar.engines.processes.pickling import PROTOCOL, culprit, dumps
from fastpar.engines.processes.repertoire import FUNCTIONS, Recalled, Repertoire
from fastpar.errors import TaskPicklingError, text_of

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from fastpar._core.tasks import Batch
    from fastpar.engines.processes.pool import Worker
    from fastpar.engines.processes.settings import Settings

#: Memory that a call keeps for its next batches.
STOCK_BYTES = 1 << 26

#: More functions than this are a burden.
MAX_LIGHT = 64


class Luggage:
    """See the module's docstring.

    Parameters
    ----------
    arrays : Arrays
        The call's.
    folder : str or None
        Where segments are made; None: in memory.
    """

    def __init__(self, arrays: Arrays, folder: str | None) -> None:
        self._arrays = arrays
        self._stock = Stock(STOCK_BYTES, folder)
        self._repertoire = Repertoire(arrays)
        self.latest: tuple[Any, int] | None = None  # a function of which all tasks of a batch were, and its number
        self.is_heavy = False  # workers keep more of this call than they should when it is over

    def pack(self, batch: Batch, worker: Worker) -> Parcel:
        """A batch for a worker, with what it needs and does not have yet."""
        new: dict[int, tuple[int, Any, Any]] = {}
        table = columns(batch)
        arrays = self._arrays
        arrays.mentioned.clear()
        forgotten = arrays.forgotten_since(worker.n_forgotten)
        if table is not None:
            function, values = table
            named = self._name(function, worker, new)
            self.latest = None if named is function else (function, named)
            is_light = named is not function and is_plain(values)
            if type(function) is Attempt:
                values = self._lighten_attempts(values, worker, new)
            elif not is_light:
                values = tuple(self._lighten(column, worker, new) for column in values)
            content: Any = (named, values, None)
        else:
            is_light = False
            tasks = [batch[place] for place in range(len(batch))]
            rows = [
                (
                    self._name(function, worker, new),
                    self._lighten(args, worker, new),
                    self._lighten_dict(kwargs, worker, new),
                )
                for function, args, kwargs in tasks
            ]
            content = (None, None, rows)
        pickled, buffers = (pickle.dumps(content, PROTOCOL), []) if is_light else dumps(content, arrays.reducers)
        if new or forgotten:  # around it, since a pickle in a pickle is bytes: nothing that has to be looked at again
            outer: list[pickle.PickleBuffer] = []
            everything = [*new.values()], forgotten, pickled, buffers
            pickled = pickle.dumps(everything, PROTOCOL, buffer_callback=_set_aside(outer))
            buffers = outer
        missing = [number for number in arrays.mentioned if number not in worker.arrays]
        attached = [(number, arrays.segments[number]) for number in missing]
        parcel = pack(pickled, buffers, self._stock, attached)
        parcel.brings_news = bool(new or forgotten)
        worker.functions.update(new)  # not before: what cannot be pickled raises
        worker.arrays.difference_update(forgotten)
        worker.functions.difference_update(forgotten)
        worker.arrays.update(missing)
        worker.n_forgotten += len(forgotten)
        return parcel

    def _lighten(self, values: Iterable[Any], worker: Worker, new: dict[int, tuple[int, Any, Any]]) -> tuple[Any, ...]:
        """Arguments, with a number in the place of each large constant that has come before."""
        lighten = self._repertoire.lighten
        return tuple([lighten(value, lambda constant: self._number(constant, worker, new)) for value in values])

    def _lighten_dict(
        self, values: dict[str, Any], worker: Worker, new: dict[int, tuple[int, Any, Any]]
    ) -> dict[str, Any]:
        return dict(zip(values, self._lighten(values.values(), worker, new), strict=True))

    def _lighten_attempts(
        self, columns: tuple[Any, ...], worker: Worker, new: dict[int, tuple[int, Any, Any]]
    ) -> tuple[Any, ...]:
        """The same for attempts at tasks: for what each is at, and its arguments.

        A call has one `Attempt`, so they are columns; but for a batch with a task whose worker was lost, which is rare.
        """
        indices, functions, args, kwargs = columns
        references: dict[int, Any] = {}
        for function in functions:
            if id(function) not in references:
                named = self._name(function, worker, new)
                references[id(function)] = function if named is function else Recalled(named)
        return (
            indices,
            tuple([references[id(function)] for function in functions]),
            args if is_plain(args) else tuple([self._lighten(each, worker, new) for each in args]),
            tuple([self._lighten_dict(each, worker, new) for each in kwargs]) if any(kwargs) else kwargs,
        )

    def pack_settings(self, settings: Settings) -> Parcel:
        """What a worker has to know before its first batch."""
        return pack(*dumps(settings), self._stock)

    def sent(self, parcel: Parcel) -> None:
        """The parcel is on its way: its own segments may be used again when the worker has done with them."""
        for segment in parcel.own_segments:
            self._stock.give(segment)

    def close(self) -> None:
        """Keep nothing: an error that somebody keeps holds frames, and these the call."""
        self._stock.clear()
        self._repertoire.close()

    def _name(self, function: Any, worker: Worker, new: dict[int, tuple[int, Any, Any]]) -> Any:
        """The number of a function; or itself, if it is an object that comes for the first time."""
        if type(function) in FUNCTIONS or self._repertoire.comes_again(function):
            return self._number(function, worker, new)
        return function

    def _number(self, thing: Any, worker: Worker, new: dict[int, tuple[int, Any, Any]]) -> int:
        """The number of a function or constant; its pickle goes to `new` if the worker does not have it."""
        entry = self._repertoire.find(thing)
        number = entry.number
        if number not in worker.functions and number not in new:
            self._repertoire.renew(thing, entry)
            pickled, buffers = entry.source
            is_large = bool(buffers) or pickled is None or len(pickled) > OUT_OF_BAND_BYTES
            self.is_heavy = self.is_heavy or is_large or len(worker.functions) > MAX_LIGHT
            self._arrays.mentioned.update(entry.needs)
            new[number] = number, None if pickled is None else pickle.PickleBuffer(pickled), buffers
        return number


def _set_aside(buffers: list[pickle.PickleBuffer]) -> Callable[[pickle.PickleBuffer], bool]:
    def keep_aside(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes < OUT_OF_BAND_BYTES:
            return True
        buffers.append(buffer)
        return False

    return keep_aside


def explain(task: tuple[Any, tuple[Any, ...], dict[str, Any]], reason: BaseException) -> BaseException:
    """An error that names the part of a task that cannot be pickled."""
    function, args, kwargs = task
    named = [("function", function), *((f"args[{place}]", value) for place, value in enumerate(args))]
    named += [(name, value) for name, value in kwargs.items()]
    for name, value in named:
        found = culprit(value, name)
        if found is not None:
            path, cause = found
            error = TaskPicklingError(
                f"{path} cannot be sent to a worker process: {type(cause).__name__}: {text_of(cause)}. "
                "Make it where the task runs, or use backend='threading', whose tasks see the objects themselves"
            )
            error.__cause__ = cause
            return error
    return reason
