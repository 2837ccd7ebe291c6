"""T8: how long does one call of ten tiny tasks take with n_jobs=1?"""

from collections.abc import Iterator
from math import sqrt

from bench.harness import Case, Target, Timed

case = Case(
    __name__,
    what="call of 10 tiny tasks, n_jobs=1",
    unit="us",
    size=10,
    quick=10,
    rounds=40,
    calls=200,
    target=Target(8),
)


@case.answer
def roots(n: int) -> list[float]:
    return [sqrt(i) for i in range(n)]


@case.serial
def comprehension(n: int) -> Iterator[Timed]:
    yield lambda: [sqrt(i) for i in range(n)]


@case.joblib
def joblib(n: int) -> Iterator[Timed]:
    from joblib import Parallel, delayed

    yield lambda: Parallel(n_jobs=1)(delayed(sqrt)(i) for i in range(n))


@case.fastpar
def fastpar(n: int) -> Iterator[Timed]:
    from fastpar import Parallel, delayed

    yield lambda: Parallel(n_jobs=1)(delayed(sqrt)(i) for i in range(n))
