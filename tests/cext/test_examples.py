"""The examples, and an extension that calls every declared function, built against the fastpar under test.

Where that is an installed one, as in CI, this is what a user's build sees: neither the sources nor an -fopenmp.
"""

import os
import shutil
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

EVERYTHING = """
from libc.stdint cimport int64_t
from libc.string cimport memset
from fastpar cimport kernels
from fastpar.kernels cimport (
    FP_DONE, FP_DYNAMIC, FP_EXHAUSTED, FP_FAILED, FP_INVALID, FP_STOPPED, fp_block, fp_chunk, fp_failure, fp_options,
    fp_outcome, fp_reduction, fp_scratch, fp_stop, is_stopping, parallel_for, parallel_for_blocks, parallel_for_chunks,
    parallel_reduce, poll_signals, raise_outcome, request_stop)

cdef int by_index(int64_t i, void *counts) noexcept nogil:
    (<int64_t *>counts)[i] += 1
    return 0

cdef int by_chunk(fp_chunk *chunk, void *counts) noexcept nogil:
    cdef int64_t i
    for i in range(chunk.begin, chunk.end):
        (<int64_t *>counts)[i] += 1
        (<int64_t *>chunk.scratch)[0] += 1
    return 0

cdef int by_block(const fp_block *block, void *counts) noexcept nogil:
    cdef int64_t i
    for i in range(block.row_begin, block.row_end):
        (<int64_t *>counts)[i] += block.column_end - block.column_begin
    return 0

cdef int fail(int64_t i, void *context) noexcept nogil:
    return 4 if i == 30 else 0

cdef int stop_at_once(int64_t i, void *stop) noexcept nogil:
    request_stop(<fp_stop *>stop)
    return 0 if is_stopping() else 9

cdef int count(void *total, int64_t begin, int64_t end, void *context) noexcept nogil:
    (<int64_t *>total)[0] += end - begin
    return 0

cdef void add(void *left, const void *right, void *context) noexcept nogil:
    (<int64_t *>left)[0] += (<const int64_t *>right)[0]

cdef void clear(void *scratch, void *counts) noexcept nogil:
    (<int64_t *>scratch)[0] = 0

cdef void merge(void *scratch, void *counts) noexcept nogil:
    (<int64_t *>counts)[1000] += (<int64_t *>scratch)[0]

def run():
    cdef int64_t counts[1001]
    cdef int64_t total = -1, i
    cdef fp_options options
    cdef fp_failure failure
    cdef fp_scratch scratch
    cdef fp_reduction reduction
    cdef fp_stop stop
    memset(counts, 0, sizeof(counts))
    memset(&options, 0, sizeof(options))
    memset(&reduction, 0, sizeof(reduction))
    scratch.n_bytes, scratch.init, scratch.merge, scratch.free = 8, clear, merge, NULL
    options.n_threads, options.schedule, options.grain, options.poll = 3, FP_DYNAMIC, 7, poll_signals
    assert parallel_for(1000, by_index, counts, &options, NULL) == FP_DONE
    options.scratch = &scratch
    assert parallel_for_chunks(1000, by_chunk, counts, &options, NULL) == FP_DONE
    options.scratch = NULL
    assert parallel_for_blocks(1000, 5, 13, 2, by_block, counts, &options, NULL) == FP_DONE
    for i in range(1000):
        assert counts[i] == 7
    assert counts[1000] == 1000
    reduction.n_bytes, reduction.add, reduction.merge = 8, count, add
    assert parallel_reduce(1000, &reduction, NULL, &total, &options, &failure) == FP_DONE and total == 1000
    assert parallel_for(1000, fail, NULL, NULL, &failure) == FP_FAILED and failure.index == 30 and failure.code == 4
    stop.word = 0
    options.stop = &stop
    assert parallel_for(1000, stop_at_once, &stop, &options, NULL) == FP_STOPPED
    assert parallel_for(-1, by_index, counts, NULL, NULL) == FP_INVALID
    raise_outcome(FP_DONE, NULL)
    try:
        raise_outcome(FP_FAILED, &failure)
    except Exception as error:
        return type(error).__name__, error.index, error.code
"""

#: A loop that Ctrl-C reaches, as the documentation shows it, and kernels that raise, as it forbids.
RAISING = """
from libc.signal cimport SIGINT
from libc.stdint cimport int64_t
from libc.string cimport memset
from posix.signal cimport kill
from posix.unistd cimport getpid, usleep
from fastpar.kernels cimport fp_failure, fp_options, fp_outcome, parallel_for, poll_signals, raise_outcome

cdef int interrupt(int64_t i, void *status) noexcept nogil:
    if i == 0:
        kill(getpid(), SIGINT)
    usleep(60000)
    return (<int *>status)[0]

def loop(int status):
    cdef fp_options options
    cdef fp_failure failure
    cdef fp_outcome outcome
    memset(&options, 0, sizeof(options))
    options.n_threads, options.poll = 1, poll_signals
    with nogil:
        outcome = parallel_for(1000, interrupt, &status, &options, &failure)
    raise_outcome(outcome, &failure)

cdef api double inverse(double x) nogil:
    return 1.0 / x

cdef api double ratio(double x, void *data) nogil:
    return 1.0 / x

cdef api int check(int64_t i) except -1 nogil:
    if i == 500:
        with gil:
            raise IndexError(i)
    return 0

cdef api double term(int64_t i) except? -1 nogil:
    return 1.0 / (500 - i)
"""
RAISING_RUN = """
import numpy as np, raising
from fastpar import Parallel, delayed
from fastpar.kernels import kernel, kernel_map, parallel_for, parallel_reduce

def error_of(call):
    try:
        return call()
    except BaseException as error:
        return type(error).__name__, getattr(error, "__notes__", [""])[0][:22]

inverse = kernel("raising:inverse")
values = np.linspace(-1, 1, 1001)
values[500] = 0
tasks = [delayed(inverse)(x) for x in [4.0, -1.0, *range(-999, 1000)]]
print(error_of(lambda: raising.loop(0)))
print(error_of(lambda: raising.loop(1)))
print(error_of(lambda: kernel_map(inverse, values, n_jobs=1)))
print(error_of(lambda: parallel_for("raising:check", 1000, n_jobs=1)))
print(error_of(lambda: parallel_reduce("raising:term", 1000, n_jobs=1)))
print(error_of(lambda: inverse(0.0)), inverse(4.0))
print(error_of(lambda: kernel("raising:ratio")(0.0)))
print(error_of(lambda: Parallel(2, "threading")(tasks)))
print(error_of(lambda: Parallel(1)(tasks)))
print(Parallel(2, "threading")(tasks[:5]))
"""
RAISED = """\
('KeyboardInterrupt', '')
('KeyboardInterrupt', '')
('ZeroDivisionError', '')
('IndexError', '')
('ZeroDivisionError', '')
('ZeroDivisionError', '') 0.25
('ZeroDivisionError', '')
('ZeroDivisionError', 'in task 1001 of fastpa')
('ZeroDivisionError', 'in task 1001 of fastpa')
"""

SETUP = """
from pathlib import Path
from Cython.Build import cythonize
from setuptools import Extension, setup
sources = [str(path) for path in Path().glob("*.pyx")]
setup(name="everything", py_modules=[], ext_modules=cythonize([Extension(Path(p).stem, [p]) for p in sources],
      compiler_directives={"language_level": 3, "freethreading_compatible": True}))
"""


def build(python, directory):
    python.directory = directory
    done = python.run("setup.py", "-q", "build_ext", "--inplace", timeout_s=110)
    assert done.returncode == 0, done.stdout + done.stderr


def build_module(python, directory, name, source):
    pytest.importorskip("Cython")
    (directory / f"{name}.pyx").write_text(source)
    (directory / "setup.py").write_text(SETUP)
    build(python, directory)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "program"), [("cython_loops", "test_loops.py"), ("c_loops", "test_mandelbrot.py")])
def test_an_example(name, program, python, tmp_path):
    if name == "cython_loops":
        pytest.importorskip("Cython")
    shutil.copytree(EXAMPLES / name, tmp_path / name)
    build(python, tmp_path / name)
    done = python.run(program)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


@pytest.mark.slow
def test_the_numba_example(python):
    pytest.importorskip("numba")
    done = python.run(os.fspath(EXAMPLES / "numba_kernel.py"))
    assert done.stdout == "longest: 350 steps, from 77031\n", done.stderr


@pytest.mark.slow
def test_every_declared_function_can_be_called(python, tmp_path):
    build_module(python, tmp_path, "everything", EVERYTHING)
    assert python.out("import everything; print(everything.run())") == "('KernelError', 30, 4)\n"


@pytest.mark.slow
def test_exceptions_arrive_as_what_they_are(python, tmp_path):
    build_module(python, tmp_path, "raising", RAISING)
    assert python.out(RAISING_RUN) == RAISED + f"{[0.25, -1.0, *(1 / x for x in range(-999, -996))]}\n"
