"""Simulates batch-size rules on machines that we do not have: 2 to 1,024 workers, eight shapes of work.

A discrete-event simulation of one run: a source read no further than the window, a FIFO queue, workers
that take a batch each time they are free, pay its overhead, and hand the unstarted rest back to the front
of the queue when it overruns its budget. The automatic rule is the compiled one,
`fastpar._core.batching.BatchSizer`; time is simulated, decisions are not.

    python -m bench.simulator                     # the table for threads, in seconds
    python -m bench.simulator --engine processes
    python -m bench.simulator --plot              # and bench/results/simulator-threads.png

Two costs make up a message: `overhead_ns`, which the worker waits from one batch to the next, and within
it `serial_ns`, during which the one queue (a lock, or the parent process) serves nobody else. The second
is what ends scaling.
"""

import argparse
import heapq
import sys
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice, product
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
    max_size: int


#: What our engines' messages cost; the serial parts are a queue's lock, and one message through the parent's loop.
#: `max_size` is what 1 us tasks need for their overhead to be a few per cent (D-012).
THREADS = Engine("threads", 5 * US, 200, 512)
PROCESSES = Engine("processes", 50 * US, 8 * US, 1024)
ENGINES = {engine.name: engine for engine in (THREADS, PROCESSES)}

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
        self._sizer = BatchSizer(engine.overhead_ns, max_size=engine.max_size)
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


class StaticShares(Fixed):
    """One equal share for each worker (static halves, where there are two); needs the length."""

    def __init__(self, engine: Engine, n_tasks: int, n_workers: int):
        super().__init__(engine, n_tasks, n_workers)
        self.constant = -(-n_tasks // n_workers)


class Joblib(Fixed):
    """The rule of joblib's process backends (its threads take one task at a time, as 'fixed 1').

    A batch should take 0.2 to 2 s from dispatch to completion. Batches are cut two a worker ahead of
    their execution, so that includes the wait in the queue. Below 0.2 s (smoothed) the size goes to twice
    what would take 0.2 s, at most doubling; above 2 s it goes down to that figure. A change forgets the
    smoothed duration. Only batches of the current size are counted. When the source runs out while a
    round of batches is cut, the remainder is cut ten times finer.
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
    "static shares": StaticShares,
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
        """Is the makespan within 1.10 bounds and one longest task, and the time on messages within 5 %?"""
        limit_ns = AIM_MAKESPAN * self.bound_ns + self.longest_ns
        return self.makespan_ns <= limit_ns and self.overhead <= AIM_OVERHEAD


class Simulation:
    """One run; `outcome` tells how it went."""

    def __init__(
        self, tasks: list[float], n_workers: int, rule: type[Rule], engine: Engine, *, known: bool = True
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
        knows = self._known or not self._n_source
        n_left = len(self._queue) + self._n_source if knows else -1
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
    tasks: list[float],
    n_workers: int,
    rule: type[Rule] = Auto,
    engine: Engine = THREADS,
    *,
    known: bool = True,
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


# ---- the table


#: Mean task time, and tasks a worker, which make 50 ms to 2.5 s of work for each worker.
SCALES = {1 * US: 50_000, 10 * US: 5_000, 100 * US: 1_000, 1 * MS: 100, 100 * MS: 25}
MAX_TASKS = 100_000  # keeps the whole table to seconds
MIN_WORK_NS = 2 * MS  # for each worker; a shorter run is over before there is anything to balance
WORKERS = (2, 8, 64, 1024)


@dataclass(frozen=True)
class Case:
    """One run of the table."""

    rule: str
    n_workers: int
    mean_ns: int
    shape: str
    known: bool
    outcome: Outcome


def cases(engine: Engine) -> Iterator[Case]:
    """Every rule on every shape, scale and machine; ours with known and with unknown length."""
    for n_workers, mean_ns, shape in product(WORKERS, SCALES, SHAPES):
        n_tasks = min(n_workers * SCALES[mean_ns], MAX_TASKS)
        if n_tasks * mean_ns < n_workers * MIN_WORK_NS:
            continue
        tasks = durations(shape, n_tasks, mean_ns)
        for name, rule in RULES.items():
            if rule is Fixed and mean_ns < 10 * engine.overhead_ns:
                continue  # far more messages than work: hopeless, and slow to simulate
            for known in (True, False) if rule is Auto else (True,):
                outcome = simulate(tasks, n_workers, rule, engine, known=known)
                yield Case(name, n_workers, mean_ns, shape, known, outcome)


def table(results: Sequence[Case]) -> str:
    """Makespan over bound (median, worst), messages over work (median), and runs within the aim, by rule."""
    lines = [
        " " * 14 + "".join(f"{f'{n:,} workers':^29}" for n in WORKERS),
        " " * 14 + "  median  worst  msgs in aim " * len(WORKERS),
    ]
    for rule in RULES:
        cells = (_cell([c.outcome for c in results if (c.rule, c.n_workers) == (rule, n)]) for n in WORKERS)
        lines.append(f"{rule:14}" + "".join(cells))
    lines.append("('fixed 1' only where a task is worth ten messages or more)")
    return "\n".join(lines)


def _cell(outcomes: Sequence[Outcome]) -> str:
    ratios = [outcome.ratio for outcome in outcomes]
    overhead = 100 * median(outcome.overhead for outcome in outcomes)
    share_in_aim = 100 * sum(outcome.in_aim for outcome in outcomes) / len(outcomes)
    return f"{median(ratios):8.2f}{max(ratios):7.4g}{overhead:5.1f}%{share_in_aim:6.0f}% "


def misses(results: Sequence[Case]) -> str:
    """Where runs of ours are outside the aim: how many, the worst, and how short the run was."""
    lines = []
    for n_workers, mean_ns in product(WORKERS, SCALES):
        here = [c for c in results if (c.rule, c.n_workers, c.mean_ns) == ("fastpar", n_workers, mean_ns)]
        missed = [case.outcome for case in here if not case.outcome.in_aim]
        if missed:
            worst = max(missed, key=lambda outcome: outcome.ratio)
            lines.append(
                f"  {n_workers:5,} workers, tasks of {mean_ns / US:g} us: {len(missed)} of {len(here)}, "
                f"at worst {worst.ratio:.2f} x a bound of {worst.bound_ns / MS:.3g} ms, "
                f"messages {worst.overhead:.1%}"
            )
    return "\n".join(["outside the aim:", *lines] if lines else ["every run of fastpar is within the aim"])


def plot(results: Sequence[Case], path: Path) -> None:
    """Makespan over bound against mean task time, one panel a machine, the worst shape for each rule."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(WORKERS), figsize=(4 * len(WORKERS), 4), sharey=True, layout="constrained"
    )
    for axis, n_workers in zip(axes, WORKERS, strict=True):
        for rule in RULES:
            here = [c for c in results if (c.rule, c.n_workers) == (rule, n_workers)]
            means = sorted({c.mean_ns for c in here})
            worst = [max(c.outcome.ratio for c in here if c.mean_ns == mean) for mean in means]
            width = 3 if rule == "fastpar" else 1
            axis.loglog([mean / US for mean in means], worst, "o-", label=rule, lw=width)
        axis.axhline(AIM_MAKESPAN, color="grey", ls=":")
        axis.set(title=f"{n_workers:,} workers", xlabel="mean task, us")
    axes[0].set(ylabel="makespan / bound, worst of eight shapes", ylim=(0.9, 100))
    axes[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="bench.simulator", description="Batch-size rules on simulated machines."
    )
    parser.add_argument("--engine", choices=ENGINES, default="threads", help="whose costs (default: threads)")
    parser.add_argument("--plot", action="store_true", help="draw bench/results/simulator-ENGINE.png too")
    options = parser.parse_args(arguments)
    engine = ENGINES[options.engine]
    results = list(cases(engine))
    sys.stdout.write(
        f"{engine.name}: {engine.overhead_ns / US:g} us a message, "
        f"of which {engine.serial_ns / US:g} us alone at the queue\n"
        f"{table(results)}\n{misses(results)}\n"
    )
    if options.plot:
        path = Path(__file__).parent / "results" / f"simulator-{engine.name}.png"
        plot(results, path)
        sys.stdout.write(f"{path.name} is in {path.parent.name}/\n")


if __name__ == "__main__":
    main()
