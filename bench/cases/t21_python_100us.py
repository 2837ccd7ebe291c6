"""T21: do two worker processes stay busy with pure Python tasks of 100 us?"""

from bench.cases._spinning import spinning_case
from bench.harness import Target

case = spinning_case(
    __name__, "Python loops of 100 us, processes", 10_000, lambda n: [100.0] * n, Target(1, of="rival")
)
