"""A worker process: receives batches, runs them, sends what came of them, until nobody is at the other end.

One thread, which waits in one place. Everything that outlives a batch is in `Worker`; what holds for one call only is
dropped when the next begins, or when the parent says that the call is over.
"""

from __future__ import annotations

import _pickle as pickle  # the C half: the other takes milliseconds to import
import _signal as signal  # type: ignore[import-not-found] # the module around it makes enums of the numbers
import os
import sys

from fastpar._core.channel import Channel
from fastpar._core.labor import Labor
from fastpar._core.segments import IDLE, UNPACKING, Board
from fastpar.engines import attempts
from fastpar.engines.processes import arguments, protocol
from fastpar.engines.processes.packing import Parcel, Stock, pack, unpack
from fastpar.engines.processes.pickling import dumps
from fastpar.engines.processes.reports import describe_error
from fastpar.engines.processes.scribe import Scribe

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from typing import Any

#: Memory that a worker keeps for the results of its next tasks.
STOCK_BYTES = 1 << 28
#: After so long without work it keeps none.
REST_NS = 1_000_000_000
#: It ends when it has been idle for so long, unless its settings say otherwise.
IDLE_NS = 300_000_000_000


class Worker:
    """The state of this process as a worker."""

    def __init__(self, channel: Channel, board: Board, number: int) -> None:
        self.number = number
        self.channel = channel
        self.board = board
        self.scribe = Scribe(channel, board)
        self.idle_ns = IDLE_NS
        self.max_tasks = 0
        self.max_bytes = 0
        self._n_tasks = 0
        self._stock = Stock(STOCK_BYTES)
        self._call = -1
        self._functions = arguments.repertoire
        self._is_replaced = False  # the parent has been told that this worker is full: it begins nothing any more
        self.leftover: BaseException | None = None  # what an initializer raised
        attempts.on_retry = board.try_again
        os.register_at_fork(after_in_child=_leave_board)

    def serve(self) -> int:
        """Until there is nobody to serve; the exit code."""
        while True:
            message = self._await()
            if message is None:
                return 0
            kind, numbers, body, fds = message
            if kind == protocol.BATCH:
                self._run(numbers, body, fds)
            elif kind == protocol.SETTINGS:
                self._settle_in(numbers, body, fds)
            elif kind == protocol.REST:
                self._forget_call()
            else:
                return 0
            if self._is_replaced:
                return 0
            del message, body, fds

    def _await(self) -> tuple[int, tuple[int, ...], bytes, list[int]] | None:
        """The next message; None if none came for as long as this worker shall live without one."""
        self.channel.be_patient(min(REST_NS, self.idle_ns))
        message = self.channel.receive(may_wait=True)
        if message is None:
            self._stock.clear()
            if self.idle_ns > REST_NS:
                self.channel.be_patient(self.idle_ns - REST_NS)
                message = self.channel.receive(may_wait=True)
        return message

    def _settle_in(self, numbers: tuple[int, ...], body: bytes, fds: list[int]) -> None:
        from fastpar.engines.processes import settings

        self.leftover = None
        try:
            pickled, buffers = unpack(body, fds) if numbers[0] else (body, [])
            settings.apply(self, pickle.loads(pickled, buffers=buffers))
        except BaseException as error:  # noqa: BLE001 -- told with the next batch
            self.leftover = error

    def use_folder(self, folder: str | None) -> None:
        """Make segments there from now on; None: in memory."""
        if folder != self._stock.folder:
            self._stock = Stock(STOCK_BYTES, folder)

    def _forget_call(self) -> None:
        self._functions.clear()
        arguments.received.clear()
        self._call = -1

    def _run(self, numbers: tuple[int, ...], body: bytes, fds: list[int]) -> None:
        number, n_tasks, budget_ns, call, is_packed, brings_news = numbers
        is_ours = self.board.claim(number)  # else the parent has taken it back; what comes with it is still for us
        if is_ours:
            self.board.show(number, UNPACKING)
        if call != self._call:
            self._forget_call()
            self._call = call
            self.scribe.begin_call()
        try:
            pickled, buffers = unpack(body, fds, arguments.receive) if is_packed else (body, [])
            if brings_news:
                pickled, buffers = self._learn(pickled, buffers)
            if not is_ours:
                return
            if self.leftover is not None:
                self._refuse(number, protocol.UNPREPARED, self.leftover)
                return
            labor = self._understand(number, n_tasks, budget_ns, pickled, buffers)
        except BaseException as error:  # noqa: BLE001 -- whatever the user's classes raise
            if is_ours:
                self._refuse(number, protocol.UNREADABLE, error)
            return
        while labor.work():
            if self._report(labor, number, protocol.MORE) != protocol.MORE:
                break  # a result that cannot be sent: the rest of the batch is the parent's again
        else:
            self._report(labor, number, protocol.DONE if labor.error is None else protocol.RAISED)

    def _refuse(self, number: int, status: int, error: BaseException) -> None:
        parcel = pack(pickle.dumps(describe_error(error)), (), self._stock)
        self._send((number, 0, 0, 0), status, parcel)

    def _learn(self, pickled: Any, buffers: Any) -> tuple[Any, Any]:
        """Take functions in, let go of arrays that have gone; what is left is the tasks."""
        new, forgotten, pickled, buffers = pickle.loads(pickled, buffers=buffers)
        arguments.forget(forgotten)
        for number, source, aside in new:
            try:
                self._functions[number] = (
                    arguments.read(number, aside) if source is None else pickle.loads(source, buffers=aside)
                )
            except BaseException as error:  # noqa: BLE001 -- whatever the user's classes raise
                self._functions[number] = arguments.Unreadable(error)
        return pickled, buffers

    def _function(self, named: Any) -> Any:
        """A function by its number; or itself."""
        return arguments.recall(named) if type(named) is int else named

    def _understand(self, number: int, n_tasks: int, budget_ns: int, pickled: Any, buffers: Any) -> Labor:
        if self.max_tasks:
            n_tasks = min(n_tasks, self.max_tasks - self._n_tasks)  # the rest is its successor's
        named, columns, tasks = pickle.loads(pickled, buffers=buffers)
        if columns is not None:
            return Labor(self.board, number, n_tasks, budget_ns, self._function(named), columns, None)
        tasks = [(self._function(each), args, kwargs) for each, args, kwargs in tasks]
        return Labor(self.board, number, n_tasks, budget_ns, None, None, tasks)

    def _report(self, labor: Labor, number: int, status: int) -> int:
        """Send the results that are there; one that cannot be sent is an error of its task. Which status was sent."""
        results, failure = labor.results, None
        if labor.error is not None:
            failure = describe_error(labor.error)
        try:
            parcel = self._pack(results, failure)
        except BaseException as error:  # noqa: BLE001 -- whatever a __reduce__ raises
            n_good = 0 if isinstance(error, MemoryError) else _n_picklable(results)
            reason = error if isinstance(error, MemoryError) else arguments.cannot_return(results[n_good], error)
            del results[n_good:]
            status = protocol.RAISED
            parcel = self._pack(results, describe_error(reason))
        self._n_tasks += len(results) + (status == protocol.RAISED)
        self._send((number, len(results), labor.total_ns, labor.longest_ns), status, parcel)
        return status

    def _pack(self, results: list[Any], failure: Any) -> Parcel:
        pickled, buffers = _dump_results(results, failure)
        return pack(pickled, buffers, self._stock, [*enumerate(arguments.returned.values())])

    def _send(self, numbers: tuple[int, int, int, int], status: int, parcel: Parcel) -> None:
        number = numbers[0]
        if self._is_full():
            self._is_replaced = status != protocol.MORE
            status |= protocol.FULL
        self.scribe.flush()
        header = (*numbers, status, parcel.is_packed)
        self.channel.send(protocol.RESULTS, header, parcel.body, parcel.fds, may_wait=True)
        if status & protocol.STATUS_MASK != protocol.MORE:
            self.board.show(number, IDLE)  # not earlier: a worker that dies in a send that waits has run these tasks
        arguments.returned.clear()
        for segment in parcel.own_segments:
            self._stock.give(segment)

    def _is_full(self) -> bool:
        """Whether this worker has served, or grown, as much as it should."""
        if self.max_tasks and self._n_tasks >= self.max_tasks:
            return True
        return bool(self.max_bytes) and memory_bytes() > self.max_bytes


def _dump_results(results: list[Any], failure: Any) -> tuple[bytes, list[pickle.PickleBuffer]]:
    return dumps((results, failure), arguments.returning())


def _n_picklable(results: list[Any]) -> int:
    """How many of the results, from the first on, can be pickled."""
    for n, result in enumerate(results):
        try:
            _dump_results([result], None)
        except BaseException:  # noqa: BLE001 -- whatever a __reduce__ raises
            return n
    return max(0, len(results) - 1)


def memory_bytes() -> int:
    """Memory that this process has resident."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def _leave_board() -> None:
    """In a child that a task has forked: the board is its parent's."""
    attempts.on_retry = None


def _let_pass(number: int, frame: object) -> None:
    """Ctrl-C is the parent's: it ends the call, and this worker if need be. What tasks start sees the default."""


def live(channel: Channel, board_fd: int, number: int) -> int:
    """The life of a worker; its exit code."""
    board = Board(board_fd)
    board.give_up_fd()
    signal.signal(signal.SIGINT, _let_pass)
    try:
        channel.send(protocol.HELLO, (os.getpid(),), may_wait=True)
        arguments.reseed()
        return Worker(channel, board, number).serve()
    except ConnectionError:
        return 0
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):
                continue


def main(channel_fd: int, board_fd: int, number: int) -> None:
    """The life of a worker that was started with exec."""
    status = 1
    try:
        status = live(Channel(channel_fd), board_fd, number)
    finally:
        os._exit(status)
