"""T47: what does a call from Python cost whose loop has nothing to do?"""

from collections.abc import Iterator

import numpy as np

from bench.cases._loops import library
from bench.harness import N_JOBS, Case, Target, Timed

case = Case(
    __name__,
    what="a loop over 10 elements, called from Python, 2 threads",
    unit="us",
    size=10,
    quick=10,
    rounds=40,
    calls=500,
    target=Target(3),
)


@case.answer
def nothing_to_return(n: int) -> None:
    return None


@case.rival
def numba_prange(n: int) -> Iterator[Timed]:
    from numba import njit, prange, set_num_threads

    @njit(parallel=True)
    def run(x: np.ndarray, out: np.ndarray) -> None:
        for i in prange(len(x)):
            out[i] = 2 * x[i]

    set_num_threads(N_JOBS)
    x = np.zeros(n)
    yield lambda: run(x, x)


@case.fastpar
def fastpar_parallel_for(n: int) -> Iterator[Timed]:
    from fastpar.kernels import kernel, parallel_for

    k = kernel(library("serial").nothing, "int (int64_t, void *)")
    yield lambda: parallel_for(k, n, n_jobs=N_JOBS)


@case.fastpar
def fastpar_kernel_map(n: int) -> Iterator[Timed]:
    from fastpar.kernels import kernel, kernel_map

    k, x = kernel(library("serial").element, "double (double)"), np.zeros(n)

    def run() -> None:
        kernel_map(k, x, out=x, n_jobs=N_JOBS)

    yield run
