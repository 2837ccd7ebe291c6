"""T22: do two worker processes stay busy with tasks of very different lengths? Twice as fast as serial is 0.5."""

import random

from bench.cases._spinning import spinning_case
from bench.harness import Target


def lognormal(n: int) -> list[float]:
    """Durations in us with a median of 0.5 ms: most are short, and a few take twenty times as long."""
    draw = random.Random(0)
    return [500 * draw.lognormvariate(0, 1.5) for _ in range(n)]


case = spinning_case(
    __name__, "lognormal tasks of 0.5 ms, processes", 1_500, lognormal, Target(1.08 / 2, of="serial")
)
