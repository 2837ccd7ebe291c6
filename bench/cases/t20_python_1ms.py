"""T20: do two worker processes stay busy with pure Python tasks of 1 ms?"""

from bench.cases._spinning import spinning_case
from bench.harness import Target

case = spinning_case(
    __name__, "Python loops of 1 ms, processes", 2_000, lambda n: [1_000.0] * n, Target(1.05, of="limit")
)
