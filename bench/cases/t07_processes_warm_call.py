"""T7: how long does one call of ten tiny tasks take on worker processes that are there already?"""

from collections.abc import Iterator
from math import sqrt
from multiprocessing import Pool

from bench.bare import answering_forks
from bench.harness import N_JOBS, Case, Target, Timed

case = Case(
    __name__,
    what="warm call of 10 tiny tasks, processes",
    unit="us",
    size=10,
    quick=10,
    rounds=40,
    calls=20,
    seconds=60,
    target=Target(150),
)


@case.answer
def roots(n: int) -> list[float]:
    return [sqrt(i) for i in range(n)]


@case.serial
def comprehension(n: int) -> Iterator[Timed]:
    yield lambda: [sqrt(i) for i in range(n)]


@case.limit
def two_bare_pipes(n: int) -> Iterator[Timed]:
    with answering_forks(sqrt) as ask:
        yield lambda: ask(list(range(n)), n // N_JOBS)


@case.joblib
def joblib_in_a_with_block(n: int) -> Iterator[Timed]:
    from joblib import Parallel, delayed

    with Parallel(N_JOBS) as parallel:
        yield lambda: parallel(delayed(sqrt)(i) for i in range(n))


@case.rival
def pool_map(n: int) -> Iterator[Timed]:
    with Pool(N_JOBS) as pool:
        yield lambda: pool.map(sqrt, range(n))


@case.fastpar
def fastpar_new_object(n: int) -> Iterator[Timed]:
    from fastpar import Parallel, delayed

    yield lambda: Parallel(N_JOBS, "processes")(delayed(sqrt)(i) for i in range(n))
