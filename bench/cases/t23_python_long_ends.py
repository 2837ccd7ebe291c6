"""T23: does a long task at the beginning hold others up, and one at the end as little as it can?

Begun in order, the last task starts when all others have been begun, 375 ms after the first: 0.625 of the serial time
is the best there is (D-083). Only who knows the durations could do with 0.5.
"""

from __future__ import annotations

from bench.cases._spinning import spinning_case
from bench.harness import Target

IN_ORDER = 625 / 1_000


def long_ends(n: int) -> list[float]:
    """Durations in us."""
    return [250e3, *[1e3] * (n - 2), 250e3]


case = spinning_case(
    __name__, "250 ms, 500 x 1 ms, 250 ms, processes", 502, long_ends, Target(1.05 * IN_ORDER, of="serial"), rounds=7
)
