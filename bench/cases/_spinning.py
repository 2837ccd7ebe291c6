"""The work of T20 to T23: pure Python that keeps a core busy for a given time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache
from multiprocessing import Pool

from bench.bare import halves_on_forks
from bench.harness import N_JOBS, Case, Target, Timed


def spin(turns: int) -> int:
    """The task: its result is its argument, which it takes a while to find out."""
    i = 0
    while i < turns:
        i += 1
    return i


@cache
def turns_per_us() -> float:
    """How fast `spin` is here."""
    times = []
    for _ in range(20):
        started = time.perf_counter()
        spin(20_000)
        times.append(time.perf_counter() - started)
    return 20_000 / (min(times) * 1e6)


def spinning_case(
    module: str, what: str, size: int, durations_us: Callable[[int], list[float]], target: Target, rounds: int = 5
) -> Case:
    """A case of `size` tasks that take as long as `durations_us` of their number says."""
    case = Case(
        module, what=what, unit="ms", size=size, quick=min(size, 50), rounds=rounds, seconds=90, target=target
    )

    @cache
    def works(n: int) -> list[int]:
        return [int(us * turns_per_us()) for us in durations_us(n)]

    case.answer(works)

    @case.serial
    def plain_loop(n: int) -> Iterator[Timed]:
        yield lambda: [spin(turns) for turns in works(n)]

    @case.limit
    def two_bare_forks(n: int) -> Iterator[Timed]:
        yield lambda: halves_on_forks([(spin, (turns,), {}) for turns in works(n)])

    @case.joblib
    def joblib(n: int) -> Iterator[Timed]:
        from joblib import Parallel, delayed

        with Parallel(N_JOBS) as parallel:
            yield lambda: parallel(delayed(spin)(turns) for turns in works(n))

    @case.rival
    def pool_map(n: int) -> Iterator[Timed]:
        with Pool(N_JOBS) as pool:
            yield lambda: pool.map(spin, works(n))

    @case.rival
    def pool_imap(n: int) -> Iterator[Timed]:
        with Pool(N_JOBS) as pool:
            yield lambda: list(pool.imap(spin, works(n)))

    @case.rival
    def mpire(n: int) -> Iterator[Timed]:
        from mpire import WorkerPool

        with WorkerPool(N_JOBS, keep_alive=True) as pool:
            yield lambda: pool.map(spin, works(n))

    @case.fastpar
    def fastpar(n: int) -> Iterator[Timed]:
        from fastpar import Parallel, delayed

        yield lambda: Parallel(N_JOBS, "processes")(delayed(spin)(turns) for turns in works(n))

    return case
