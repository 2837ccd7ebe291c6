"""T32: what does an empty region cost with four times as many threads as cores?"""

from bench.cases.t30_empty_region import empty_case
from bench.harness import Target

case = empty_case(__name__, "empty region, 8 threads on 2 cores", Target(2_000), n_threads=8, size=500)
