"""What to say when a worker has died: how, and what is known of the reason."""

from __future__ import annotations

import os

from fastpar.engines.processes import protocol
from fastpar.errors import TerminatedWorkerError, WorkerStartError

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from fastpar.engines.processes.pool import Worker


def death(worker: Worker, kind: int, numbers: tuple[int, ...]) -> TerminatedWorkerError:
    """The error for a worker that died while it had a task."""
    code = numbers[1] if kind == protocol.DIED else None
    peak = f"; it had used up to {numbers[2] / 2**20:.0f} MB" if kind == protocol.DIED else ""
    return TerminatedWorkerError(
        f"worker process {worker.pid or 'not yet named'} {_how(code)} while it ran this task{peak}{_hint(code)}", code
    )


def _how(code: int | None) -> str:
    if code is None:
        return "has gone"
    if code >= 0:
        return f"exited with code {code}"
    import signal

    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _hint(code: int | None) -> str:
    import signal

    if code == -signal.SIGKILL:
        n_kills = oom_kills()
        if n_kills:
            return f". The kernel has killed {n_kills} processes of this control group because memory was short"
        return ". The kernel does this when memory is short; so does kill -9"
    if code in (-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT, -signal.SIGILL, -signal.SIGFPE):
        return ". That is a fault in compiled code; python -X faulthandler shows where"
    return ""


def oom_kills() -> int:
    """How many processes of this control group the kernel has killed for want of memory, as far as it tells."""
    try:
        with open("/proc/self/cgroup") as file:
            path = next(line.split(":", 2)[2].strip() for line in file if line.startswith("0::"))
        with open(f"/sys/fs/cgroup{path}/memory.events") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
    except (OSError, StopIteration, ValueError):
        return 0


def start_error(numbers: tuple[int, ...]) -> WorkerStartError:
    """The error for workers that cannot be started."""
    if numbers[:1] == (-1,):
        return WorkerStartError(numbers[1], f"a worker process could not be forked: {os.strerror(numbers[1])}")
    return WorkerStartError(0, "worker processes end as soon as they are started; what they print may say why")
