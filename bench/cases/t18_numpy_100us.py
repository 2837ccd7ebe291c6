"""T18: do two threads stay busy with NumPy tasks of 100 us?"""

from bench.cases._sorting import sorting_case

case = sorting_case(__name__, "NumPy sorts of 100 us, threads", duration_us=100, size=3_000, at_most=1.03)
