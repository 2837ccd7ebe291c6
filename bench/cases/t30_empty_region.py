"""T30: what does a parallel region cost that has nothing to do, back to back, on two threads?"""

from collections.abc import Iterator

from bench.cases._loops import Job, numba_empty, regions, told
from bench.harness import Case, Target, Timed


def empty_case(module: str, what: str, target: Target, *, n_threads: int = 2, pause_ns: int = 0, size: int) -> Case:
    """The case of an empty region; `size` is how many in a row."""
    case = Case(module, what=what, unit="ns", size=size, quick=10, rounds=15, target=target, measure=told)

    @case.answer
    def it_came(n: int) -> bool:
        return True

    def contender(kind: str) -> object:
        return lambda n: iter(
            [regions(kind, "empty", Job.of(n_threads), n_threads=n_threads, pause_ns=pause_ns, repeat=n)]
        )

    @case.serial
    def c_loop(n: int) -> Iterator[Timed]:
        yield from contender("serial")(n)

    @case.rival
    def libgomp(n: int) -> Iterator[Timed]:
        yield from contender("openmp")(n)

    @case.rival
    def numba_tbb(n: int) -> Iterator[Timed]:
        yield numba_empty("tbb", n_threads, pause_ns, n)

    @case.rival
    def numba_omp(n: int) -> Iterator[Timed]:
        yield numba_empty("omp", n_threads, pause_ns, n)

    @case.rival
    def numba_workqueue(n: int) -> Iterator[Timed]:
        yield numba_empty("workqueue", n_threads, pause_ns, n)

    @case.fastpar
    def fastpar(n: int) -> Iterator[Timed]:
        yield from contender("fastpar")(n)

    return case


case = empty_case(__name__, "empty region, 2 threads, back to back", Target(1_030, aim=700), size=2_000)
