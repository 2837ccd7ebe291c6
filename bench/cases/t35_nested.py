"""T35: what does a loop of 64 items of 0.5 us cost inside each item of a loop of two?"""

from collections.abc import Iterator

import numpy as np

from bench.cases._loops import Job, ns_per_turn, regions, told
from bench.harness import Case, Target, Timed

case = Case(
    __name__,
    what="nested 2 x 64 items of 0.5 us",
    unit="us",
    size=64,
    quick=64,
    rounds=25,
    measure=told,
    target=Target(1.10, of="limit"),
)


@case.answer
def it_came(n: int) -> bool:
    return True


def job(n: int) -> Job:
    return Job.of(n, n_inner=n, inner=500 / ns_per_turn(), out=np.zeros(64))


@case.limit
def half_of_the_serial_loop(n: int) -> Iterator[Timed]:
    serial = regions("serial", "nested", job(n), repeat=100)
    yield lambda: serial() / 2


@case.rival
def libgomp_not_nested(n: int) -> Iterator[Timed]:
    yield regions("openmp", "nested", job(n), repeat=100)


@case.rival
def libgomp_nested(n: int) -> Iterator[Timed]:
    yield regions("openmp", "nested", job(n), repeat=20, pause_ns=-1)


@case.fastpar
def fastpar(n: int) -> Iterator[Timed]:
    yield regions("fastpar", "nested", job(n), repeat=100)
