"""T2: what does a tiny task cost on threads, when each is handed over alone?"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import sqrt
from multiprocessing.pool import ThreadPool

from bench.harness import N_JOBS, Case, Target, Timed

case = Case(
    __name__,
    what="threads, tiny tasks, batch_size=1",
    unit="ns",
    per_task=True,
    size=20_000,
    quick=500,
    target=Target(2_000),
)


@case.answer
def roots(n: int) -> list[float]:
    return [sqrt(i) for i in range(n)]


@case.joblib
def joblib(n: int) -> Iterator[Timed]:
    from joblib import Parallel, delayed

    with Parallel(N_JOBS, "threading", batch_size=1) as parallel:
        yield lambda: parallel(delayed(sqrt)(i) for i in range(n))


@case.rival
def thread_pool_chunks_of_1(n: int) -> Iterator[Timed]:
    with ThreadPool(N_JOBS) as pool:
        yield lambda: pool.map(sqrt, range(n), chunksize=1)


@case.rival
def executor_map(n: int) -> Iterator[Timed]:
    with ThreadPoolExecutor(N_JOBS) as pool:
        yield lambda: list(pool.map(sqrt, range(n)))


@case.fastpar
def fastpar(n: int) -> Iterator[Timed]:
    from fastpar import Parallel, delayed

    yield lambda: Parallel(N_JOBS, "threading", batch_size=1)(delayed(sqrt)(i) for i in range(n))
