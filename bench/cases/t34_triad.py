"""T34: does a loop that only moves memory reach what memory gives?"""

from collections.abc import Iterator

import numpy as np

from bench.cases._loops import Job, regions, told
from bench.harness import Case, Target, Timed

case = Case(
    __name__,
    what="triad over three arrays of 100 MB, 2 threads",
    unit="ms",
    size=12_500_000,
    quick=100_000,
    rounds=15,
    measure=told,
    target=Target(1.03, of="rival"),
)


@case.answer
def it_came(n: int) -> bool:
    return True


def job(n: int) -> Job:
    return Job.of(n, a=np.ones(n), b=np.ones(n), out=np.zeros(n))


@case.serial
def c_loop(n: int) -> Iterator[Timed]:
    yield regions("serial", "triads", job(n))


@case.rival
def libgomp(n: int) -> Iterator[Timed]:
    yield regions("openmp", "triads", job(n))


@case.fastpar
def fastpar(n: int) -> Iterator[Timed]:
    yield regions("fastpar", "triads", job(n))
