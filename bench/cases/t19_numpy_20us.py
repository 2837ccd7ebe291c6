"""T19: do two threads stay busy with NumPy tasks of 20 us?"""

from bench.cases._sorting import sorting_case

case = sorting_case(__name__, "NumPy sorts of 20 us, threads", duration_us=20, size=12_000, at_most=1.10)
