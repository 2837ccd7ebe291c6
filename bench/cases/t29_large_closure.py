"""T29: how long do 1,000 tiny tasks of a lambda take that holds 625,000 floats?"""

import pickle
from collections.abc import Callable, Iterator

from bench.harness import N_JOBS, Case, Target, Timed

case = Case(
    __name__,
    what="1,000 tasks of a lambda holding 625,000 floats",
    unit="ms",
    size=1_000,
    quick=50,
    rounds=7,
    seconds=60,
    target=Target(1.3, of="limit"),
)
HELD = [float(i) for i in range(625_000)]


def lambda_of(values: list[float]) -> Callable[[int], float]:
    """A new function each time, so that nobody has it already."""
    return lambda i: values[i]


def of_held(held: list[float], i: int) -> float:
    """The same for those who pass what is held beside the function."""
    return held[i]


@case.answer
def floats(n: int) -> list[float]:
    return [float(i) for i in range(n)]


@case.serial
def plain_loop(n: int) -> Iterator[Timed]:
    yield lambda: [lambda_of(HELD)(i) for i in range(n)]


@case.limit
def pickled_once(n: int) -> Iterator[Timed]:
    """There and back, as each worker has to have it once; they unpickle side by side."""
    yield lambda: pickle.loads(pickle.dumps(HELD, 5))[:n]


@case.joblib
def joblib_in_a_with_block(n: int) -> Iterator[Timed]:
    from joblib import Parallel, delayed

    def run(parallel: object) -> object:
        function = lambda_of(HELD)
        return parallel(delayed(function)(i) for i in range(n))  # type: ignore[operator]

    with Parallel(N_JOBS) as parallel:
        yield lambda: run(parallel)


@case.rival
def mpire_new_pool(n: int) -> Iterator[Timed]:
    from mpire import WorkerPool

    def run() -> object:
        with WorkerPool(N_JOBS, shared_objects=HELD) as pool:
            return pool.map(of_held, range(n))

    yield run


@case.fastpar
def fastpar(n: int) -> Iterator[Timed]:
    from fastpar import Parallel, delayed

    def run() -> object:
        function = lambda_of(HELD)
        return Parallel(N_JOBS, "processes")(delayed(function)(i) for i in range(n))

    yield run
