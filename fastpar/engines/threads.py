"""The "threading" engine: Python threads that run the compiled loop of `_core.threads`.

Owns the one pool of threads of this process, which outlive calls, and what a worker sets up on joining a run: its
share of the CPUs, its limits on inner threads, the caller's context. Any thread may call `open`; a forked child
starts with an empty pool. On free-threaded interpreters the workers run pure Python side by side, on others only what
releases the GIL.
"""

from __future__ import annotations

import atexit
import os
import sys
from contextvars import copy_context

from fastpar import config, cpu
from fastpar._core.batching import BatchSizer
from fastpar._core.dispatch import Run
from fastpar._core.slots import KEEP, Slots
from fastpar._core.threads import Team, ThreadPool
from fastpar.engines.base import Capabilities, Plan
from fastpar.engines.inner_threads import limit

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable

#: What a batch costs beside its tasks, in nanoseconds: two handovers through locks, and its part of waking the caller
#: (a wake-up and a switch of the GIL are 3 to 9 us). The heuristic corrects it as it measures.
BATCH_OVERHEAD_NS = 5_000


class ThreadSession:
    """One call on threads."""

    __slots__ = ("_inner", "_team", "run")

    def __init__(self, pool: ThreadPool, plan: Plan) -> None:
        division = cpu.Division(plan.n_workers)
        self._inner = limit(plan.inner_max_num_threads or division.least)

        def enter(rank: int, enter_worker: Callable[[], object] = self._inner.enter_worker) -> None:
            cpu.enter_worker_share(cpu.Share(division, rank))
            enter_worker()

        context = copy_context()
        context.run(config.activate, plan.nested_config)
        context.run(cpu.enter_share, cpu.Share(division, plan.n_workers - 1))
        # Not the reader of a generator: a later task may wait for what the reader does with an earlier result.
        caller_helps = plan.keep == KEEP["list"] and not plan.times_tasks
        self._team = Team(pool, context, plan.n_workers, enter, caller_helps=caller_helps)
        self.run = Run(
            plan.source,
            Slots(plan.keep),
            plan.n_workers,
            plan.n_total,
            plan.pre_dispatch,
            BatchSizer(BATCH_OVERHEAD_NS, plan.batch_size),
            self._team,
            times_tasks=plan.times_tasks,
        )

    def step(self, timeout_ns: int) -> bool:
        """Read, help with tiny tasks, and wait."""
        return self._team.step(self.run, timeout_ns)

    def advice(self) -> str | None:
        """What the user should know about how the run went: whether the tasks held the GIL."""
        busy_ns, cpu_ns = self.run.worker_times_ns
        return gil_advice(self.run.elapsed_ns, busy_ns, cpu_ns)

    def close(self) -> None:
        """Give the inner threads back; the workers leave by themselves."""
        self._team.remember(self.run)
        self._inner.release()


def gil_advice(elapsed_ns: int, busy_ns: int, cpu_ns: int) -> str | None:
    """A sentence where several workers were inside tasks, but together used the CPU of one: they waited for the GIL.

    Parameters
    ----------
    elapsed_ns : int
        Wall time of the run.
    busy_ns, cpu_ns : int
        Wall time inside tasks and CPU time, summed over workers. Tasks that wait for files or sleep use hardly any CPU,
        so they are not meant.
    """
    if elapsed_ns < 500_000_000 or not getattr(sys, "_is_gil_enabled", lambda: True)():
        return None
    n_busy, n_cpus = busy_ns / elapsed_ns, cpu_ns / elapsed_ns
    if n_busy < 1.5 or not 0.7 < n_cpus < 1.2:
        return None
    return (
        f"The tasks held the GIL: {n_busy:.1f} threads were busy, but used {n_cpus:.1f} CPUs. Threads speed up code "
        "that releases the GIL (NumPy, Cython nogil) and free-threaded Python; pure Python needs worker processes."
    )


class ThreadEngine:
    """See the module's docstring."""

    name = "threading"
    capabilities = Capabilities(
        shares_memory=True, kills_tasks=False, supports_timeout=True, limits_inner_threads=True
    )

    def __init__(self) -> None:
        self.pool = ThreadPool()
        os.register_at_fork(after_in_child=self.pool.forget)
        atexit.register(self.pool.close)

    def open(self, plan: Plan) -> ThreadSession:
        """Begin a call on threads."""
        return ThreadSession(self.pool, plan)


ENGINE = ThreadEngine()
