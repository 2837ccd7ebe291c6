"""T25: how long do 20 tasks take that share a 200 MB array which was not seen before?"""

from collections.abc import Iterator

from bench.harness import N_JOBS, Case, Target, Timed

case = Case(
    __name__,
    what="20 tasks share one new array of 200 MB",
    unit="ms",
    size=25_000_000,
    quick=250_000,
    rounds=7,
    seconds=90,
    above_serial=True,  # to make the array is not the question
    target=Target(150),
)


def item(array: object, i: int) -> float:
    """The task."""
    return float(array[i])  # type: ignore[index]


def tasks_of(delayed: object, n: int) -> Iterator[object]:
    """Twenty tasks over a new array."""
    import numpy as np

    array = np.arange(float(n))
    return (delayed(item)(array, i) for i in range(20))  # type: ignore[operator]


@case.answer
def items(n: int) -> list[float]:
    return [float(i) for i in range(20)]


@case.serial
def plain_loop(n: int) -> Iterator[Timed]:
    import numpy as np

    def run() -> list[float]:
        array = np.arange(float(n))
        return [item(array, i) for i in range(20)]

    yield run


@case.joblib
def joblib_in_a_with_block(n: int) -> Iterator[Timed]:
    from joblib import Parallel, delayed

    with Parallel(N_JOBS) as parallel:
        yield lambda: parallel(tasks_of(delayed, n))


@case.fastpar
def fastpar(n: int) -> Iterator[Timed]:
    from fastpar import Parallel, delayed

    yield lambda: Parallel(N_JOBS, "processes")(tasks_of(delayed, n))
