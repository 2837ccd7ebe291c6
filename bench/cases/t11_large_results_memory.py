"""T11: how much memory do large results take when their consumer is slower than the workers?

Two workers read four tasks ahead of what is consumed: a window of 4 MB. The target is twice that.
"""

import time
from collections.abc import Iterable, Iterator

from bench.harness import N_JOBS, Case, Target, Timed
from bench.isolation import peak_memory

CONSUMER_S = 3e-3
RESULT_BYTES = 1_000_000
WINDOW_MB = 2 * N_JOBS * RESULT_BYTES / 1e6

def megabyte(i: int) -> bytes:
    return bytes([i % 256]) * RESULT_BYTES


def consume(results: Iterable[bytes]) -> list[int]:
    """Look at each result for a while; its first byte shows whose it is."""
    firsts = []
    for result in results:
        time.sleep(CONSUMER_S)  # stands for the consumer's own work
        firsts.append(result[0])
    return firsts


def first_bytes(n: int) -> list[int]:
    return [i % 256 for i in range(n)]


def plain_loop(n: int) -> Iterator[Timed]:
    yield lambda: consume(map(megabyte, range(n)))


def window(n: int) -> Iterator[Timed]:
    """A full window and nothing else."""

    def hold() -> list[int]:
        held = [megabyte(i) for i in range(2 * N_JOBS)]
        return first_bytes(n) if held else []

    yield hold


def _large(kind: str) -> Case:
    case = Case(
        __name__,
        what=f"1,000 results of 1 MB, {kind}, slow consumer, extra peak",
        unit="MB",
        size=1_000,
        quick=30,
        rounds=3,
        target=Target(2 * WINDOW_MB),
        measure=peak_memory,
        isolated=True,
    )
    theirs, ours = {"threads": ("threading", "threading"), "processes": ("loky", "processes")}[kind]
    case.answer(first_bytes)
    case.serial(plain_loop)
    case.limit(window)

    @case.joblib
    def joblib(n: int) -> Iterator[Timed]:
        from joblib import Parallel, delayed

        parallel = Parallel(N_JOBS, theirs, return_as="generator")
        yield lambda: consume(parallel(delayed(megabyte)(i) for i in range(n)))

    @case.fastpar
    def fastpar(n: int) -> Iterator[Timed]:
        from fastpar import Parallel, delayed

        parallel = Parallel(N_JOBS, ours, return_as="generator")
        yield lambda: consume(parallel(delayed(megabyte)(i) for i in range(n)))

    return case


on_threads = _large("threads")
on_processes = _large("processes")
