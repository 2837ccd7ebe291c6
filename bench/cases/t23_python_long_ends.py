"""T23: does a long task at the beginning hold others up, or one at the end find them gone? 0.5 is the best there is."""

from bench.cases._spinning import spinning_case
from bench.harness import Target


def long_ends(n: int) -> list[float]:
    """Durations in us."""
    return [250e3, *[1e3] * (n - 2), 250e3]


case = spinning_case(
    __name__, "250 ms, 500 x 1 ms, 250 ms, processes", 502, long_ends, Target(1.05 / 2, of="serial"), rounds=7
)
