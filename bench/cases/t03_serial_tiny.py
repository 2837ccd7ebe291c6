"""T3: what does n_jobs=1 cost a task?"""

from collections.abc import Iterator
from math import sqrt

from bench.harness import Case, Target, Timed

case = Case(
    __name__,
    what="n_jobs=1, tiny tasks",
    unit="ns",
    per_task=True,
    size=20_000,
    quick=500,
    rounds=30,
    target=Target(250),
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


@case.rival
def our_delayed_in_a_loop(n: int) -> Iterator[Timed]:
    from fastpar import delayed

    yield lambda: [f(*args, **kwargs) for f, args, kwargs in (delayed(sqrt)(i) for i in range(n))]


@case.fastpar
def fastpar(n: int) -> Iterator[Timed]:
    from fastpar import Parallel, delayed

    yield lambda: Parallel(n_jobs=1)(delayed(sqrt)(i) for i in range(n))
