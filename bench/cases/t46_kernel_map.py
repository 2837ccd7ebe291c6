"""T46: is a C function mapped over an array from Python as fast as the loop in C?

All of them call it through a pointer but numba, which compiles it into its loop. A call that the compiler can see takes
0.86 of the time; no library that is handed a function can have that.
"""

from collections.abc import Iterator

import numpy as np

from bench.cases._loops import Job, library, regions
from bench.harness import N_JOBS, Case, Target, Timed

case = Case(
    __name__,
    what="kernel_map of double(double) over 1e7 doubles, 2 threads",
    unit="ms",
    size=10_000_000,
    quick=10_000,
    rounds=25,
    target=Target(1.05, of="limit"),
)


def argument(n: int) -> np.ndarray:
    return np.linspace(0, 1, n)


def sample(out: np.ndarray) -> list[float]:
    """A few of the results: comparing all would take longer than the loop."""
    return out[:: max(1, len(out) // 10)].tolist()


@case.answer
def expected(n: int) -> list[float]:
    x = argument(n)
    return sample(x * (1.5 - 0.5 * x * x))


def in_c(kind: str, n: int) -> Iterator[Timed]:
    out = np.zeros(n)
    loop = regions(kind, "elements", Job.of(n, a=argument(n), out=out))

    def run() -> list[float]:
        loop()
        return sample(out)

    yield run


@case.serial
def c_loop(n: int) -> Iterator[Timed]:
    yield from in_c("serial", n)


@case.limit
def c_loop_on_two_threads(n: int) -> Iterator[Timed]:
    yield from in_c("openmp", n)


@case.rival
def numba_prange(n: int) -> Iterator[Timed]:
    from numba import njit, prange, set_num_threads

    @njit(parallel=True)
    def run(x: np.ndarray, out: np.ndarray) -> None:
        for i in prange(len(x)):
            out[i] = x[i] * (1.5 - 0.5 * x[i] * x[i])

    set_num_threads(N_JOBS)
    x, out = argument(n), np.zeros(n)
    yield lambda: run(x, out) or sample(out)


@case.fastpar
def fastpar(n: int) -> Iterator[Timed]:
    from fastpar.kernels import kernel, kernel_map

    x, out = argument(n), np.zeros(n)
    k = kernel(library("serial").element, "double (double)")
    yield lambda: sample(kernel_map(k, x, out=out, n_jobs=N_JOBS))
