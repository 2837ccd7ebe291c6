"""T9: does a task cost the same in a run of a thousand and of a million?

The target is that it does, within a factor of 2 from 10,000 tasks on. Each size is a case of its own, bounded by
what T1 and T4 allow at 20,000; a thousand tasks may take twice that, for the start of a run is among them.
"""

from collections.abc import Iterator
from math import sqrt
from multiprocessing import Pool
from multiprocessing.pool import ThreadPool

from bench.bare import halves_on_threads
from bench.harness import N_JOBS, Case, LeftOutError, Target, Timed

JOBLIB_MOST = 10_000  # at 40 us a task


def roots(n: int) -> list[float]:
    return [sqrt(i) for i in range(n)]


def two_bare_threads(n: int) -> Iterator[Timed]:
    yield lambda: halves_on_threads([(sqrt, (i,), {}) for i in range(n)])


def _growth(kind: str, size: int, rounds: int, at_most: float = 500) -> Case:
    case = Case(
        __name__,
        what=f"{kind}, tiny tasks, {size:,} of them",
        unit="ns",
        per_task=True,
        size=size,
        quick=min(size, 1_000),
        rounds=rounds,
        target=Target(at_most),
    )
    theirs, ours = {"threads": ("threading", "threading"), "processes": ("loky", "processes")}[kind]
    case.answer(roots)
    if kind == "threads":
        case.limit(two_bare_threads)

    @case.joblib
    def joblib(n: int) -> Iterator[Timed]:
        if n > JOBLIB_MOST:
            raise LeftOutError(f"{n:,} tasks take long")
        from joblib import Parallel, delayed

        with Parallel(N_JOBS, theirs) as parallel:
            yield lambda: parallel(delayed(sqrt)(i) for i in range(n))

    @case.rival
    def pool_map(n: int) -> Iterator[Timed]:
        with ThreadPool(N_JOBS) if kind == "threads" else Pool(N_JOBS) as pool:
            yield lambda: pool.map(sqrt, range(n))

    @case.fastpar
    def fastpar(n: int) -> Iterator[Timed]:
        from fastpar import Parallel, delayed

        yield lambda: Parallel(N_JOBS, ours)(delayed(sqrt)(i) for i in range(n))

    return case


thousand = _growth("threads", 1_000, rounds=40, at_most=1_000)
ten_thousand = _growth("threads", 10_000, rounds=20)
hundred_thousand = _growth("threads", 100_000, rounds=10)
million = _growth("threads", 1_000_000, rounds=4)

thousand_on_processes = _growth("processes", 1_000, rounds=40, at_most=1_000)
ten_thousand_on_processes = _growth("processes", 10_000, rounds=20)
hundred_thousand_on_processes = _growth("processes", 100_000, rounds=10)
million_on_processes = _growth("processes", 1_000_000, rounds=4)
