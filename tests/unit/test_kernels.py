"""Kernels from every source, mapped, looped over and reduced; against NumPy and the plain loop."""

import ctypes
import ctypes.util
import math
import os
import signal
import subprocess
import sys
import threading
import time
from typing import ClassVar

import numpy as np
import pytest

from fastpar import Parallel, cpu, delayed, kernels
from fastpar._core import pool
from fastpar._signatures import encode
from fastpar.errors import KernelError
from fastpar.kernels import kernel, kernel_map, parallel_for, parallel_reduce

LIBM = ctypes.CDLL(ctypes.util.find_library("m"))
SCHEDULES = ("auto", "static", "dynamic", "guided")

SOURCE = r"""
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>
double twice(double x) { return 2 * x; }
float twice_float(float x) { return 2 * x; }
double scaled(double x, void *factor) { return x * *(double *)factor; }
double fma3(double x, double y, double z) { return x * y + z; }
int row_sum(double *row, intptr_t n, double *out, void *data)
{
    double sum = 0;
    for (intptr_t i = 0; i < n; i++) {
        if (row[i] < 0) return 5;
        sum += row[i];
    }
    *out = sum;
    return 0;
}
int row_reverse(double *row, intptr_t n, double *out, intptr_t n_out, void *data)
{
    for (intptr_t i = 0; i < n_out; i++) out[i] = row[n - 1 - i];
    return 0;
}
int mark(int64_t i, void *counts) { ((int64_t *)counts)[i]++; return 0; }
int mark_range(int64_t begin, int64_t end, void *counts)
{
    for (int64_t i = begin; i < end; i++) ((int64_t *)counts)[i]++;
    return 0;
}
int fail_at(int64_t i, void *where) { return i == *(int64_t *)where ? 3 : 0; }
int fail_in(int64_t begin, int64_t end, void *where)
{
    return begin <= *(int64_t *)where && *(int64_t *)where < end ? 3 : 0;
}
double length(int64_t begin, int64_t end, void *data) { return end - begin; }
int nothing(int64_t i) { return 0; }
int empty_range(int64_t begin, int64_t end, void *data) { return 0; }
static void nap(void) { struct timespec t = {0, 1000000}; nanosleep(&t, 0); }
int interrupt(int64_t i) { if (i == 5) kill(getpid(), SIGINT); nap(); return 0; }
int interrupt_range(int64_t begin, int64_t end, void *data)
{
    for (int64_t i = begin; i < end; i++) interrupt(i);
    return 0;
}
double nap_for(double x) { nap(); return x; }
int identify(int64_t i, void *threads) { ((int64_t *)threads)[i] = (int64_t)pthread_self(); return 0; }
int crash_elsewhere(int64_t i, void *caller)
{
    if ((int64_t)pthread_self() != *(int64_t *)caller) *(volatile int *)0 = 1;
    nap();
    return 0;
}
double interrupt_element(double x) { return interrupt(x); }
double interrupt_term(int64_t i) { return interrupt(i); }
int interrupt_quickly(int64_t i) { return i == 5 && kill(getpid(), SIGINT); }
int add_up(int64_t begin, int64_t end, void *sum)
{
    __atomic_fetch_add((int64_t *)sum, end - begin, __ATOMIC_RELAXED);
    return 0;
}
int interrupt_and_fail(int64_t i)
{
    kill(getpid(), SIGINT);
    for (int n = 0; n < 60; n++) nap();
    return 7;
}
/* flags: the second index has begun; a signal handler has run */
int interrupt_waiting(int64_t i, void *flags)
{
    volatile int64_t *has_begun = flags, *was_handled = has_begun + 1;
    if (i == 1) *has_begun = 1;
    while (!*has_begun) nap();
    if (i == 1) kill(getpid(), SIGINT);
    for (int n = 0; i == 1 && !*was_handled; n++) {
        if (n > 10000) return 5;
        nap();
    }
    return 0;
}
double harmonic(int64_t i, void *data) { return 1.0 / (i + 1); }
double harmonic_range(int64_t begin, int64_t end, void *data)
{
    double sum = 0;
    for (int64_t i = begin; i < end; i++) sum += 1.0 / (i + 1);
    return sum;
}
double itself(int64_t i) { return i; }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    directory = tmp_path_factory.mktemp("kernels")
    (directory / "k.c").write_text(SOURCE)
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "k.c", "-o", "k.so"], cwd=directory, check=True)
    return ctypes.CDLL(str(directory / "k.so"))


@pytest.fixture
def c(library):
    """A function of the library as a kernel."""
    return lambda name, signature: kernel(getattr(library, name), signature)


# ------------------------------------------------------------------------------------------------- signatures


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("double (double)", "d(d)"),
        ("double(double,void*)", "d(dP)"),
        ("int (npy_intp i, const double *row, void *user_data) noexcept nogil", "i(lDP)"),
        ("float64 (float64*, int64)", "d(Dl)"),
        ("int (long long, unsigned_)", None),
        ("int (long int, void * restrict data)", "i(lP)"),
        ("void (void)", "v()"),
        ("int (long long int n, const void *data)", "i(lP)"),
        ("double (double **)", None),
        ("int (long double)", None),
        ("double complex (double complex)", None),
        ("double _Complex (double)", None),
        ("double (double x[])", None),
        ("double (double, float 2)", None),
        ("int (short int)", None),
        ("double", None),
        ("", None),
    ],
)
def test_signatures_are_read(text, code):
    if code is None:
        with pytest.raises(TypeError, match=r"signature|type"):
            encode(text)
    else:
        assert encode(text) == code


# ------------------------------------------------------------------------------------------------- sources


def from_ctypes():
    function = ctypes.CDLL(ctypes.util.find_library("m")).sqrt
    function.argtypes, function.restype = [ctypes.c_double], ctypes.c_double
    return kernel(function)


def from_ctypes_and_signature():
    return kernel(ctypes.CDLL(ctypes.util.find_library("m")).sqrt, "double (double)")


def from_capsule():
    new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
        ("PyCapsule_New", ctypes.pythonapi)
    )
    return kernel(new(ctypes.cast(LIBM.sqrt, ctypes.c_void_p), b"double (double)", None))


def from_cffi():
    ffi = pytest.importorskip("cffi").FFI()
    ffi.cdef("double sqrt(double);")
    return kernel(ffi.addressof(ffi.dlopen(ctypes.util.find_library("m")), "sqrt"))


SOURCES = [from_ctypes, from_ctypes_and_signature, from_capsule, from_cffi]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("make", SOURCES)
def test_a_kernel_from_every_source(make):
    root = make()
    assert root(6.25) == 2.5
    assert root.code == "d(d)"
    x = np.linspace(0, 9, 1000)
    np.testing.assert_array_equal(kernel_map(root, x), np.sqrt(x))


#: In interpreters of their own: these bring a BLAS, whose threads come and go as they like.
SOURCES_ELSEWHERE = {
    "scipy": """
import ctypes, ctypes.util, scipy
sqrt = ctypes.CDLL(ctypes.util.find_library("m")).sqrt
sqrt.argtypes, sqrt.restype = [ctypes.c_double], ctypes.c_double
k = kernel(scipy.LowLevelCallable(sqrt))
""",
    "numba": """
import numba
k = kernel(numba.cfunc("float64(float64)")(lambda x: x**0.5))
""",
    "scipy.special": """
try:
    kernel("scipy.special.cython_special:nonsense")
except TypeError as error:
    assert "exports no cdef function 'nonsense'" in str(error)
k = kernel("scipy.special.cython_special:j0")
assert k(0.0) == 1.0
from math import sqrt as k
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES_ELSEWHERE)
def test_a_kernel_from_a_package(name, python):
    pytest.importorskip(name.partition(".")[0])
    code = f"from fastpar.kernels import kernel, kernel_map\n{SOURCES_ELSEWHERE[name]}\nprint(k(6.25))"
    assert python.out(code) == "2.5\n"


@pytest.mark.parametrize(
    ("source", "signature", "message"),
    [
        (math.sqrt, None, "holds no compiled function"),
        (LIBM.cos, None, "set its argtypes"),
        (LIBM.cos, "double", "is no signature"),
        (LIBM.cos, "str (double)", "is no type"),
        ("no_colon", None, "package.module:name"),
        (ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(0), None, "null pointer"),
    ],
)
def test_what_is_no_kernel(source, signature, message):
    with pytest.raises(TypeError, match=message):
        kernel(source, signature)


def test_a_wrong_signature_is_refused_before_anything_runs(c):
    with pytest.raises(TypeError, match="the function's signature is 'double \\(double\\)', not"):
        kernel(from_ctypes(), None) and kernel(from_ctypes_source(), "int (int64_t, void *)")
    with pytest.raises(TypeError, match="kernel_map cannot call"):
        kernel_map(c("mark", "int (int64_t, void *)"), np.ones(3))
    with pytest.raises(TypeError, match="parallel_for cannot call"):
        parallel_for(c("twice", "double (double)"), 3)
    with pytest.raises(TypeError, match="takes 1 arrays, not 2"):
        kernel_map(c("twice", "double (double)"), np.ones(3), np.ones(3))
    with pytest.raises(TypeError, match="takes no data"):
        kernel(LIBM.cos, "double (double)", data=np.ones(1))


def from_ctypes_source():
    function = ctypes.CDLL(ctypes.util.find_library("m")).sqrt
    function.argtypes, function.restype = [ctypes.c_double], ctypes.c_double
    return function


def test_a_null_pointer_of_cffi():
    ffi = pytest.importorskip("cffi").FFI()
    with pytest.raises(TypeError, match="null pointer"):
        kernel(ffi.cast("double (*)(double)", 0))


# ------------------------------------------------------------------------------------------------- data


class Picture:
    """What Pillow's images look like: the data are a copy, and no address."""

    __array_interface__: ClassVar = {"shape": (2,), "typestr": "|u1", "data": b"ab", "version": 3}


class Column:
    """An array of another library, which always names its strides."""

    def __init__(self, array):
        self.__array_interface__ = {**array.__array_interface__, "strides": array.strides}


@pytest.mark.parametrize("make", [Picture, lambda: np.float64(3), lambda: np.int64(3), lambda: "text", object])
def test_what_has_no_address(c, make):
    with pytest.raises(TypeError, match="has no address"):
        parallel_for(c("mark", "int (int64_t, void *)"), 1, make())


@pytest.mark.parametrize("view", [lambda a: a[:, ::2], lambda a: a[::-1], lambda a: a.T, lambda a: Column(a.T)])
def test_data_are_contiguous(c, view):
    counts = np.zeros((8, 8), np.int64)
    with pytest.raises(ValueError, match=r"numpy\.ascontiguousarray"):
        parallel_for(c("mark", "int (int64_t, void *)"), 4, view(counts))
    assert not counts.any()
    for fitting in (counts[2:4], counts[:, :, None], counts.T[:1, :1], counts[:0], Column(counts), counts[:, None]):
        parallel_for(c("mark", "int (int64_t, void *)"), 1, fitting)


def test_read_only_data_are_for_kernels_that_only_read(c):
    frozen = np.array([2.0])
    frozen.flags.writeable = False
    x = np.arange(3.0)
    for call in (
        lambda k: kernel_map(k, x, data=frozen),
        lambda k: kernel_map(kernel(k, data=frozen), x),
        lambda k: np.array([k(number, frozen) for number in x]),
    ):
        with pytest.raises(ValueError, match="read-only"):
            call(c("scaled", "double (double, void *)"))
        with pytest.raises(ValueError, match="read-only"):
            call(c("scaled", "double (double, void *const data)"))
        for signature in ("double (double, const void *)", "double (double x, void const *data) noexcept nogil"):
            np.testing.assert_array_equal(call(c("scaled", signature)), 2 * x)


def test_data_for_a_kernel_that_takes_none(c):
    counts = np.zeros(3, np.int64)
    with pytest.raises(TypeError, match="takes no data"):
        parallel_for(c("nothing", "int (int64_t)"), 3, counts)
    with pytest.raises(TypeError, match="takes no data"):
        parallel_reduce(c("itself", "double (int64_t)"), 3, counts)
    with pytest.raises(TypeError, match="takes no data"):
        kernel_map(c("twice", "double (double)"), np.ones(3), data=counts)


# ------------------------------------------------------------------------------------------------- kernel_map


@pytest.mark.parametrize("n_jobs", [1, 2, 5])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_elements(c, n_jobs, schedule):
    twice = c("twice", "double (double)")
    for n in (0, 1, 7, 100_001):
        x = np.arange(n, dtype=float)
        np.testing.assert_array_equal(kernel_map(twice, x, n_jobs=n_jobs, schedule=schedule), 2 * x)


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a,
        lambda a: a.T,
        lambda a: a[::2, ::-3],
        lambda a: np.broadcast_to(a[:1, :, None], (5, a.shape[1], 4)),
        np.asfortranarray,
        lambda a: a[0, 0],
        lambda a: a[:, None, :],
        lambda a: a.view(type("Subclass", (np.ndarray,), {})),
        lambda a: a[:0],
    ],
)
def test_any_strides(c, view):
    x = np.asanyarray(view(np.arange(120 * 90, dtype=float).reshape(120, 90)))
    result = kernel_map(c("twice", "double (double)"), x, n_jobs=3)
    np.testing.assert_array_equal(result, 2 * x)
    out = np.zeros(x.shape[::-1]).T
    assert kernel_map(c("twice", "double (double)"), x, out=out, n_jobs=3) is out
    np.testing.assert_array_equal(out, 2 * x)


def test_several_inputs_floats_and_data(c):
    x, y, z = np.random.default_rng(0).random((3, 5000))
    np.testing.assert_array_equal(kernel_map(c("fma3", "double (double, double, double)"), x, y, z), x * y + z)
    single = x.astype(np.float32)
    result = kernel_map(c("twice_float", "float (float)"), single)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, 2 * single)
    scaled = c("scaled", "double (double, void *)")
    np.testing.assert_array_equal(kernel_map(scaled, x, data=np.array([3.0])), 3 * x)
    bound = kernel(scaled, data=ctypes.c_double(4.0))
    np.testing.assert_array_equal(kernel_map(bound, x), 4 * x)
    assert bound(2.0) == 8.0


def test_rows(c):
    x = np.arange(3 * 40 * 5, dtype=float).reshape(3, 40, 5)
    total = c("row_sum", "int (double *, intptr_t, double *, void *)")
    np.testing.assert_array_equal(kernel_map(total, x), x.sum(-1))
    np.testing.assert_array_equal(kernel_map(total, x[:, ::-3]), x[:, ::-3].sum(-1))
    assert kernel_map(total, x[0, 0]) == x[0, 0].sum()
    reverse = c("row_reverse", "int (double *, intptr_t, double *, intptr_t, void *)")
    np.testing.assert_array_equal(kernel_map(reverse, x), x[..., ::-1])
    np.testing.assert_array_equal(kernel_map(reverse, x, out=np.empty((3, 40, 2))), x[..., :2:-1])
    for wrong in (np.zeros((3, 40)), np.zeros((3, 40, 5, 2)), np.zeros(3), np.zeros(())):
        with pytest.raises(ValueError, match=rf"out has {wrong.ndim} dimensions where 3 are needed"):
            kernel_map(reverse, x, out=wrong)
        assert not wrong.any()
    with pytest.raises(ValueError, match="out has 0 dimensions where 1 are needed"):
        kernel_map(reverse, x[0, 0], out=np.zeros(()))
    with pytest.raises(ValueError, match="out has 3 dimensions where 2 are needed"):
        kernel_map(total, x, out=np.zeros((3, 40, 5)))
    x[1, 7, 2] = -1
    with pytest.raises(KernelError, match="returned 5 at index 47") as caught:
        kernel_map(total, x)
    assert (caught.value.index, caught.value.code) == (47, 5)
    with pytest.raises(ValueError, match="not contiguous"):
        kernel_map(total, x.T)


def test_what_kernel_map_refuses(c):
    twice = c("twice", "double (double)")
    fma3 = c("fma3", "double (double, double, double)")
    x = np.arange(100.0)
    frozen = np.empty(100)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        kernel_map(twice, x, out=frozen)
    with pytest.raises(TypeError, match="array 1 is of type int64"):
        kernel_map(twice, np.arange(3))
    with pytest.raises(TypeError, match="out is of type float32"):
        kernel_map(twice, x, out=np.empty(100, np.float32))
    with pytest.raises(TypeError, match="no array"):
        kernel_map(twice, [1.0, 2.0])
    with pytest.raises(ValueError, match="array 2 has shape"):
        kernel_map(fma3, x, x[:50], x)
    with pytest.raises(ValueError, match="out has shape"):
        kernel_map(twice, x, out=np.empty(99))
    with pytest.raises(ValueError, match="overlaps"):
        kernel_map(twice, x[:-1], out=x[1:])
    with pytest.raises(ValueError, match="overlaps"):
        kernel_map(twice, x, out=x[::-1])
    with pytest.raises(ValueError, match="schedule"):
        kernel_map(twice, x, schedule="best")
    assert kernel_map(twice, x[::2], out=x[1::2]) is not None  # interleaved, but apart
    y = np.arange(100.0)
    np.testing.assert_array_equal(kernel_map(twice, y, out=y), 2 * np.arange(100.0))


# ------------------------------------------------------------------------------------------------- loops


@pytest.mark.parametrize("n_jobs", [1, 2, 5, -1, None])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_each_index_once(c, n_jobs, schedule):
    for name, signature in [("mark", "int (int64_t, void *)"), ("mark_range", "int (int64_t, int64_t, void *)")]:
        for n, grain in [(0, 0), (1, 5), (1000, 7), (50_000, 0)]:
            counts = np.zeros(n, np.int64)
            parallel_for(c(name, signature), n, counts, n_jobs=n_jobs, schedule=schedule, grain=grain)
            assert (counts == 1).all()


def test_more_than_32_bits(c):
    parallel_for(c("empty_range", "int (int64_t, int64_t, void *)"), 2**33, n_jobs=2)
    length = c("length", "double (int64_t, int64_t, void *)")
    assert parallel_reduce(length, 2**33 + 5, n_jobs=2) == 2**33 + 5
    fail_in = c("fail_in", "int (int64_t, int64_t, void *)")
    with pytest.raises(KernelError) as caught:
        parallel_for(fail_in, 2**33, np.array([2**33 - 1]), n_jobs=2, schedule="dynamic", grain=2**30)
    assert caught.value.index == 7 * 2**30


@pytest.mark.parametrize("grain", [0, 2**62])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_up_to_the_last_number(c, grain, n_jobs):
    total = np.zeros(1, np.int64)
    parallel_for(c("add_up", "int (int64_t, int64_t, void *)"), 2**63 - 1, total, grain=grain, n_jobs=n_jobs)
    assert total[0] == 2**63 - 1


@pytest.mark.parametrize("n", [-1, 2**63, 1.5, True, "3"])
def test_wrong_ranges(c, n):
    with pytest.raises((TypeError, ValueError)):
        parallel_for(c("nothing", "int (int64_t)"), n)


def test_an_error_in_the_middle(c):
    fail_at = c("fail_at", "int (int64_t, void *)")
    for where in (0, 17, 99_999):
        with pytest.raises(KernelError) as caught:
            parallel_for(fail_at, 100_000, np.array([where]), n_jobs=3)
        assert (caught.value.index, caught.value.code) == (where, 3)
    parallel_for(fail_at, 100, np.array([100]))


@pytest.mark.parametrize(
    ("name", "signature"),
    [("harmonic", "double (int64_t, void *)"), ("harmonic_range", "double (int64_t, int64_t, void *)")],
)
def test_reductions_are_bitwise_equal(c, name, signature):
    k = c(name, signature)
    for n in (0, 1, 1000, 123_457):
        results = {
            parallel_reduce(k, n, n_jobs=n_jobs, schedule=schedule) for n_jobs in (1, 2, 4) for schedule in SCHEDULES
        }
        assert len(results) == 1
        assert results.pop() == pytest.approx(math.fsum(1 / (i + 1) for i in range(n)))


def test_operations(c):
    itself = c("itself", "double (int64_t)")
    assert parallel_reduce(itself, 5000, op="max") == 4999
    assert parallel_reduce(itself, 5000, op="min") == 0
    assert parallel_reduce(itself, 3, op="prod") == 0
    assert parallel_reduce(itself, 0, op="min") == math.inf
    with pytest.raises(ValueError, match="op='mean'"):
        parallel_reduce(itself, 3, op="mean")


# ------------------------------------------------------------------------------------------------- surroundings


def test_sixteen_threads_at_once(c):
    mark = c("mark", "int (int64_t, void *)")
    counts = np.zeros((16, 20_000), np.int64)
    errors = []

    def work(row):
        try:
            for _ in range(10):
                parallel_for(mark, counts.shape[1], row, n_jobs=3)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(row,)) for row in counts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert (counts == 10).all()


@pytest.fixture
def sigint():
    """Ctrl-C raises KeyboardInterrupt, also where a shell has started the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted_for(c):
    return lambda **how: parallel_for(c("interrupt", "int (int64_t)"), 20_000, **how)


def interrupted_for_range(c):
    return lambda **how: parallel_for(c("interrupt_range", "int (int64_t, int64_t, void *)"), 20_000, **how)


def interrupted_reduce(c):
    return lambda **how: parallel_reduce(c("interrupt_term", "double (int64_t)"), 20_000, block=1, **how)


def interrupted_map(c):
    return lambda **how: kernel_map(c("interrupt_element", "double (double)"), np.arange(20_000.0), **how)


@pytest.mark.usefixtures("sigint")
@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prepare", [interrupted_for, interrupted_for_range, interrupted_reduce, interrupted_map])
def test_ctrl_c_stops_a_loop(c, prepare, schedule, n_jobs):
    run = prepare(c)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(n_jobs=n_jobs, schedule=schedule)
    assert time.monotonic() - start < 5  # 0.1 where nobody else wants the CPUs; all of it would take 10 or 20
    counts = np.zeros(10_000, np.int64)
    parallel_for(c("mark", "int (int64_t, void *)"), 10_000, counts, n_jobs=2)
    assert (counts == 1).all()


@pytest.mark.usefixtures("sigint")
@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ctrl_c_stops_a_huge_loop(c, schedule, n_jobs):
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        parallel_for(c("interrupt_quickly", "int (int64_t)"), 2**63 - 1, schedule=schedule, n_jobs=n_jobs)
    assert time.monotonic() - start < 2  # 0.1 where nobody else wants the CPUs


@pytest.mark.usefixtures("sigint")
def test_ctrl_c_outranks_a_failure(c):
    with pytest.raises(KeyboardInterrupt):
        parallel_for(c("interrupt_and_fail", "int (int64_t)"), 2, n_jobs=1)


def test_a_crash_on_a_thread_of_the_pool_is_reported(library, python):
    code = f"""
import ctypes, threading
from fastpar.kernels import parallel_for, kernel
library = ctypes.CDLL({library._name!r})
caller = ctypes.c_int64(threading.get_ident())
parallel_for(kernel(library.crash_elsewhere, "int (int64_t, void *)"), 10_000, caller, n_jobs=2)
"""
    done = python.run("-c", code)
    assert done.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in done.stderr


def test_signals_are_handled_while_others_run_the_rest(c):
    flags = np.zeros(2, np.int64)
    before = signal.signal(signal.SIGINT, lambda *_: flags.__setitem__(1, 1))
    try:
        parallel_for(c("interrupt_waiting", "int (int64_t, void *)"), 2, flags, n_jobs=2, schedule="dynamic")
    finally:
        signal.signal(signal.SIGINT, before)
    assert flags.all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_pool_of_its_own(c):
    mark = c("mark", "int (int64_t, void *)")
    parallel_for(mark, 50_000, np.zeros(50_000, np.int64), n_jobs=3)
    child = os.fork()
    if child == 0:
        counts = np.zeros(50_000, np.int64)
        empty = pool.n_threads() == 0
        parallel_for(mark, 50_000, counts, n_jobs=3)
        os._exit(0 if empty and (counts == 1).all() else 1)
    assert os.waitpid(child, 0)[1] == 0
    np.dot(np.ones((256, 256)), np.ones((256, 256)))  # BLAS ended its threads at the fork: start them again


def test_n_jobs_within_a_share_of_the_cpus():
    token = cpu.enter_share(1)
    try:
        assert kernels._n_threads(None) == 1
        assert kernels._n_threads(-1) == 1
        assert kernels._n_threads(3) == 3
    finally:
        cpu.leave_share(token)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forks_while_loops_run(c):
    mark, is_over = c("mark", "int (int64_t, void *)"), threading.Event()

    def keep_running():
        while not is_over.is_set():
            parallel_for(mark, 50_000, np.zeros(50_000, np.int64), n_jobs=3)

    thread = threading.Thread(target=keep_running)
    thread.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                counts = np.zeros(50_000, np.int64)
                parallel_for(mark, 50_000, counts, n_jobs=3)
                os._exit(0 if (counts == 1).all() else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        is_over.set()
        thread.join()
    np.dot(np.ones((256, 256)), np.ones((256, 256)))  # BLAS ended its threads at the fork: start them again


def test_loops_inside_threads_keep_to_their_share(c, monkeypatch):
    meeting = threading.Barrier(2, timeout=30)  # so that two workers take part, and nobody else
    identify = c("identify", "int (int64_t, void *)")

    def task(_):
        meeting.wait()
        threads = np.zeros(100_000, np.int64)
        parallel_for(identify, len(threads), threads)
        return kernels._n_threads(None), pool.thread_limit(), len(set(threads.tolist()))

    monkeypatch.setattr(cpu, "cpu_count", lambda: 2)
    assert Parallel(2, "threading")(delayed(task)(i) for i in range(4)) == [(1, 1, 1)] * 4
    monkeypatch.setattr(cpu, "cpu_count", lambda: 8)
    for n_python, n_native, n_seen in Parallel(2, "threading")(delayed(task)(i) for i in range(4)):
        assert n_python == n_native == 4
        assert n_seen <= 4


def test_loops_inside_processes_keep_to_their_share(monkeypatch):
    def task():
        from fastpar import kernels
        from fastpar._core import pool

        return kernels._n_threads(None), pool.thread_limit()

    monkeypatch.setattr(cpu, "cpu_count", lambda: 8)
    for n_jobs, part in ((2, 4), (4, 2), (8, 1)):  # the pool is loaded in the first call, and told in the next
        assert set(Parallel(n_jobs, "processes", batch_size=1)(delayed(task)() for _ in range(8))) == {(part, part)}


def test_loops_of_a_process_keep_to_its_limit(python):
    code = """
from fastpar import cpu
cpu.cpu_count = lambda: 7
from fastpar._core import pool
print(pool.thread_limit())
"""
    assert python.out(code) == "7\n"


def test_a_long_batch_of_kernels_can_be_stopped(c):
    # All in one batch; were they run in one go, it would take 20 s.
    nap = c("nap_for", "double (double)")
    run = Parallel(2, "threading", return_as="generator", batch_size=20_000)(delayed(nap)(i) for i in range(20_000))
    start = time.monotonic()
    assert next(run) == 0.0
    run.close()
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("n_jobs", [1, 2, 3])
def test_tasks_of_parallel_may_be_kernels(c, n_jobs):
    fma3 = c("fma3", "double (double, double, double)")
    tasks = [(fma3, (i, 2.0, 0.5), {}) for i in range(3000)]
    tasks[1500:1500] = [(math.sqrt, (16,), {}), (c("itself", "double (int64_t)"), (7,), {})]
    expected = [function(*args) for function, args, _ in tasks]
    assert Parallel(n_jobs, "threading")(tasks) == expected
    assert Parallel(n_jobs, "threading")(delayed(kernel(LIBM.sqrt, "double (double)"))(i * i) for i in range(5)) == [
        0.0,
        1.0,
        2.0,
        3.0,
        4.0,
    ]


def test_a_wrong_argument_names_its_task(c):
    twice = c("twice", "double (double)")
    with pytest.raises(ctypes.ArgumentError) as caught:
        Parallel(2, "threading")(delayed(twice)("x" if i == 777 else i) for i in range(1000))
    assert "in task 777 of fastpar.Parallel" in caught.value.__notes__[0]


def test_a_kernel_does_not_travel():
    import pickle

    with pytest.raises(TypeError, match="address in this process"):
        pickle.dumps(from_ctypes())


def test_kernels_are_imported_when_they_are_used(python):
    assert python.out("import sys, fastpar; print('fastpar.kernels' in sys.modules)") == "False\n"
    assert python.out("import fastpar; print(fastpar.kernels.kernel.__name__)") == "kernel\n"


def test_the_extensions_leave_the_gil_off():
    if hasattr(sys, "_is_gil_enabled") and not sys._is_gil_enabled():
        assert kernel(LIBM.sqrt, "double (double)")(4.0) == 2.0
