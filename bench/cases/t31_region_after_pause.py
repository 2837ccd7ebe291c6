"""T31: what does an empty region cost after the threads have had time to fall asleep?"""

from bench.cases.t30_empty_region import empty_case
from bench.harness import Target

after_100us = empty_case(
    __name__, "empty region after 100 us elsewhere", Target(3_000), pause_ns=100_000, size=200
)
after_10ms = empty_case(
    __name__, "empty region after 10 ms elsewhere", Target(1, of="rival"), pause_ns=10_000_000, size=10
)
