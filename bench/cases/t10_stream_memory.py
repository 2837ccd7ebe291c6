"""T10: how much memory does a stream of tasks take, from a generator into a generator?"""

from collections.abc import Iterable, Iterator
from math import sqrt
from multiprocessing import Pool
from multiprocessing.pool import ThreadPool

from bench.harness import N_JOBS, Case, LeftOutError, Target, Timed
from bench.isolation import peak_memory

JOBLIB_MOST = 100_000  # at 40 us a task


def total(results: Iterable[float]) -> float:
    """Consume results one by one; the order shows in the last bits of the sum."""
    value = 0.0
    for result in results:
        value += result
    return value


def expected(n: int) -> float:
    return total(sqrt(i) for i in range(n))


def plain_loop(n: int) -> Iterator[Timed]:
    yield lambda: total(sqrt(i) for i in range(n))


def _stream(kind: str, size: int) -> Case:
    case = Case(
        __name__,
        what=f"generator to generator, {kind}, {size:,} tasks, extra peak",
        unit="MB",
        size=size,
        quick=1_000,
        rounds=5,
        target=Target(1),
        measure=peak_memory,
        isolated=True,
    )
    theirs, ours = {"threads": ("threading", "threading"), "processes": ("loky", "processes")}[kind]
    case.answer(expected)
    case.serial(plain_loop)

    @case.joblib
    def joblib(n: int) -> Iterator[Timed]:
        if n > JOBLIB_MOST:
            raise LeftOutError(f"{n:,} tasks take long")
        from joblib import Parallel, delayed

        parallel = Parallel(N_JOBS, theirs, return_as="generator")
        yield lambda: total(parallel(delayed(sqrt)(i) for i in range(n)))

    @case.rival
    def pool_imap(n: int) -> Iterator[Timed]:
        with ThreadPool(N_JOBS) if kind == "threads" else Pool(N_JOBS) as pool:
            yield lambda: total(pool.imap(sqrt, iter(range(n)), chunksize=100))

    @case.fastpar
    def fastpar(n: int) -> Iterator[Timed]:
        from fastpar import Parallel, delayed

        parallel = Parallel(N_JOBS, ours, return_as="generator")
        yield lambda: total(parallel(delayed(sqrt)(i) for i in range(n)))

    return case


hundred_thousand = _stream("threads", 100_000)
million = _stream("threads", 1_000_000)

hundred_thousand_on_processes = _stream("processes", 100_000)
