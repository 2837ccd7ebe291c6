"""T4: what does a tiny task cost on worker processes, in batches?"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from math import sqrt
from multiprocessing import Pool

from bench.bare import answering_forks
from bench.harness import N_JOBS, Case, Target, Timed

case = Case(
    __name__,
    what="tiny task on processes, automatic batches",
    unit="ns",
    size=20_000,
    quick=500,
    rounds=15,
    seconds=60,
    per_task=True,
    target=Target(500, aim=300),
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


@case.rival
def executor_with_chunks(n: int) -> Iterator[Timed]:
    with ProcessPoolExecutor(N_JOBS) as pool:
        yield lambda: list(pool.map(sqrt, range(n), chunksize=max(1, n // 40)))


@case.fastpar
def fastpar(n: int) -> Iterator[Timed]:
    from fastpar import Parallel, delayed

    yield lambda: Parallel(N_JOBS, "processes")(delayed(sqrt)(i) for i in range(n))
