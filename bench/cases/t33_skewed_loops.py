"""T33: how close to half the serial time comes a loop of 2,000 items of 2 us whose costs are uneven?"""

from collections.abc import Callable, Iterator

import numpy as np

from bench.cases._loops import Job, ns_per_turn, regions, told
from bench.harness import Case, Target, Timed

ITEM_NS = 2_000.0


def uniform(n: int) -> np.ndarray:
    return np.ones(n)


def growing(n: int) -> np.ndarray:
    return 2 * np.arange(n) / n


def in_front(n: int) -> np.ndarray:
    """1 % of the items hold 90 % of the work, and come first."""
    return np.where(np.arange(n) < n // 100, 90.0, 10 / 99)


def three_last(n: int) -> np.ndarray:
    """The last three hold 60 %."""
    return np.where(np.arange(n) >= n - 3, 0.2 * n, 0.4)


def skewed_case(what: str, costs: Callable[[int], np.ndarray], at_most: float) -> Case:
    """Times are multiplied by two, so that a multiple of "serial" is one of the ideal of two threads."""
    case = Case(
        __name__,
        what=what,
        unit="us",
        size=2_000,
        quick=200,
        rounds=25,
        measure=told,
        target=Target(at_most, of="limit"),
    )

    @case.answer
    def it_came(n: int) -> bool:
        return True

    def job(n: int) -> Job:
        return Job.of(n, turns=costs(n) * ITEM_NS / ns_per_turn(), out=np.zeros(n))

    @case.limit
    def half_of_the_serial_loop(n: int) -> Iterator[Timed]:
        serial = regions("serial", "items", job(n))
        yield lambda: serial() / 2

    def add(role: str, kind: str, schedule: str) -> None:
        def setup(n: int) -> Iterator[Timed]:
            yield regions(kind, f"items_{schedule}", job(n), repeat=3)

        setup.__name__ = f"{'libgomp' if kind == 'openmp' else 'fastpar'}_{schedule}"
        getattr(case, role)(setup)

    for schedule in ("static", "dynamic", "guided"):
        add("rival", "openmp", schedule)
    add("fastpar", "fastpar", "auto")
    return case


cases = [
    skewed_case("2,000 x 2 us, uniform", uniform, 1.04),
    skewed_case("2,000 x 2 us, cost grows with the index", growing, 1.04),
    skewed_case("2,000 x 2 us, 1 % in front hold 90 %", in_front, 1.06),
    skewed_case("2,000 x 2 us, 3 huge ones last", three_last, 1.20),
]
first, second, third, fourth = cases
