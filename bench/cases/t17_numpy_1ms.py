"""T17: do two threads stay busy with NumPy tasks of 1 ms?"""

from bench.cases._sorting import sorting_case

case = sorting_case(__name__, "NumPy sorts of 1 ms, threads", duration_us=1_000, size=400, at_most=1.03)
