"""The loops of rows T30 to T36 and T46, in C and OpenMP, compiled on the fly, and in numba; fastpar runs the same C.

Everybody runs `repeat` regions inside one call without the GIL, so what is timed is the region and not Python. Without
a compiler or OpenMP, or without numba, a contender is left out.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import LeftOutError

SOURCE = r"""
#include <stdint.h>
#include <time.h>
#include <fastpar.h>

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* About `turns` * 1 ns that no compiler can do without. */
static double work(double turns)
{
    double x = 1;
    for (int64_t i = 0; i < (int64_t)turns; i++) x = x * 1.0000001 + 1e-9;
    return x;
}

typedef struct { int64_t n; const double *turns; double *out; const double *a, *b; int64_t n_inner; double inner; } job;

__attribute__((noinline)) double element(double x) { return x * (1.5 - 0.5 * x * x); }
double (*volatile passed)(double) = element; /* a kernel is a pointer: the compiler must not know to what */
int nothing(int64_t i, void *c) { (void)i; (void)c; return 0; }
static int item(int64_t i, void *c) { job *j = c; j->out[i] = work(j->turns[i]); return 0; }
static int leaf(int64_t i, void *c) { job *j = c; j->out[i % 64] = work(j->inner); return 0; }
static int triad(fp_chunk *k, void *c)
{
    job *j = c;
    for (int64_t i = k->begin; i < k->end; i++) j->out[i] = j->a[i] + 3.0 * j->b[i];
    return 0;
}

double calibrate(void)
{
    int64_t start = now();
    volatile double x = work(2e6);
    (void)x;
    return (now() - start) / 2e6;
}

static void pause_ns(int64_t ns) { for (int64_t end = now() + ns; now() < end;) {} }

#define REGIONS(BODY) \
    int64_t spent = 0; \
    for (int64_t r = 0; r < repeat; r++) { \
        if (pause > 0) pause_ns(pause); \
        int64_t start = now(); \
        BODY; \
        spent += now() - start; \
    } \
    return (double)spent / repeat

#if defined(WITH_OPENMP)
#include <omp.h>

double empty(int64_t n_threads, int64_t pause, int64_t repeat, job *j)
{
    REGIONS(_Pragma("omp parallel for num_threads(n_threads)")
            for (int64_t i = 0; i < n_threads; i++) nothing(i, j));
}
#define ITEMS(NAME, SCHEDULE) \
    double NAME(int64_t n_threads, int64_t pause, int64_t repeat, job *j) \
    { \
        REGIONS(_Pragma(SCHEDULE) for (int64_t i = 0; i < j->n; i++) item(i, j)); \
    }
ITEMS(items_static, "omp parallel for num_threads(n_threads) schedule(static)")
ITEMS(items_dynamic, "omp parallel for num_threads(n_threads) schedule(dynamic,1)")
ITEMS(items_guided, "omp parallel for num_threads(n_threads) schedule(guided)")
double triads(int64_t n_threads, int64_t pause, int64_t repeat, job *j)
{
    REGIONS(_Pragma("omp parallel for num_threads(n_threads)")
            for (int64_t i = 0; i < j->n; i++) j->out[i] = j->a[i] + 3.0 * j->b[i]);
}
double elements(int64_t n_threads, int64_t pause, int64_t repeat, job *j)
{
    double (*kernel)(double) = passed;
    REGIONS(_Pragma("omp parallel for num_threads(n_threads)")
            for (int64_t i = 0; i < j->n; i++) j->out[i] = kernel(j->a[i]));
}
double nested(int64_t n_threads, int64_t pause, int64_t repeat, job *j)
{
    omp_set_max_active_levels(pause < 0 ? 2 : 1);
    REGIONS(_Pragma("omp parallel for num_threads(n_threads) schedule(dynamic,1)")
            for (int64_t i = 0; i < 2; i++) {
                _Pragma("omp parallel for num_threads(n_threads)")
                for (int64_t k = 0; k < j->n_inner; k++) leaf(k, j);
            });
}
#elif defined(WITH_FASTPAR)
void use(const fp_table *table) { fp_api = table; }
static int inner_loop(int64_t i, void *c)
{
    (void)i;
    return fp_parallel_for(0, ((job *)c)->n_inner, leaf, c, 0, 0);
}
#define LOOP(NAME, CALL) \
    double NAME(int64_t n_threads, int64_t pause, int64_t repeat, job *j) \
    { \
        fp_options o = {.n_threads = (uint32_t)n_threads}; \
        REGIONS(CALL); \
    }
LOOP(empty, fp_parallel_for(0, n_threads, nothing, j, &o, 0))
LOOP(items_static, (o.schedule = FP_STATIC, fp_parallel_for(0, j->n, item, j, &o, 0)))
LOOP(items_dynamic, (o.schedule = FP_DYNAMIC, fp_parallel_for(0, j->n, item, j, &o, 0)))
LOOP(items_guided, (o.schedule = FP_GUIDED, fp_parallel_for(0, j->n, item, j, &o, 0)))
LOOP(items_auto, fp_parallel_for(0, j->n, item, j, &o, 0))
LOOP(triads, fp_parallel_for_chunks(0, j->n, triad, j, &o, 0))
LOOP(nested, fp_parallel_for(0, 2, inner_loop, j, &o, 0))
#else
double empty(int64_t n_threads, int64_t pause, int64_t repeat, job *j)
{
    REGIONS(for (volatile int64_t i = 0; i < n_threads; i++) nothing(i, j));
}
double items(int64_t n_threads, int64_t pause, int64_t repeat, job *j)
{
    (void)n_threads;
    REGIONS(for (int64_t i = 0; i < j->n; i++) item(i, j));
}
double triads(int64_t n_threads, int64_t pause, int64_t repeat, job *j)
{
    (void)n_threads;
    fp_chunk all = {.begin = 0, .end = j->n};
    REGIONS(triad(&all, j));
}
double elements(int64_t n_threads, int64_t pause, int64_t repeat, job *j)
{
    (void)n_threads;
    double (*kernel)(double) = passed;
    REGIONS(for (int64_t i = 0; i < j->n; i++) j->out[i] = kernel(j->a[i]));
}
double nested(int64_t n_threads, int64_t pause, int64_t repeat, job *j)
{
    (void)n_threads;
    REGIONS(for (int64_t k = 0; k < 2 * j->n_inner; k++) leaf(k, j));
}
#endif
"""


class Job(ctypes.Structure):
    """What the loops work on: the C struct of this name."""

    _fields_ = [
        ("n", ctypes.c_int64),
        ("turns", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("a", ctypes.c_void_p),
        ("b", ctypes.c_void_p),
        ("n_inner", ctypes.c_int64),
        ("inner", ctypes.c_double),
    ]

    @classmethod
    def of(cls, n: int, **arrays: Any) -> Job:
        """A job that keeps its arrays alive; numbers are stored as they are."""
        job = cls(n=n)
        job.arrays = arrays
        for name, value in arrays.items():
            setattr(job, name, value.ctypes.data if isinstance(value, np.ndarray) else value)
        return job


@cache
def library(kind: str) -> ctypes.CDLL:
    """The loops as "serial", "openmp" or "fastpar"."""
    import fastpar

    flags = {"serial": [], "openmp": ["-DWITH_OPENMP", "-fopenmp"], "fastpar": ["-DWITH_FASTPAR"]}[kind]
    with tempfile.TemporaryDirectory(prefix="fastpar-bench-") as directory:
        source, built = Path(directory, "loops.c"), Path(directory, f"{kind}.so")
        source.write_text(SOURCE)
        command = [os.environ.get("CC", "cc"), "-O2", "-shared", "-fPIC", f"-I{fastpar.get_include()}", *flags]
        try:
            subprocess.run([*command, str(source), "-o", str(built), "-lm"], check=True, capture_output=True)
            loops = ctypes.CDLL(str(built))
        except (OSError, subprocess.CalledProcessError) as error:
            raise LeftOutError(f"no C compiler, or none with {kind}") from error
    if kind == "fastpar":
        _give_table(loops)
    return loops


def _give_table(loops: ctypes.CDLL) -> None:
    from fastpar._core import pool

    get = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    loops.use(ctypes.c_void_p(get(pool._c_api, b"fastpar._core.pool._c_api")))


def regions(
    kind: str, name: str, job: Job, *, n_threads: int = 2, pause_ns: int = 0, repeat: int = 1
) -> Callable[[], float]:
    """A function that runs a loop `repeat` times and returns the mean time of one, in seconds."""
    function = getattr(library(kind), name)
    function.restype = ctypes.c_double
    arguments = (ctypes.c_int64(n_threads), ctypes.c_int64(pause_ns), ctypes.c_int64(repeat), ctypes.byref(job))
    return lambda: function(*arguments) * 1e-9


@cache
def ns_per_turn() -> float:
    """How long a turn of `work` takes here."""
    function = library("serial").calibrate
    function.restype = ctypes.c_double
    return min(function() for _ in range(20))


def told(function: Callable[[], object]) -> tuple[float, object]:
    """A measure: the function's own result is the figure, and the answer is that it came."""
    return float(function()), True  # type: ignore[arg-type]


NUMBA = """
import sys, time
import numpy as np
from numba import njit, prange, set_num_threads
n_threads, pause_ns, repeat = map(int, sys.argv[1:])
set_num_threads(min(n_threads, {most}))
@njit(parallel=True)
def empty(n, out):
    for i in prange(n):
        out[i] = i
out = np.zeros(64)
empty(n_threads, out)
for _ in range(3):
    spent = 0
    for _ in range(repeat):
        end = time.perf_counter_ns() + pause_ns
        while time.perf_counter_ns() < end:
            pass
        start = time.perf_counter_ns()
        empty(n_threads, out)
        spent += time.perf_counter_ns() - start
print(spent / repeat * 1e-9)
"""


def numba_empty(layer: str, n_threads: int, pause_ns: int, repeat: int) -> Callable[[], float]:
    """numba's empty region with a threading layer, in a process of its own: layers are chosen once a process."""
    from bench.isolation import require_module

    require_module("numba")
    environment = os.environ | {"NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": str(max(2, n_threads))}
    command = [sys.executable, "-c", NUMBA.format(most=max(2, n_threads)), str(n_threads), str(pause_ns), str(repeat)]

    def run() -> float:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise LeftOutError(f"numba does not run on {layer} here")
        return float(done.stdout)

    return run
