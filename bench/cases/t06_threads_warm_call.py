"""T6: how long does one call of ten tiny tasks take on threads that are there already?"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import sqrt
from multiprocessing.pool import ThreadPool

from bench.bare import halves_on_threads
from bench.harness import N_JOBS, Case, Target, Timed

case = Case(
    __name__,
    what="warm call of 10 tiny tasks, threads",
    unit="us",
    size=10,
    quick=10,
    rounds=40,
    calls=200,
    seconds=20,
    target=Target(60, aim=30),
)


@case.answer
def roots(n: int) -> list[float]:
    return [sqrt(i) for i in range(n)]


@case.serial
def comprehension(n: int) -> Iterator[Timed]:
    yield lambda: [sqrt(i) for i in range(n)]


@case.limit
def two_bare_threads(n: int) -> Iterator[Timed]:
    yield lambda: halves_on_threads([(sqrt, (i,), {}) for i in range(n)])


@case.joblib
def joblib_in_a_with_block(n: int) -> Iterator[Timed]:
    from joblib import Parallel, delayed

    with Parallel(N_JOBS, "threading") as parallel:
        yield lambda: parallel(delayed(sqrt)(i) for i in range(n))


@case.joblib
def joblib_new_object(n: int) -> Iterator[Timed]:
    from joblib import Parallel, delayed

    yield lambda: Parallel(N_JOBS, "threading")(delayed(sqrt)(i) for i in range(n))


@case.rival
def thread_pool_map(n: int) -> Iterator[Timed]:
    with ThreadPool(N_JOBS) as pool:
        yield lambda: pool.map(sqrt, range(n))


@case.rival
def executor_map(n: int) -> Iterator[Timed]:
    with ThreadPoolExecutor(N_JOBS) as pool:
        yield lambda: list(pool.map(sqrt, range(n)))


@case.fastpar
def fastpar_new_object(n: int) -> Iterator[Timed]:
    from fastpar import Parallel, delayed

    yield lambda: Parallel(N_JOBS, "threading")(delayed(sqrt)(i) for i in range(n))
