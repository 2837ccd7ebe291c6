"""T41: how long does the hash of a 1 GB array take, of a list of 100,000 floats, of an int?"""

from collections.abc import Callable, Iterator
from typing import Any

from bench.harness import Case, Target, Timed


def array(n: int) -> Any:
    import numpy as np

    return np.arange(float(n))


def floats(n: int) -> Any:
    return [float(i) for i in range(n)]


def number(n: int) -> Any:
    return n


def _hash(what: str, make: Callable[[int], Any], unit: str, size: int, target: float, rounds: int) -> Case:
    case = Case(__name__, what=what, unit=unit, size=size, quick=min(size, 1000), rounds=rounds, target=Target(target))

    @case.answer
    def expected(n: int) -> bool:
        return True

    def steady(digest: Callable[[Any], Any], n: int) -> Timed:
        value, known = make(n), digest(make(n))
        return lambda: digest(value) == known

    @case.joblib
    def joblib(n: int) -> Iterator[Timed]:
        from joblib import hash as digest

        yield steady(digest, n)

    @case.fastpar
    def fastpar(n: int) -> Iterator[Timed]:
        from fastpar.hashing import hash as digest

        yield steady(digest, n)

    if make is array:

        @case.limit
        def xxh3(n: int) -> Iterator[Timed]:
            from xxhash import xxh3_128_digest

            yield steady(xxh3_128_digest, n)

    return case


# 50 ms for 1 GiB are 21.5 GB/s.
large = _hash("hash of a 1 GiB array", array, "ms", 134_217_728, 50, 9)
many = _hash("hash of a list of 100,000 floats", floats, "ms", 100_000, 5, 20)
one = _hash("hash of an int", number, "us", 12_345, 1.5, 20)
one.calls = 1_000
