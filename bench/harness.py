"""What a case is, and how its contenders are timed against each other.

A *case* asks one question and lives in `bench/cases/tNN_question.py`, NN being its row in the table of targets.
A *contender* answers it: a generator that sets up, yields the function to time, and tears down. Whoever cannot
run here (not installed, say) is left out with a note, and so is another library that fails: that its pool broke is
a result about it, not about us. A wrong answer is an error whoever gives it.

Contenders take turns in one process, A B C, B C A, ..., so that a busy moment of the machine hits all of them,
and ratios are taken within each round. A turn is `calls` calls in a row: what is warm in real use is warm here.
Every answer is compared with the expected one, outside the timed part. Where memory is the question each sample
is taken in a process of its own (`isolated`). Not its job: what figures mean (`report`).
"""

from __future__ import annotations

import gc
import importlib
import operator
import pkgutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Literal

Role = Literal["serial", "limit", "joblib", "rival", "fastpar"]
Timed = Callable[[], object]
Setup = Callable[[int], Iterator[Timed]]
#: Runs a function once: a figure in the case's base unit (seconds, MB), and the answer.
Measure = Callable[[Timed], tuple[float, object]]
Sampler = Callable[[], tuple[float, object]]

N_JOBS = 2  # workers of every contender: what the targets were measured with
LEAST_ROUNDS = 3
TURN_S = 0.1  # a turn of several calls ends after so long: a slow contender must not take all the time
SECONDS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


class LeftOutError(Exception):
    """A contender cannot take part, or is not worth waiting for; the message says why."""


def clock(function: Timed) -> tuple[float, object]:
    """The measure of most cases: seconds."""
    started = time.perf_counter()
    answer = function()
    return time.perf_counter() - started, answer


@dataclass(frozen=True)
class Target:
    """What fastpar has to reach, and would like to.

    Attributes
    ----------
    at_most, aim : float
        In the case's unit; or, where `of` is set, in multiples of that role's figure in the same round.
    of : str, optional
        "limit", "joblib", "serial", or "rival" for the best one.
    """

    at_most: float
    aim: float | None = None
    of: Role | None = None


@dataclass(frozen=True)
class Contender:
    """One answer to a case's question."""

    name: str
    role: Role
    setup: Setup

    @contextmanager
    def ready(self, n: int) -> Iterator[Timed]:
        """The function to time, set up for size n and torn down afterwards."""
        try:
            with contextmanager(self.setup)(n) as timed:
                yield timed
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("fastpar"):
                raise  # without us there is nothing to measure
            raise LeftOutError(f"{error.name} is not installed") from error


@dataclass
class Case:
    """One question, with everybody who answers it.

    Attributes
    ----------
    module : str
        The file's ``__name__``, which the row is read from.
    what : str
        The question, in a few words for the table.
    unit : str
        "ns", "us", "ms", "s" or "MB".
    size, quick : int
        How many tasks (or whatever the case counts), in full and as a smoke test.
    target : Target
    per_task : bool
        Whether figures are divided by the size.
    above_serial : bool
        Whether the serial contender's median is subtracted from all others.
    rounds, calls : int
        Turns of each contender, and calls in a turn: fewer where they are slow.
    seconds : float
        No new round begins after this time, past the third.
    measure : callable
        Takes one sample.
    isolated : bool
        Whether each sample is taken in a process of its own, after a warm-up of the quick size in it.
    same : callable
        Compares an answer with the expected one.
    """

    module: str
    what: str
    unit: str
    size: int
    quick: int
    target: Target
    per_task: bool = False
    above_serial: bool = False
    rounds: int = 15
    calls: int = 1
    seconds: float = 12.0
    measure: Measure = clock
    isolated: bool = False
    same: Callable[[object, object], bool] = operator.eq
    contenders: list[Contender] = field(default_factory=list)
    expected: Callable[[int], object] | None = None

    @property
    def stem(self) -> str:
        """The file's name, like ``t01_threads_tiny``."""
        return self.module.rpartition(".")[2]

    @property
    def row(self) -> str:
        """The row in the table of targets, like ``T1``."""
        return f"T{int(self.stem[1:3])}"

    def _add(self, role: Role, setup: Setup) -> Setup:
        name = setup.__name__.strip("_").replace("_", " ")
        self.contenders.append(Contender(name, role, setup))
        return setup

    # Decorators of the generators that set contenders up; the generator's name is the contender's.

    def serial(self, setup: Setup) -> Setup:
        """The plain loop, or whatever the figures start from."""
        return self._add("serial", setup)

    def limit(self, setup: Setup) -> Setup:
        """What no library can beat: the least code that does the work in parallel."""
        return self._add("limit", setup)

    def joblib(self, setup: Setup) -> Setup:
        """What users have today."""
        return self._add("joblib", setup)

    def rival(self, setup: Setup) -> Setup:
        """Anybody else."""
        return self._add("rival", setup)

    def fastpar(self, setup: Setup) -> Setup:
        """Us."""
        return self._add("fastpar", setup)

    def answer(self, expected: Callable[[int], object]) -> Callable[[int], object]:
        """Decorates the function of the size that computes the right answer."""
        self.expected = expected
        return expected

    def scale(self, n: int) -> float:
        """What a measured figure is multiplied by to be in `unit`, for size n."""
        return SECONDS.get(self.unit, 1.0) / (n if self.per_task else 1)

    def check(self, answer: object, expected: object, name: str) -> None:
        """Assert the answer of a contender."""
        if not self.same(answer, expected):
            raise AssertionError(f"{self.stem}, {name}: {answer!r:.200} is wrong, not {expected!r:.200}")

    @contextmanager
    def sampler(self, contender: Contender, n: int) -> Iterator[Sampler]:
        """A function that takes one sample of a contender: its figure, and its answer."""
        if self.isolated:
            from bench.isolation import sample_in_fresh_process

            yield _left_out_if_it_fails(contender, lambda: sample_in_fresh_process(self, contender, n))
        else:
            with contender.ready(n) as timed:
                yield _left_out_if_it_fails(contender, lambda: self.measure(timed))


def _left_out_if_it_fails(contender: Contender, sample: Sampler) -> Sampler:
    if contender.role not in ("joblib", "rival"):
        return sample

    def take() -> tuple[float, object]:
        try:
            return sample()
        except LeftOutError:
            raise
        except Exception as error:
            raise LeftOutError(f"failed with {type(error).__name__}: {error}") from error

    return take


@dataclass
class Samples:
    """The figures of one contender, in the case's unit: a list of calls a round. If left out, a note instead."""

    name: str
    role: Role
    rounds: list[list[float]] = field(default_factory=list)
    note: str = ""

    def turns(self) -> list[float]:
        """One figure a round."""
        return [median(calls) for calls in self.rounds]

    def ratio_to(self, other: Samples) -> float:
        """How many times the other's figure, each round for itself."""
        return median(mine / theirs for mine, theirs in zip(self.turns(), other.turns(), strict=True))

    def figures(self) -> dict[str, float | int]:
        """Median, best, 99th percentile and number of calls."""
        calls = sorted(call for turn in self.rounds for call in turn)
        p99 = quantiles(calls, n=100, method="inclusive")[98] if len(calls) > 1 else calls[0]
        return {"median": median(calls), "min": calls[0], "p99": p99, "n_samples": len(calls)}


def measure_case(case: Case, *, quick: bool = False) -> list[Samples]:
    """Let all contenders of a case take turns, and assert every answer.

    Parameters
    ----------
    case : Case
    quick : bool
        Small sizes and three rounds: shows that everything works, and says little about speed.

    Returns
    -------
    list of Samples
        In the order of the file. All that took part have the same number of rounds.

    Raises
    ------
    AssertionError
        If anybody's answer is wrong.
    """
    n = case.quick if quick else case.size
    expected = case.expected(n) if case.expected else None
    with ExitStack() as stack:
        results: list[Samples] = []
        takers: list[tuple[Samples, Sampler]] = []
        for contender in case.contenders:
            samples = Samples(contender.name, contender.role)
            results.append(samples)
            try:
                sample = stack.enter_context(case.sampler(contender, n))
                case.check(sample()[1], expected, contender.name)  # the warm-up
            except LeftOutError as error:
                samples.note = str(error)
                continue
            takers.append((samples, sample))
        _take_turns(case, takers, n, expected, quick=quick)
    if case.above_serial:
        _subtract_serial(results)
    return results


def _take_turns(case: Case, takers: list[tuple[Samples, Sampler]], n: int, expected: object, *, quick: bool) -> None:
    n_rounds, n_calls = (LEAST_ROUNDS, min(case.calls, 3)) if quick else (case.rounds, case.calls)
    deadline = time.perf_counter() + (0.5 if quick else case.seconds)
    for i in range(n_rounds):
        if i >= LEAST_ROUNDS and time.perf_counter() > deadline:
            break
        first = i % len(takers)  # nobody always runs after the same one
        for taker in takers[first:] + takers[:first]:
            samples, sample = taker
            try:
                samples.rounds.append(_take_a_turn(case, samples.name, sample, n, expected, n_calls))
            except LeftOutError as error:
                samples.note = str(error)
                samples.rounds.clear()
                takers.remove(taker)


def _take_a_turn(case: Case, name: str, sample: Sampler, n: int, expected: object, n_calls: int) -> list[float]:
    turn: list[float] = []
    gc.collect()  # nobody pays for another's garbage
    turn_ends = time.perf_counter() + TURN_S
    while len(turn) < n_calls and not (turn and time.perf_counter() > turn_ends):
        figure, answer = sample()
        case.check(answer, expected, name)
        turn.append(figure * case.scale(n))
    return turn


def _subtract_serial(results: list[Samples]) -> None:
    base = median(next(samples for samples in results if samples.role == "serial").turns())
    for samples in results:
        if samples.role != "serial":
            samples.rounds = [[call - base for call in calls] for calls in samples.rounds]


def load_cases(names: list[str] | tuple[str, ...] = ()) -> list[Case]:
    """The cases of `bench.cases`, in the order of their rows.

    Parameters
    ----------
    names : list of str
        Beginnings of file names, like ``t01``; all files by default.

    Raises
    ------
    ValueError
        For a name that no file begins with.
    """
    package = importlib.import_module("bench.cases")
    names_there = (module.name for module in pkgutil.iter_modules(package.__path__))
    stems = sorted(name for name in names_there if name.startswith("t"))
    for name in names:
        if not any(stem.startswith(name.lower()) for stem in stems):
            raise ValueError(f"no case begins with {name!r}; there are {', '.join(stems)}")
    wanted = [stem for stem in stems if not names or stem.startswith(tuple(name.lower() for name in names))]
    return [case for stem in wanted for case in cases_in(f"bench.cases.{stem}")]


def cases_in(module: str) -> list[Case]:
    """The cases that a module makes, in its order."""
    return [value for value in vars(importlib.import_module(module)).values() if isinstance(value, Case)]
