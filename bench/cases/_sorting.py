"""The work of T17 to T19: NumPy sorts of a given duration, which release the GIL while they sort."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache
from multiprocessing.pool import ThreadPool

import numpy as np

from bench.bare import halves_on_threads
from bench.harness import N_JOBS, Case, Target, Timed

N_ARRAYS = 16


@cache
def _arrays(duration_us: float) -> list[np.ndarray]:
    """Arrays that take so long to sort here."""
    rng = np.random.default_rng(0)
    length = 20_000
    for _ in range(3):  # the time is not quite proportional to the length
        length = max(100, int(length * duration_us / _sorting_us(rng.random(length))))
    return [rng.random(length) for _ in range(N_ARRAYS)]


def _sorting_us(array: np.ndarray) -> float:
    times = []
    for _ in range(30):
        started = time.perf_counter()
        np.sort(array)
        times.append(time.perf_counter() - started)
    return min(times) * 1e6


def middle(array: np.ndarray) -> float:
    """The task: sort, and return what is then in the middle."""
    return float(np.sort(array)[array.size // 2])


def sorting_case(module: str, what: str, duration_us: float, size: int, at_most: float) -> Case:
    """A case of `size` sorts of `duration_us` each, to take at most `at_most` times as long as bare threads."""
    case = Case(
        module,
        what=what,
        unit="ms",
        size=size,
        quick=max(20, int(20_000 / duration_us)),
        seconds=12,
        target=Target(at_most, of="limit"),
    )

    def inputs(n: int) -> list[np.ndarray]:
        arrays = _arrays(duration_us)
        return [arrays[i % N_ARRAYS] for i in range(n)]

    @case.answer
    def medians(n: int) -> list[float]:
        return [middle(array) for array in inputs(n)]

    @case.serial
    def plain_loop(n: int) -> Iterator[Timed]:
        arrays = inputs(n)
        yield lambda: [middle(array) for array in arrays]

    @case.limit
    def two_bare_threads(n: int) -> Iterator[Timed]:
        arrays = inputs(n)
        yield lambda: halves_on_threads([(middle, (array,), {}) for array in arrays])

    @case.joblib
    def joblib(n: int) -> Iterator[Timed]:
        from joblib import Parallel, delayed

        arrays = inputs(n)
        with Parallel(N_JOBS, "threading") as parallel:
            yield lambda: parallel(delayed(middle)(array) for array in arrays)

    @case.rival
    def thread_pool_map(n: int) -> Iterator[Timed]:
        arrays = inputs(n)
        with ThreadPool(N_JOBS) as pool:
            yield lambda: pool.map(middle, arrays)

    @case.fastpar
    def fastpar(n: int) -> Iterator[Timed]:
        from fastpar import Parallel, delayed

        arrays = inputs(n)
        yield lambda: Parallel(N_JOBS, "threading")(delayed(middle)(array) for array in arrays)

    return case
