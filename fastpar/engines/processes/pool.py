"""The worker processes of this process, as it sees them: who is idle, who is leased to which call, and how new ones
come.

A worker belongs to the pool or to one session, never to both: `lease` and `give_back` move it, under the lock, so
calls in several threads have workers of their own. Workers end by themselves after an idle time; the pool notices
when it would lease one. A forked child calls `forget`: the workers are its parent's.
"""

from __future__ import annotations

import os
import sys
import weakref
from contextlib import suppress
from threading import RLock

from fastpar._core.channel import Channel, make_pair
from fastpar._core.exchange import Peer
from fastpar._core.segments import Board
from fastpar.engines.processes import protocol
from fastpar.engines.processes.interpreter import command
from fastpar.engines.processes.times import TaskTimes
from fastpar.engines.processes.warehouse import Warehouse

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from typing import Any

    from fastpar.engines.processes.options import Options
    from fastpar.engines.processes.session import ProcessSession

#: Where the caller has one of these, workers will want it too.
USUAL_MODULES = ("fastpar.as_joblib", "numpy", "logging", "multiprocessing")
#: Memory that is kept between calls, for their arguments.
WAREHOUSE_BYTES = 1 << 28


class Worker(Peer):
    """A worker process, seen from its parent.

    Attributes
    ----------
    number : int
        Its name towards the nursery.
    kind : tuple
        Workers of one kind can stand in for each other.
    pid : int
        0 until it has said so itself.
    settings : tuple or None
        What it was told last.
    arrays : set of int
        Segments of the current call that it has.
    """

    __slots__ = ("__weakref__", "arrays", "kind", "number", "nursery", "pid", "settings", "verdict")

    def __init__(self, number: int, channel: Channel, board: Board, kind: tuple[Any, ...], nursery: Nursery) -> None:
        super().__init__(channel, board)
        self.number = number
        self.kind = kind
        self.nursery = nursery
        self.pid = 0
        self.settings: Any = None
        self.arrays: set[int] = set()
        #: Batch and place of the task that it was killed for, and why.
        self.verdict: tuple[int, int, BaseException] | None = None

    def kill(self) -> None:
        """End it at once; the last message on its channel will say so."""
        self.nursery.send(protocol.KILL, (self.number,))

    def is_well(self) -> bool:
        """Whether an idle worker is still there: reads what it has said since."""
        while True:
            message = self.channel.receive()
            if message is None:
                return True
            kind, numbers, _, fds = message
            for fd in fds:  # of what a thread said after its task had ended: nobody listens any more
                os.close(fd)
            if kind == protocol.HELLO:
                self.pid = numbers[0]
            elif kind != protocol.NOTE:
                return False


class Nursery:
    """The nursery process, seen from its parent.

    Parameters
    ----------
    modules : tuple of str
        What it imports before the first fork.
    is_fork : bool
        Made by fork from this very process, not by exec.
    """

    def __init__(self, modules: tuple[str, ...], *, is_fork: bool) -> None:
        self._control, theirs = make_pair()
        try:
            self.pid = self._fork(theirs.fd) if is_fork else _spawn(theirs.fd, modules)
        finally:
            theirs.close()
        self.modules = modules

    def _fork(self, control_fd: int) -> int:
        parent_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                from fastpar.engines.processes import nursery

                self._control.close()
                nursery.run(control_fd, parent_pid)
            finally:
                os._exit(1)
        return pid

    def send(self, kind: int, numbers: tuple[int, ...], fds: tuple[int, ...] = ()) -> bool:
        """Whether it has been told; False if it is not there any more."""
        try:
            return self._control.send(kind, numbers, fds=fds, may_wait=True)
        except OSError:
            return False

    def preload(self, modules: tuple[str, ...]) -> None:
        """Have it import more, for the workers to come."""
        missing = [module for module in modules if module not in self.modules]
        if missing:
            self.modules += tuple(missing)
            with suppress(OSError):  # it is not there any more: the next fork will notice
                self._control.send(protocol.PRELOAD, (), ",".join(missing).encode(), may_wait=True)

    def end(self) -> None:
        """End it and all of its workers, and wait until they are gone."""
        self._control.close()
        with suppress(ChildProcessError):  # somebody else has waited for it
            os.waitpid(self.pid, 0)

    def abandon(self) -> None:
        """In a forked child: it is the parent's."""
        self._control.close()


def _spawn(control_fd: int, modules: tuple[str, ...]) -> int:
    """Start a nursery with exec."""
    if getattr(sys, "frozen", False) or not sys.executable:
        raise OSError("there is no Python interpreter to start worker processes with: use start_method='fork'")
    target = 3 if control_fd != 3 else 4  # another than ours, since it is the copy that survives an exec
    environment = {**os.environ, **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")}
    arguments = command(
        f"from fastpar.engines.processes.nursery import main; main({target}, {os.getpid()}, {list(modules)!r})"
    )
    actions = [
        (os.POSIX_SPAWN_DUP2, control_fd, target),
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
    ]
    return os.posix_spawn(arguments[0], arguments, environment, file_actions=actions)


class Pool:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._warehouses: dict[str | None, Warehouse] = {}
        self.forget()

    def forget(self) -> None:
        """Start with nothing: in a forked child, what is here is the parent's."""
        for worker in list(getattr(self, "_all", {}).values()):
            worker.channel.close()
        for nursery in getattr(self, "_nurseries", ()):
            nursery.abandon()
        self._lock = RLock()  # the collector may end a call, and give its workers back, while this thread is in here
        self._idle: list[Worker] = []
        # Weakly: one that a Ctrl-C has made nobody's goes, and with it its channel, which ends the process.
        self._all: weakref.WeakValueDictionary[int, Worker] = weakref.WeakValueDictionary()
        self._nursery: Nursery | None = None
        self._nurseries: list[Nursery] = []
        self._n_started = 0
        self._sessions: weakref.WeakSet[ProcessSession] = weakref.WeakSet()
        self.task_times = TaskTimes()
        self._warehouses.clear()

    def warehouse(self, folder: str | None) -> Warehouse:
        """What is kept between calls that have their segments in `folder`, or in memory."""
        with self._lock:
            if folder not in self._warehouses:
                self._warehouses[folder] = Warehouse(WAREHOUSE_BYTES, folder)
            return self._warehouses[folder]

    def admit(self, session: ProcessSession) -> int:
        """A call begins; how many workers those may have that are under way already."""
        with self._lock:
            others = list(self._sessions)
            self._sessions.add(session)
        return sum(other.n_workers for other in others if not other.is_closed)

    def lease(self, options: Options, private: list[Nursery]) -> Worker:
        """A worker for one call.

        Parameters
        ----------
        options : Options
        private : list
            The call's own nurseries, for workers that are copies of the caller; this may add one.
        """
        _, initializer = kind = options.kind
        with self._lock:
            for worker in self._idle[::-1]:
                if worker.kind == kind:
                    self._idle.remove(worker)
                    if worker.is_well():
                        return worker
                    self._drop(worker)
            if initializer is not None:  # those that hold what another one made will hardly be wanted again
                for worker in [worker for worker in self._idle if worker.kind[1] not in (None, initializer)]:
                    self._idle.remove(worker)
                    self._drop(worker)
        return self._start(options, private)

    def _start(self, options: Options, private: list[Nursery]) -> Worker:
        channel, theirs = make_pair()
        board = Board()
        try:
            with self._lock:
                self._n_started += 1
                number = self._n_started
                nursery = self._find_nursery(options, private)
            spawns = options.start_method == "spawn"
            if not nursery.send(protocol.FORK, (number, spawns), (theirs.fd, board.fd)):
                nursery = self._replace(nursery, options, private)
                nursery.send(protocol.FORK, (number, spawns), (theirs.fd, board.fd))
        finally:
            theirs.close()
        board.give_up_fd()
        worker = Worker(number, channel, board, options.kind, nursery)
        with self._lock:
            self._all[number] = worker
        return worker

    def _find_nursery(self, options: Options, private: list[Nursery]) -> Nursery:
        modules = (*(name for name in USUAL_MODULES if name in sys.modules), *options.for_worker.preload)
        if options.start_method == "fork":
            if not private:
                private.append(self._new_nursery((), is_fork=True))
            return private[0]
        if self._nursery is None:
            self._nursery = self._new_nursery(modules, is_fork=False)
        self._nursery.preload(modules)
        return self._nursery

    def _new_nursery(self, modules: tuple[str, ...], *, is_fork: bool) -> Nursery:
        nursery = Nursery(modules, is_fork=is_fork)
        self._nurseries.append(nursery)
        return nursery

    def _replace(self, nursery: Nursery, options: Options, private: list[Nursery]) -> Nursery:
        """Another nursery, for one that has died, and its workers with it."""
        with self._lock:
            if nursery in self._nurseries:
                self._nurseries.remove(nursery)
                nursery.end()
            if self._nursery is nursery:
                self._nursery = None
            if nursery in private:
                private.remove(nursery)
            return self._find_nursery(options, private)

    def give_back(self, worker: Worker) -> None:
        """The end of a lease: the worker is idle."""
        with self._lock:
            self._idle.append(worker)

    def retire(self, worker: Worker) -> None:
        """The end of a lease and of the worker: it ends when it reads that nobody is there, or is dead already."""
        with self._lock:
            self._drop(worker)

    def _drop(self, worker: Worker) -> None:
        self._all.pop(worker.number, None)
        worker.channel.close()
        for *_, fds in worker.outbox:
            for fd in fds:
                os.close(fd)
        worker.outbox.clear()

    def dismiss(self, nurseries: list[Nursery]) -> None:
        """End a call's own nurseries and their workers."""
        for nursery in nurseries:
            with self._lock:
                if nursery in self._nurseries:
                    self._nurseries.remove(nursery)
            nursery.end()
        nurseries.clear()

    def close(self) -> None:
        """End all processes and wait until they are gone; the pool may be used again."""
        with self._lock:
            idle, self._idle = self._idle, []
            for worker in idle:
                self._drop(worker)
            nurseries, self._nurseries = self._nurseries, []
            self._nursery = None
            for nursery in nurseries:
                nursery.end()
            warehouses, self._warehouses = self._warehouses, {}
        for warehouse in warehouses.values():
            warehouse.clear()

    def rest(self) -> None:
        """End what no call is using: all of it, or where one is under way the idle workers."""
        with self._lock:
            if all(session.is_closed for session in self._sessions):
                self.close()
                return
            idle, self._idle = self._idle, []
            for worker in idle:
                self._drop(worker)

    def end(self) -> None:
        """At the end of the interpreter: the same, and calls that have not ended do so now."""
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.end()
        self.close()
