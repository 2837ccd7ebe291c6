"""T27: how long do 8 tasks take that each return 50 MB?"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from bench.harness import N_JOBS, Case, Target, Timed

case = Case(
    __name__,
    what="8 results of 50 MB",
    unit="ms",
    size=6_250_000,
    quick=50_000,
    rounds=7,
    seconds=90,
    target=Target(300),
)


def filled(n: int, value: float) -> object:
    """The task."""
    import numpy as np

    return np.full(n, value)


def ends(arrays: list[object]) -> list[tuple[float, float]]:
    """What is compared: first and last element of each."""
    return [(float(array[0]), float(array[-1])) for array in arrays]  # type: ignore[index]


@case.answer
def numbers(n: int) -> list[tuple[float, float]]:
    return [(float(i), float(i)) for i in range(8)]


@case.serial
def plain_loop(n: int) -> Iterator[Timed]:
    yield lambda: ends([filled(n, i) for i in range(8)])


@case.joblib
def joblib_in_a_with_block(n: int) -> Iterator[Timed]:
    from joblib import Parallel, delayed

    with Parallel(N_JOBS) as parallel:
        yield lambda: ends(parallel(delayed(filled)(n, i) for i in range(8)))


@case.rival
def executor(n: int) -> Iterator[Timed]:
    with ProcessPoolExecutor(N_JOBS) as pool:
        yield lambda: ends(list(pool.map(filled, [n] * 8, range(8))))


@case.fastpar
def fastpar(n: int) -> Iterator[Timed]:
    from fastpar import Parallel, delayed

    yield lambda: ends(Parallel(N_JOBS, "processes")(delayed(filled)(n, i) for i in range(8)))
