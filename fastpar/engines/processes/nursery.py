"""The nursery: one small process that the workers are forked from, and that outlives them.

It is started with exec, before it there is no thread and no lock that a fork could tear: what is imported here is
shared by all workers until they write to it. It does four things, in one thread, each on an event: it forks a worker
when asked, kills one when asked, tells the parent how a worker ended, and ends with all of them when the parent has
gone.

What it says of a worker it says on the worker's own channel, whose other end it keeps open: so the parent hears of a
death after everything that the worker had sent, in order, even where a grandchild still holds the socket. It never
waits in a send, for others wait for it: what finds a socket full is sent when there is room.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found] # the module around it makes enums of the numbers
import gc
import importlib
import os
import select
import sys

from fastpar._core import labor
from fastpar._core.channel import Channel
from fastpar.engines.processes import protocol
from fastpar.engines.processes.interpreter import command

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterable


class Nursery:
    """The nursery's side of its control channel.

    Parameters
    ----------
    control : Channel
        From the parent.
    parent_pid : int
        Whose end is ours.
    """

    def __init__(self, control: Channel, parent_pid: int) -> None:
        self._control = control
        self._workers: dict[int, tuple[int, Channel]] = {}  # number of the worker: pid, and the worker's channel
        self._untold: dict[int, tuple[Channel, tuple[int, ...]]] = {}  # by descriptor: ends that had no room
        self._wakeup, self._alarm = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._alarm, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _ignore)
        self._poll = select.poll()
        self._poll.register(control.fd, select.POLLIN)
        self._poll.register(self._wakeup, select.POLLIN)
        self._parent = _watch_process(parent_pid)
        if self._parent is not None:
            self._poll.register(self._parent, select.POLLIN)

    def serve(self) -> None:
        """Until the parent has gone."""
        while True:
            ready = {fd for fd, _ in self._poll.poll()}
            if self._wakeup in ready:
                os.read(self._wakeup, 1 << 12)
            for fd in ready & self._untold.keys():
                self._poll.unregister(fd)
                self._tell_end(*self._untold.pop(fd))
            self._reap()
            if self._parent in ready:
                return
            if self._control.fd in ready and not self._obey():
                return

    def end(self) -> None:
        """Take all workers along."""
        for pid, _ in self._workers.values():
            _kill(pid)
        for pid, _ in self._workers.values():
            os.waitpid(pid, 0)

    def _obey(self) -> bool:
        message = self._control.receive(may_wait=True)
        if message is None:
            return True
        kind, numbers, body, fds = message
        if kind == protocol.FORK:
            self._fork(numbers[0], bool(numbers[1]), fds)
        elif kind == protocol.KILL:
            if numbers[0] in self._workers:
                _kill(self._workers[numbers[0]][0])
        elif kind == protocol.PRELOAD:
            preload(body.decode().split(","))
        return kind >= 0

    def _fork(self, number: int, spawns: bool, fds: list[int]) -> None:
        channel = Channel(fds[0])
        try:
            nursery_pid, pid = os.getpid(), os.fork()
        except OSError as error:
            self._tell_end(channel, (-1, error.errno or 0))
            os.close(fds[1])
            return
        if pid == 0:
            self._become_worker(channel, fds[1], number, spawns, nursery_pid)
        os.close(fds[1])
        self._workers[number] = pid, channel

    def _become_worker(self, channel: Channel, board_fd: int, number: int, spawns: bool, nursery_pid: int) -> None:
        """In the child; does not return."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            labor.die_with_parent()  # the nursery is one thread: its end is the thread's
            if os.getppid() != nursery_pid:
                os._exit(1)
            for fd in (self._wakeup, self._alarm, self._parent):
                if fd is not None:
                    os.close(fd)
            others = (other for _, other in self._workers.values())
            untold = (other for other, _ in self._untold.values())
            for each in (self._control, *others, *untold):
                each.close()
            if spawns:
                _exec_worker(channel, board_fd, number)
            from fastpar.engines.processes.worker import live

            status = live(channel, board_fd, number)
        except BaseException:  # noqa: BLE001 -- the end of the process in any case
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)

    def _reap(self) -> None:
        """Bury the dead, and say how they ended."""
        for number, (pid, channel) in list(self._workers.items()):
            done, status, usage = os.wait4(pid, os.WNOHANG)
            if done:
                del self._workers[number]
                code = os.waitstatus_to_exitcode(status)
                self._tell_end(channel, (pid, code, usage.ru_maxrss * 1024))

    def _tell_end(self, channel: Channel, numbers: tuple[int, ...]) -> None:
        """Say how a worker ended, now or when there is room, and let go of its channel."""
        try:
            is_told = channel.send(protocol.DIED, numbers)
        except OSError:  # the parent does not want to know any more
            is_told = True
        if is_told:
            channel.close()
        else:
            self._untold[channel.fd] = channel, numbers
            self._poll.register(channel.fd, select.POLLOUT)


def _ignore(number: int, frame: object) -> None:
    """A handler that does nothing, but for which the default would hold again after an exec."""


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)  # a child that is not reaped: its pid is nobody else's


def _watch_process(pid: int) -> int | None:
    """A descriptor that is readable when a process has ended; None where the system has no such thing."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def preload(modules: Iterable[str]) -> None:
    """Import modules that workers will need; those that cannot be imported are the workers' affair."""
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception:  # noqa: BLE001 -- it will say so again where it is needed
            continue


def _exec_worker(channel: Channel, board_fd: int, number: int) -> None:
    os.set_inheritable(channel.fd, True)
    os.set_inheritable(board_fd, True)
    arguments = command(f"from fastpar.engines.processes.worker import main; main({channel.fd}, {board_fd}, {number})")
    os.execv(arguments[0], arguments)


def main(control_fd: int, parent_pid: int, modules: list[str]) -> None:
    """The life of a nursery that was started with exec."""
    preload(modules)
    run(control_fd, parent_pid)


def run(control_fd: int, parent_pid: int) -> None:
    """Serve, and end without a trace."""
    try:
        signal.signal(signal.SIGINT, _ignore)  # Ctrl-C is the parent's affair
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a thread that blocks signals may have started us
        import fastpar.engines.processes.worker  # noqa: F401 -- before the fork, for all

        gc.collect()
        gc.freeze()  # what is here now is never garbage: the collector shall not write to its pages in each worker
        nursery = Nursery(Channel(control_fd), parent_pid)
        nursery.serve()
        nursery.end()
    except BaseException:  # noqa: BLE001 -- the end of the process in any case
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0)
