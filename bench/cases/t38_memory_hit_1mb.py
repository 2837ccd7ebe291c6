"""T38: what does a hit cost whose argument is an array of 1 MB?"""

from collections.abc import Iterator

from bench.cases._files import folder
from bench.harness import Case, Target, Timed

case = Case(
    __name__,
    what="hit, 1 MB array argument",
    unit="us",
    size=131_072,
    quick=1_000,
    rounds=15,
    calls=50,
    target=Target(120),
)


def total(values) -> float:
    return float(values.sum())


def argument(n: int):
    import numpy as np

    return np.arange(float(n))


@case.answer
def expected(n: int) -> float:
    return total(argument(n))


@case.limit
def xxh3(n: int) -> Iterator[Timed]:
    from xxhash import xxh3_128_digest

    values, known = argument(n), expected(n)
    yield lambda: known if xxh3_128_digest(values) else None


@case.joblib
def joblib(n: int) -> Iterator[Timed]:
    from joblib import Memory

    with folder() as where:
        cached, values = Memory(where, verbose=0).cache(total), argument(n)
        yield lambda: cached(values)


@case.fastpar
def fastpar(n: int) -> Iterator[Timed]:
    from fastpar.memory import Memory

    with folder() as where:
        cached, values = Memory(where, verbose=0).cache(total), argument(n)
        yield lambda: cached(values)
