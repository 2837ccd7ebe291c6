"""Simulates batch-size rules on machines that we do not have: 2 to 1,024 workers, eight shapes of work.

A discrete-event simulation of one run: a source read no further than the window, a FIFO queue, workers that take a
batch each time they are free, pay its overhead, and hand the unstarted rest back to the front of the queue when it
overruns its budget. The automatic rule is the compiled one, `fastpar._core.batching.BatchSizer`; time is simulated,
decisions are not.

    python -m bench.simulator            # the table, a few seconds
    python -m bench.simulator --plot     # and bench/results/simulator.png

Two costs make up a message: `overhead_ns`, which the worker waits from one batch to the next, and within it `serial_ns`,
during which the one queue (a lock, or the parent process) serves nobody else. The second is what ends scaling.
"""

import argparse
import heapq
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice, product
from bisect import bisect_left
from pathlib import Path
from statistics import median

import numpy as np

from fastpar._core.batching import BatchSizer

US, MS = 1_000, 1_000_000  # in nanoseconds
PRE_DISPATCH = 2  # the window, in batches a worker: joblib's default
AIM_MAKESPAN, AIM_OVERHEAD = 1.10, 0.05

# ---- machines and work


@dataclass(frozen=True)
class Engine:
    """What one message costs, in nanoseconds."""

    name: str
    overhead_ns: int
    serial_ns: int


#: The priors of our engines; the serial parts are a queue's lock, and one message through the parent's `poll` loop.
THREADS = Engine("threads", 5 * US, 200)
PROCESSES = Engine("processes", 50 * US, 8 * US)

Shape = Callable[[np.random.Generator, int], np.ndarray]


def _one_straggler(rng: np.random.Generator, n: int) -> np.ndarray:
    work = rng.uniform(0.5, 1.5, n)
    work[n // 2] = 300
    return work


#: Relative durations; `durations` scales them to a mean.
SHAPES: dict[str, Shape] = {
    "uniform": lambda rng, n: rng.uniform(0.5, 1.5, n),
    "exponential": lambda rng, n: rng.exponential(1, n),
    "lognormal": lambda rng, n: rng.lognormal(0, 2, n),
    "fast then slow": lambda rng, n: np.repeat([1.0, 1000.0], [n - n // 4, n // 4]),
    "slow then fast": lambda rng, n: np.repeat([1000.0, 1.0], [n // 4, n - n // 4]),
    "one straggler": _one_straggler,
    "ascending": lambda rng, n: np.sort(rng.lognormal(0, 2, n)),
    "descending": lambda rng, n: np.sort(rng.lognormal(0, 2, n))[::-1],
}


def durations(shape: str, n_tasks: int, mean_ns: float, seed: int = 0) -> list[float]:
    """Task times in nanoseconds of one shape of work, with the given mean."""
    work = SHAPES[shape](np.random.default_rng(seed), n_tasks)
    return (work * (mean_ns / work.mean())).tolist()


# ---- rules


class Auto:
    """Ours, compiled."""

    cuts_ahead = False

    def __init__(self, engine: Engine, n_tasks: int, n_workers: int):
        self._sizer = BatchSizer(engine.overhead_ns)
        self._n_workers = n_workers

    def window(self) -> int:
        return PRE_DISPATCH * self._n_workers * self._sizer.current_size()

    def size(self, n_left: int) -> int:
        return self._sizer.next_size(n_left, self._n_workers)

    def budget_ns(self) -> float:
        return self._sizer.budget_ns()

    def learn(self, ran: Sequence[float], overhead_ns: float, round_trip_ns: float) -> None:
        self._sizer.observe_overhead(int(overhead_ns))
        self._sizer.observe(len(ran), int(sum(ran)), int(max(ran)))


class Fixed:
    """A constant size, as `batch_size=16`."""

    cuts_ahead = False
    constant = 1

    def __init__(self, engine: Engine, n_tasks: int, n_workers: int):
        self._n_workers = n_workers

    def window(self) -> int:
        return PRE_DISPATCH * self._n_workers * self.constant

    def size(self, n_left: int) -> int:
        return self.constant

    def budget_ns(self) -> float:
        return float("inf")

    def learn(self, ran: Sequence[float], overhead_ns: float, round_trip_ns: float) -> None:
        pass


class Fixed16(Fixed):
    constant = 16


class Fixed256(Fixed):
    constant = 256


class Halves(Fixed):
    """One equal share for each worker, what a hand-written split does; needs the length."""

    def __init__(self, engine: Engine, n_tasks: int, n_workers: int):
        super().__init__(engine, n_tasks, n_workers)
        self.constant = -(-n_tasks // n_workers)


class Joblib(Fixed):
    """The rule of joblib's process backends: batches of 0.2 to 2 s, measured from dispatch to completion.

    Batches are cut two a worker ahead of their execution, so their durations include the wait in the queue. Below 0.2 s
    (smoothed) the size goes to twice what would take 0.2 s, at most doubling; above 2 s it goes down to that figure. A
    change forgets the smoothed duration. Only batches of the current size are counted. When the source runs out while
    a round of batches is cut, the remainder is cut ten times finer.
    """

    cuts_ahead = True

    def __init__(self, engine: Engine, n_tasks: int, n_workers: int):
        super().__init__(engine, n_tasks, n_workers)
        self.constant = 1
        self._smoothed_ns = 0.0

    def size(self, n_left: int) -> int:
        if 0 <= n_left < self.constant * self._n_workers:
            return max(1, n_left // (10 * self._n_workers))
        return self.constant

    def learn(self, ran: Sequence[float], overhead_ns: float, round_trip_ns: float) -> None:
        if len(ran) != self.constant:
            return
        fresh = self._smoothed_ns == 0
        self._smoothed_ns = round_trip_ns if fresh else 0.8 * self._smoothed_ns + 0.2 * round_trip_ns
        wanted = max(1, int(2 * self.constant * 200 * MS / self._smoothed_ns))
        if self._smoothed_ns < 200 * MS:
            self._resize(min(2 * self.constant, wanted))
        elif self._smoothed_ns > 2000 * MS and self.constant > 1:
            self._resize(wanted)

    def _resize(self, size: int) -> None:
        self.constant = size
        self._smoothed_ns = 0


Rule = Auto | Fixed

RULES: dict[str, type[Rule]] = {
    "fastpar": Auto,
    "joblib": Joblib,
    "fixed 1": Fixed,
    "fixed 16": Fixed16,
    "fixed 256": Fixed256,
    "static shares": Halves,
}

# ---- the simulation


@dataclass
class Batch:
    """Tasks on their way: cut from the queue, not yet reported."""

    tasks: list[float]
    cut_ns: float
    overhead_ns: float = 0.0
    n_run: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a run cost.

    Attributes
    ----------
    makespan_ns, bound_ns : float
        Time of the run, and the time below which no schedule can be: an even share or the longest task.
    longest_ns : float
        The longest task.
    n_batches, n_cut_short : int
        Messages, and how many of them handed a rest back.
    overhead : float
        Time spent on messages, as a share of the time spent on tasks.
    """

    makespan_ns: float
    bound_ns: float
    longest_ns: float
    n_batches: int
    n_cut_short: int
    overhead: float

    @property
    def ratio(self) -> float:
        """Makespan over bound."""
        return self.makespan_ns / self.bound_ns

    @property
    def in_aim(self) -> bool:
        """Is the makespan within 1.10 bounds and one longest task?"""
        return self.makespan_ns <= AIM_MAKESPAN * self.bound_ns + self.longest_ns


class Simulation:
    """One run; `outcome` tells how it went."""

    def __init__(
        self, tasks: list[float], n_workers: int, rule: type[Rule], engine: Engine = THREADS, *, known: bool = True
    ):
        self._tasks = tasks
        self._n_workers = n_workers
        self._engine = engine
        self._known = known
        self._rule = rule(engine, len(tasks), n_workers)
        self._source = iter(tasks)
        self._n_source = len(tasks)  # not yet read
        self._n_unfinished = 0  # read, not finished
        self._queue: deque[float] = deque()
        self._cut: deque[Batch] = deque()  # joblib's rule only
        self._n_cut = 0  # batches cut and not reported
        self._queue_free_ns = 0.0
        self._idle: list[int] = []
        self._events: list[tuple[float, int, Batch | None]] = []
        self._n_batches = self._n_cut_short = 0
        self._overhead_ns = 0.0

    def outcome(self) -> Outcome:
        now = 0.0
        self._events = [(0.0, worker, None) for worker in range(self._n_workers)]
        while self._events:
            now, worker, batch = heapq.heappop(self._events)
            if batch is not None:
                self._report(now, batch)
            self._pull()
            self._start(now, worker)
            self._wake(now)
        if self._n_unfinished or self._n_source:
            raise AssertionError(f"{self._n_unfinished + self._n_source} tasks were lost")
        total, longest = sum(self._tasks), max(self._tasks)
        return Outcome(
            makespan_ns=now,
            bound_ns=max(total / self._n_workers, longest),
            longest_ns=longest,
            n_batches=self._n_batches,
            n_cut_short=self._n_cut_short,
            overhead=self._overhead_ns / total,
        )

    def _pull(self) -> None:
        """Read the source as far as the window allows."""
        room = min(self._rule.window() - self._n_unfinished, self._n_source)
        if room > 0:
            self._queue.extend(islice(self._source, room))
            self._n_source -= room
            self._n_unfinished += room

    def _take(self, now: float) -> Batch | None:
        if not self._rule.cuts_ahead:
            return self._slice(now)
        while self._n_cut < PRE_DISPATCH * self._n_workers and self._queue:
            self._cut.append(self._slice(now))
            self._n_cut += 1
        return self._cut.popleft() if self._cut else None

    def _slice(self, now: float) -> Batch | None:
        if not self._queue:
            return None
        n_left = len(self._queue) + self._n_source if self._known or not self._n_source else -1
        n = min(self._rule.size(n_left), len(self._queue))
        return Batch([self._queue.popleft() for _ in range(n)], now)

    def _start(self, now: float, worker: int) -> None:
        """Give the worker a batch and foresee when it will report."""
        batch = self._take(now)
        if batch is None:
            self._idle.append(worker)
            return
        served = max(now, self._queue_free_ns)
        self._queue_free_ns = served + self._engine.serial_ns
        batch.overhead_ns = served - now + self._engine.overhead_ns
        ends = list(accumulate(batch.tasks))
        batch.n_run = min(bisect_left(ends, self._rule.budget_ns()) + 1, len(ends))
        heapq.heappush(self._events, (now + batch.overhead_ns + ends[batch.n_run - 1], worker, batch))

    def _report(self, now: float, batch: Batch) -> None:
        ran, rest = batch.tasks[: batch.n_run], batch.tasks[batch.n_run :]
        self._rule.learn(ran, batch.overhead_ns, now - batch.cut_ns)
        self._queue.extendleft(reversed(rest))
        self._n_unfinished -= len(ran)
        self._n_cut -= 1
        self._n_batches += 1
        self._n_cut_short += bool(rest)
        self._overhead_ns += self._engine.overhead_ns

    def _wake(self, now: float) -> None:
        """Idle workers try again, one for each task that lies ready."""
        for _ in range(min(len(self._idle), len(self._queue))):
            heapq.heappush(self._events, (now, self._idle.pop(), None))


def simulate(
    tasks: list[float], n_workers: int, rule: type[Rule] = Auto, engine: Engine = THREADS, *, known: bool = True
) -> Outcome:
    """How long a run takes.

    Parameters
    ----------
    tasks : list of float
        Durations in nanoseconds, in the order of the source.
    n_workers : int
    rule : type
        One of `RULES`.
    engine : Engine
        What a message costs.
    known : bool, default True
        Does the run know the number of tasks before it has read them all?
    """
    return Simulation(tasks, n_workers, rule, engine, known=known).outcome()
