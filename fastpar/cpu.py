"""How many CPUs this code may use, and why.

Owns the reading of the machine's limits (affinity, control groups, environment), and the share of them that
a piece of work inside a worker has. It starts no process and no thread, and never raises: a program must not
fail because a container hides a file.

Every thread may enter, with the GIL or without it. The only shared state is one tuple that is replaced whole;
two threads that find it stale both read the files, and either result will do.
"""

from __future__ import annotations

import os
from collections import namedtuple
from contextvars import ContextVar, Token, copy_context
from time import monotonic

from fastpar import _core

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from collections.abc import Set
    from typing import Any, Literal, overload

#: Seconds for which the machine and its control groups are not read again: reading takes a tenth of a
#: millisecond or more, and quotas change when someone resizes a running container. Affinity and environment
#: are read each time.
KEEP_S = 10.0

MAX_VARIABLES = ("FASTPAR_MAX_CPUS", "LOKY_MAX_CPU_COUNT")  # the second is joblib's


class Limit(namedtuple("Limit", ["name", "n_cpus", "source"])):
    """One limit that was found: what kind, how many CPUs (None: it was ignored), and where it was read."""

    __slots__ = ()
    name: str
    n_cpus: int | None
    source: str


class CpuCount(namedtuple("CpuCount", ["count", "limits"])):
    """What `cpu_count(explain=True)` returns: the count, and every limit that was found."""

    __slots__ = ()
    count: int
    limits: tuple[Limit, ...]

    @property
    def reasons(self) -> tuple[Limit, ...]:
        """The limits that decide: those that allow no more than the count."""
        return tuple(limit for limit in self.limits if limit.n_cpus == self.count)


class _Machine(namedtuple("_Machine", ["expires", "file_system", "n_cpus", "quotas"])):
    """What was read from the machine, and the monotonic time until which it holds."""

    __slots__ = ()
    expires: float
    file_system: str
    n_cpus: int
    quotas: tuple[Limit, ...]


_machine = _Machine(0.0, "", 1, ())

_context_share: ContextVar[Share | int | None] = ContextVar("fastpar_cpu_share", default=None)
_process_share: int | None = None
_native_pool: Any = None  # the module, once it is loaded

if TYPE_CHECKING:

    @overload
    def cpu_count(only_physical_cores: bool = ..., *, explain: Literal[False] = ...) -> int: ...
    @overload
    def cpu_count(only_physical_cores: bool = ..., *, explain: Literal[True]) -> CpuCount: ...


def cpu_count(only_physical_cores: bool = False, *, explain: bool = False) -> int | CpuCount:
    """Return the number of CPUs that this process may use, at least 1.

    Parameters
    ----------
    only_physical_cores : bool
        Count the hyperthreads of a core as one.
    explain : bool
        Return the limits too, not only the count.

    Returns
    -------
    int or CpuCount
        The smallest of: the CPUs of the machine, the affinity of the process, the quotas of its control
        groups (rounded up), SLURM_CPUS_PER_TASK where affinity leaves the whole machine, FASTPAR_MAX_CPUS
        and LOKY_MAX_CPU_COUNT.

    Notes
    -----
    Takes a few microseconds. The machine and its control groups are read again after `KEEP_S` seconds. An
    environment variable that holds no positive integer is ignored; `explain=True` shows that it was.

    Where joblib gives up on physical cores as soon as affinity or a quota restricts the process, they are
    counted here among the CPUs that may be used. They are known on Linux; elsewhere each CPU is a core.

    Examples
    --------
    >>> cpu_count(explain=True).count == cpu_count()
    True
    """
    limits = find_limits(only_physical_cores)
    count = max(1, min(limit.n_cpus for limit in limits if limit.n_cpus is not None))
    return CpuCount(count, tuple(limits)) if explain else count


def find_limits(only_physical_cores: bool = False, file_system: str = "/") -> list[Limit]:
    """Return every limit on the CPUs of this process; `cpu_count` is their minimum.

    `file_system` is the directory that stands for "/" for control groups and cores; tests bring their own.
    """
    machine = _read_machine(file_system)
    limits = [Limit("machine", machine.n_cpus, "os.cpu_count()")]
    usable = _affinity()
    if usable:
        limits.append(Limit("affinity", len(usable), "os.sched_getaffinity(0)"))
    limits += machine.quotas
    if only_physical_cores:
        limits.append(_physical_cores(usable or range(machine.n_cpus), file_system))
    # A scheduler that confines its tasks by affinity has said it all; SLURM without that plugin has not.
    confined = usable is not None and len(usable) < machine.n_cpus
    variables = MAX_VARIABLES if confined else (*MAX_VARIABLES, "SLURM_CPUS_PER_TASK")
    limits += [_variable(name, os.environ[name]) for name in variables if name in os.environ]
    return limits


def _read_machine(file_system: str) -> _Machine:
    global _machine  # noqa: PLW0603 - the cache described at the top of this file
    machine, now = _machine, monotonic()
    if now >= machine.expires or machine.file_system != file_system:
        from fastpar import _cgroup

        quotas = tuple(Limit("cgroup quota", n, source) for n, source in _cgroup.quotas(file_system))
        _machine = machine = _Machine(now + KEEP_S, file_system, os.cpu_count() or 1, quotas)
    return machine


def _affinity() -> Set[int] | None:
    """Return the CPUs the scheduler may put this process on, None where the system does not say."""
    try:
        return os.sched_getaffinity(0)
    except (AttributeError, OSError):  # macOS and Windows have no such call; a sandbox may refuse it
        return None


def _variable(name: str, text: str) -> Limit:
    number = text.strip()
    if number.isdecimal() and len(number) < 10 and int(number) > 0:
        return Limit(name, int(number), "environment")
    return Limit(name, None, f"environment: {text!r} is no positive integer, ignored")


def _physical_cores(cpus: Set[int] | range, file_system: str) -> Limit:
    """Count the cores that `cpus` belong to. Siblings list the same CPUs, so equal texts are one core."""
    topology = f"{file_system.rstrip('/')}/sys/devices/system/cpu/cpu%d/topology/%s"
    cores = set()
    for cpu in cpus:
        siblings = _first_text(topology % (cpu, "core_cpus_list"), topology % (cpu, "thread_siblings_list"))
        cores.add(siblings or f"{cpu}\n")
    return Limit("physical cores", len(cores), "/sys/devices/system/cpu/cpu*/topology")


def _first_text(*paths: str) -> str:
    from fastpar import _cgroup

    for path in paths:
        text = _cgroup.read(path)
        if text:
            return text
    return ""


# --------------------------------------------------------------------------------- the share of a worker


def budget() -> int:
    """Return the CPUs that the calling code may use: a worker's share inside a worker, else `cpu_count()`."""
    part = own_share()
    return cpu_count() if part is None else part


def own_share() -> int | None:
    """Return a worker's share of the CPUs; None outside of workers. Takes a tenth of a microsecond."""
    part = _context_share.get()
    if isinstance(part, Share):
        return part.n_cpus()
    return _process_share if part is None else part


def share(budget: int, n_workers: int, rank: int) -> int:
    """Return the part of `budget` that worker `rank` of `n_workers` gets, at least 1.

    The CPUs that an even split leaves over go to the first ranks, one each: with floor division alone, 3
    workers on 8 CPUs would leave 2 idle.

    Examples
    --------
    >>> [share(8, 3, rank) for rank in range(3)]
    [3, 3, 2]
    """
    even, left_over = divmod(budget, n_workers)
    return max(1, even + (rank < left_over))


class Division:
    """The budget of the calling context, divided among the workers of a call; counted when somebody first asks.

    Counting takes a few microseconds, a tenth of a short call, and most tasks never ask.

    Parameters
    ----------
    n_workers : int
        How many share it.
    """

    __slots__ = ("_context", "_n_cpus", "n_workers")

    def __init__(self, n_workers: int) -> None:
        self.n_workers = n_workers
        self._context = copy_context()
        self._n_cpus: int | None = None

    def n_cpus(self, rank: int) -> int:
        """CPUs of one worker."""
        if self._n_cpus is None:
            self._n_cpus = self._context.copy().run(budget)  # a copy, since another thread may be asking too
        return share(self._n_cpus, self.n_workers, rank)

    def least(self) -> int:
        """CPUs that every worker has."""
        return self.n_cpus(self.n_workers - 1)


class Share(namedtuple("Share", ["division", "rank"])):
    """One worker's part of a division."""

    __slots__ = ()

    def n_cpus(self) -> int:
        """How many CPUs that is."""
        n_cpus: int = self.division.n_cpus(self.rank)
        return n_cpus


def enter_share(part: Share | int) -> Token[Share | int | None]:
    """Make `part` the budget of this context, a task in a worker thread, until `leave_share`."""
    return _context_share.set(part)


def enter_worker_share(part: Share) -> None:
    """`enter_share` for good, in a thread that only runs tasks: loops of compiled code keep to `part` as well."""
    enter_share(part)
    if _native_pool is not None:
        _native_pool.set_thread_limit(part.n_cpus())


def leave_share(token: Token[Share | int | None]) -> None:
    """Undo the `enter_share` that returned `token`, in the same context."""
    _context_share.reset(token)


def set_process_share(n_cpus: int | None) -> None:
    """Make `n_cpus` the budget of this whole process: a worker process does, whenever it joins a call.

    A contextvar would not do there: threads that a task starts begin with an empty context.
    """
    global _process_share  # noqa: PLW0603 - one writer, the worker's main loop; readers take any value
    _process_share = n_cpus
    if _native_pool is not None:
        _native_pool.set_process_limit(n_cpus or cpu_count())


def _limit_native_pool(pool: Any) -> None:
    global _native_pool  # noqa: PLW0603 - set once, when the pool is loaded
    _native_pool = pool
    pool.set_process_limit(_process_share or cpu_count())
    part = _context_share.get()
    pool.set_thread_limit(0 if part is None else budget())


_core.when_pool_is_loaded = _limit_native_pool
