"""T40: what do a miss and the storing of a small result cost above the function?"""

import itertools
import os
import pickle
from collections.abc import Iterator

from bench.cases._files import folder
from bench.harness import Case, Target, Timed, clock

N_CALLS = 100


def double(x: int) -> int:
    return x * 2


def misses(function) -> Timed:
    """Calls with arguments never seen before."""
    numbers = itertools.count(1_000)

    def run() -> bool:
        batch = list(itertools.islice(numbers, N_CALLS))
        return [function(i) for i in batch] == [2 * i for i in batch]

    return run


def per_call(function: Timed) -> tuple[float, object]:
    seconds, answer = clock(function)
    return seconds / N_CALLS, answer


def _miss(where: str | None, what: str, target: float) -> Case:
    case = Case(__name__, what=what, unit="us", size=1, quick=1, rounds=30, target=Target(target), measure=per_call)

    @case.answer
    def expected(n: int) -> bool:
        return True

    @case.limit
    def plain_file_renamed(n: int) -> Iterator[Timed]:
        with folder(where) as place:

            def write(x: int) -> int:
                with open(os.path.join(place, "part"), "wb") as file:
                    pickle.dump(x * 2, file)
                os.rename(os.path.join(place, "part"), os.path.join(place, str(x)))
                return x * 2

            yield misses(write)

    @case.joblib
    def joblib(n: int) -> Iterator[Timed]:
        from joblib import Memory

        with folder(where) as place:
            yield misses(Memory(place, verbose=0).cache(double))

    @case.fastpar
    def fastpar(n: int) -> Iterator[Timed]:
        from fastpar.memory import Memory

        with folder(where) as place:
            yield misses(Memory(place, verbose=0).cache(double))

    return case


on_disk = _miss(None, "miss and store, on disk", 200)
in_memory = _miss("/dev/shm", "miss and store, in memory", 100)
