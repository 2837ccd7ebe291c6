"""Keeps BLAS, OpenMP and numba inside threading tasks within the worker's share of the CPUs.

Without it, 8 worker threads that multiply matrices on 8 CPUs start 64 threads. Two kinds of pools:

- *process-wide* (OpenBLAS): one number for everybody. It is lowered while any run limits it, to the smallest
  of the runs' limits, and comes back after the last. Whatever others set in between is respected: it is the
  number that comes back.
- *per thread* (OpenMP, MKL, numba): each worker thread sets its own on joining a run, and may keep it after:
  the next run sets what it needs. The number is never above the calling thread's, so that a limit around the
  call holds inside the tasks too.

Limits only lower. A library that a task is the first to load is limited from the next run on. Any thread may
enter, with the GIL or without it.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from threading import Lock

from fastpar._core.threads import call_if_free
from fastpar.engines._native_pools import Finder, Found, NativePool

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class InnerLimit:
    """One run's limit on inner threads, in force until `release`.

    Attributes
    ----------
    n_inner : int
        Threads that each task may use inside native libraries.
    """

    __slots__ = ("_ledger", "_per_thread", "n_inner")

    def __init__(self, n_inner: int, found: Found, ledger: Ledger) -> None:
        self.n_inner = n_inner
        self._per_thread = tuple((pool, min(n_inner, pool.get())) for pool in found.per_thread)
        self._ledger = ledger
        if found.process_wide:
            ledger.add(self, found.process_wide)

    def enter_worker(self) -> None:
        """Limit the calling thread for this run: microseconds, and less when it is limited already.

        For the engine's own threads, since it is not undone: the next run sets what it needs.
        """
        for pool, n_threads in self._per_thread:
            if pool.get() != n_threads:
                pool.set(n_threads)

    def release(self) -> None:
        """End the limit; process-wide numbers come back after the last run.

        May be called from any thread, and again. Never waits for a lock, since the garbage collector may call
        it at any point, through an abandoned generator: a thread that holds the lock then does the work.
        """
        self._ledger.remove(self)


class Ledger:
    """Who limits the process-wide pools, and the numbers that come back.

    The lock guards `_runs` and `_held`. `_released` is a queue without one: `remove` appends, and whoever
    gets the lock empties it. Nothing stays in it, since each holder looks again after letting go of the lock.
    """

    def __init__(self) -> None:
        self._runs: dict[InnerLimit, int] = {}
        self._held: dict[NativePool, _Held] = {}
        self._released: deque[InnerLimit] = deque()
        self._lock = Lock()

    def add(self, run: InnerLimit, pools: Iterable[NativePool]) -> None:
        """Put `run.n_inner` in force on `pools`, and on those that other runs hold."""
        try:
            with self._lock:
                self._runs[run] = run.n_inner
                for pool in pools:
                    if pool not in self._held:
                        self._held[pool] = _Held(pool)
                self._update_locked()
        except BaseException:
            self.remove(run)  # no one else would: the caller never gets to see the limit
            raise
        self._settle()

    def remove(self, run: InnerLimit) -> None:
        """Take `run` out, now or as soon as the thread that holds the lock gets to it."""
        self._released.append(run)
        self._settle()

    def forget(self) -> None:
        """Begin anew in a forked child: the parent's runs are not here, and the lock may be held for ever.

        The numbers to come back are kept, and do come back after the child's own first run. Setting them here
        would make OpenBLAS start its threads in every child.
        """
        self._runs.clear()
        self._released.clear()
        self._lock = Lock()

    def _settle(self) -> None:
        while self._released and call_if_free(self._lock, self._update_locked):
            pass

    def _update_locked(self) -> None:
        """Forget the runs that ended, and set every pool to what the others need. With the lock held."""
        while self._released:
            self._runs.pop(self._released.popleft(), None)
        if self._runs:
            tightest = min(self._runs.values())
            for held in self._held.values():
                held.lower(tightest)
        else:
            for held in self._held.values():
                held.restore()
            self._held.clear()


class _Held:
    """A process-wide pool under limits: the number that was set last, and the number to come back to."""

    __slots__ = ("_applied", "_original", "_pool")

    def __init__(self, pool: NativePool) -> None:
        self._pool = pool
        self._original = self._applied = pool.get()

    def lower(self, limit: int) -> None:
        current = self._pool.get()
        if current != self._applied:  # someone else has set it since, and means it
            self._original = current
        self._applied = min(limit, self._original)
        if current != self._applied:
            self._pool.set(self._applied)

    def restore(self) -> None:
        if self._pool.get() == self._applied != self._original:
            self._pool.set(self._original)


_finder = Finder()
_ledger = Ledger()


def limit(n_inner: int | Callable[[], int]) -> InnerLimit:
    """Limit the inner threads of one run's tasks, until `release` of what is returned.

    Parameters
    ----------
    n_inner : int or callable
        Threads that each task may use inside native libraries, at least 1; or what returns that number, called
        when there is something to limit.

    Notes
    -----
    A microsecond when no library with threads is loaded, and then threadpoolctl is not imported either; a few
    microseconds otherwise. The first call after an import looks through the loaded libraries: up to a
    millisecond.
    """
    found = _finder.find()
    if callable(n_inner):
        n_inner = n_inner() if any(found) else 1
    return InnerLimit(n_inner, found, _ledger)


def _forget_the_parent() -> None:
    _ledger.forget()
    _finder.renew_lock()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget_the_parent)
