"""T36: how much CPU does the pool use when it has nothing to do?"""

import time
from collections.abc import Iterator

import numpy as np

from bench.cases._loops import Job, ns_per_turn, regions
from bench.harness import Case, Target, Timed

case = Case(
    __name__,
    what="CPU time of 90 ms without work, from 10 ms after a loop",
    unit="us",
    size=2_000,
    quick=200,
    rounds=15,
    target=Target(1),  # one look at a clock
    measure=lambda function: (float(function()), True),  # type: ignore[arg-type]
)


@case.answer
def it_came(n: int) -> bool:
    return True


def of_others() -> float:
    """CPU time of all threads but this one, which has to wake from its own sleep."""
    return time.process_time() - time.thread_time()


def idle_after(kind: str, n: int) -> Timed:
    loop = regions(kind, "items_dynamic", Job.of(n, turns=np.full(n, 2_000 / ns_per_turn()), out=np.zeros(n)))

    def run() -> float:
        loop()
        time.sleep(0.01)  # not a wait for anything: idling is what is measured
        before = of_others()
        time.sleep(0.09)
        return of_others() - before

    return run


@case.rival
def libgomp(n: int) -> Iterator[Timed]:
    yield idle_after("openmp", n)


@case.fastpar
def fastpar(n: int) -> Iterator[Timed]:
    yield idle_after("fastpar", n)
