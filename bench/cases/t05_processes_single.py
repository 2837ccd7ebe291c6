"""T5: what does a task cost on worker processes when each is a message of its own?"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from math import sqrt
from multiprocessing import Pool

from bench.bare import answering_forks
from bench.harness import N_JOBS, Case, Target, Timed

case = Case(
    __name__,
    what="tiny task on processes, one a message",
    unit="us",
    size=2_000,
    quick=50,
    rounds=9,
    seconds=60,
    per_task=True,
    target=Target(20, aim=10),
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
        yield lambda: ask(list(range(n)), 1)


@case.joblib
def joblib_in_a_with_block(n: int) -> Iterator[Timed]:
    from joblib import Parallel, delayed

    with Parallel(N_JOBS, batch_size=1) as parallel:
        yield lambda: parallel(delayed(sqrt)(i) for i in range(n))


@case.rival
def pool_imap(n: int) -> Iterator[Timed]:
    with Pool(N_JOBS) as pool:
        yield lambda: list(pool.imap(sqrt, range(n)))


@case.rival
def executor_map(n: int) -> Iterator[Timed]:
    with ProcessPoolExecutor(N_JOBS) as pool:
        yield lambda: list(pool.map(sqrt, range(n)))


@case.fastpar
def fastpar(n: int) -> Iterator[Timed]:
    from fastpar import Parallel, delayed

    yield lambda: Parallel(N_JOBS, "processes", batch_size=1)(delayed(sqrt)(i) for i in range(n))
