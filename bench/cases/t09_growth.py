"""T9: does a task cost the same in a run of a thousand and of a million?

The target is that it does, within a factor of 2 from 10,000 tasks on. Each size is a case of its own, bounded by
what T1 allows at 20,000; a thousand tasks may take twice that, for the start of a run is among them.
"""

from collections.abc import Iterator
from math import sqrt
from multiprocessing.pool import ThreadPool

from bench.bare import halves_on_threads
from bench.harness import N_JOBS, Case, LeftOutError, Target, Timed

JOBLIB_MOST = 10_000  # at 40 us a task


def roots(n: int) -> list[float]:
    return [sqrt(i) for i in range(n)]


def two_bare_threads(n: int) -> Iterator[Timed]:
    yield lambda: halves_on_threads([(sqrt, (i,), {}) for i in range(n)])


def joblib(n: int) -> Iterator[Timed]:
    if n > JOBLIB_MOST:
        raise LeftOutError(f"{n:,} tasks take {n * 40e-6:.0f} s")
    from joblib import Parallel, delayed

    with Parallel(N_JOBS, "threading") as parallel:
        yield lambda: parallel(delayed(sqrt)(i) for i in range(n))


def thread_pool_map(n: int) -> Iterator[Timed]:
    with ThreadPool(N_JOBS) as pool:
        yield lambda: pool.map(sqrt, range(n))


def fastpar(n: int) -> Iterator[Timed]:
    from fastpar import Parallel, delayed

    yield lambda: Parallel(N_JOBS, "threading")(delayed(sqrt)(i) for i in range(n))


def _growth(size: int, rounds: int, at_most: float = 500) -> Case:
    case = Case(
        __name__,
        what=f"threads, tiny tasks, {size:,} of them",
        unit="ns",
        per_task=True,
        size=size,
        quick=min(size, 1_000),
        rounds=rounds,
        target=Target(at_most),
    )
    case.answer(roots)
    case.limit(two_bare_threads)
    case.joblib(joblib)
    case.rival(thread_pool_map)
    case.fastpar(fastpar)
    return case


thousand = _growth(1_000, rounds=40, at_most=1_000)
ten_thousand = _growth(10_000, rounds=20)
hundred_thousand = _growth(100_000, rounds=10)
million = _growth(1_000_000, rounds=4)
