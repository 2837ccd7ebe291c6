"""T37: what does a cache hit of a function of one int cost, in an empty cache and beside a million other results?"""

import os
import pickle
from collections.abc import Iterator

from bench.cases._files import folder
from bench.harness import Case, Target, Timed

N_CALLS = 200


def add(x: int) -> int:
    return x + 1


def expected(n: int) -> int:
    return N_CALLS * 2


def plain_file(n: int) -> Iterator[Timed]:
    with folder() as where:
        path = os.path.join(where, "file")
        with open(path, "wb") as file:
            pickle.dump(2, file)

        def read() -> int:
            total = 0
            for _ in range(N_CALLS):
                with open(path, "rb") as file:
                    total += pickle.load(file)
            return total

        yield read


def joblib(n: int) -> Iterator[Timed]:
    from joblib import Memory

    with folder() as where:
        cached = Memory(where, verbose=0).cache(add)
        yield lambda: sum(cached(1) for _ in range(N_CALLS))


def fastpar(n: int) -> Iterator[Timed]:
    from fastpar.memory import Memory

    with folder() as where:
        cached = Memory(where, verbose=0).cache(add)
        if n > 1:
            fill(cached, n)
        yield lambda: sum(cached(1) for _ in range(N_CALLS))


def fill(cached, n: int) -> None:
    """Put n more entries beside one, as links to it, since writing each would take minutes."""
    cached(1)
    known = cached.explain(1)
    store, source = cached.store_backend, ""
    for i in range(n):
        digest = "01" + os.urandom(15).hex()
        path = store.path(known.func_id, digest)
        if i % 30_000 == 0:  # a file system allows so many links and no more
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(store.path(known.func_id, known.args_id), "rb") as file, open(path, "wb") as copy:
                copy.write(file.read())
            source = path
            continue
        try:
            os.link(source, path)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.link(source, path)


def _hit(size: int, quick: int, what: str) -> Case:
    case = Case(__name__, what=what, unit="us", size=size, quick=quick, rounds=30, target=Target(25))
    case.measure = per_call
    case.answer(expected)
    case.limit(plain_file)
    case.joblib(joblib)
    case.fastpar(fastpar)
    return case


def per_call(function: Timed) -> tuple[float, object]:
    from bench.harness import clock

    seconds, answer = clock(function)
    return seconds / N_CALLS, answer


alone = _hit(1, 1, "hit of f(int)")
crowded = _hit(1_000_000, 2_000, "hit of f(int), beside 1e6 results")
