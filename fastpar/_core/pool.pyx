"""The native pool of this process: its one home, its function table for C, its functions for Cython.

Owns: the copy of the C core that has the pool (no other module links it), the capsule `_c_api`, and what an outcome means
as an exception. Not its job: kernels as Python objects (`kernels`), and what a loop is (`src_c`). Nothing here needs the
GIL but `raise_outcome` and `poll_signals`; all of it holds without one, on free-threaded interpreters.
"""

import sys

from fastpar import _core
from fastpar.errors import KernelError

from cpython.exc cimport PyErr_Occurred
from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int64_t, uint32_t

cdef extern from "Python.h":
    int PyErr_CheckSignals() noexcept  # what it sets is not for us to handle: see poll_signals

cdef extern from *:
    """
    #define FP_CORE
    """

cdef extern from "fastpar.h" nogil:
    # The same types once more, as the C core calls them: their layouts are compared below.
    ctypedef struct c_options "fp_options":
        pass
    ctypedef struct c_failure "fp_failure":
        pass
    ctypedef struct c_reduction "fp_reduction":
        pass
    ctypedef struct c_chunk "fp_chunk":
        pass
    ctypedef struct c_block "fp_block":
        pass
    ctypedef struct c_stop "fp_stop":
        pass
    ctypedef struct c_scratch "fp_scratch":
        pass
    ctypedef struct fp_pool:
        pass
    ctypedef int (*c_index_fn "fp_index_fn")(int64_t, void *) noexcept nogil
    ctypedef int (*c_chunk_fn "fp_chunk_fn")(c_chunk *, void *) noexcept nogil
    ctypedef int (*c_block_fn "fp_block_fn")(const c_block *, void *) noexcept nogil
    int fp_parallel_for(fp_pool *, int64_t, c_index_fn, void *, const c_options *, c_failure *) noexcept
    int fp_parallel_for_chunks(fp_pool *, int64_t, c_chunk_fn, void *, const c_options *, c_failure *) noexcept
    int fp_parallel_for_blocks(
        fp_pool *, int64_t, int64_t, int64_t, int64_t, c_block_fn, void *, const c_options *, c_failure *
    ) noexcept
    int fp_parallel_reduce(
        fp_pool *, int64_t, const c_reduction *, void *, void *, const c_options *, c_failure *
    ) noexcept
    void fp_stop_request(c_stop *) noexcept
    bint fp_is_stopping() noexcept
    uint32_t fp_thread_limit() noexcept
    uint32_t fp_set_thread_limit(uint32_t) noexcept
    void fp_pool_rest(fp_pool *) noexcept
    uint32_t fp_pool_n_threads(const fp_pool *) noexcept

cdef extern from "fp_for.h" nogil:
    fp_pool *fp_pool_shared() noexcept
    void fp_set_process_limit(uint32_t) noexcept

cdef extern from *:
    """
    static const fp_table fastpar_table = {
        FP_VERSION,
        fp_parallel_for,
        fp_parallel_for_chunks,
        fp_parallel_for_blocks,
        fp_parallel_reduce,
        fp_stop_request,
        fp_stop_requested,
        fp_is_stopping,
        fp_thread_limit,
        fp_set_thread_limit,
        fp_pool_new,
        fp_pool_free,
        fp_pool_rest,
        fp_pool_n_threads,
    };
    """
    const void *fastpar_table
    const char *FP_CAPSULE
    int FP_VERSION

#: The function table, as `fp_import` of fastpar.h finds it.
_c_api = PyCapsule_New(<void *>&fastpar_table, FP_CAPSULE, NULL)
C_API_VERSION = FP_VERSION

if (
    sizeof(c_options) != sizeof(fp_options) or sizeof(c_failure) != sizeof(fp_failure)
    or sizeof(c_reduction) != sizeof(fp_reduction) or sizeof(c_chunk) != sizeof(fp_chunk)
    or sizeof(c_block) != sizeof(fp_block) or sizeof(c_scratch) != sizeof(fp_scratch)
):
    raise ImportError("pool.pxd and fastpar.h declare different structs: this build of fastpar is broken")


cdef fp_outcome parallel_for(
    int64_t n, index_kernel kernel, void *context, const fp_options *options, fp_failure *failure
) noexcept nogil:
    return <fp_outcome>fp_parallel_for(NULL, n, kernel, context, <const c_options *>options, <c_failure *>failure)


cdef fp_outcome parallel_for_chunks(
    int64_t n, chunk_kernel kernel, void *context, const fp_options *options, fp_failure *failure
) noexcept nogil:
    return <fp_outcome>fp_parallel_for_chunks(
        NULL, n, <c_chunk_fn>kernel, context, <const c_options *>options, <c_failure *>failure
    )


cdef fp_outcome parallel_for_blocks(
    int64_t n_rows, int64_t n_columns, int64_t block_rows, int64_t block_columns, block_kernel kernel, void *context,
    const fp_options *options, fp_failure *failure
) noexcept nogil:
    return <fp_outcome>fp_parallel_for_blocks(
        NULL, n_rows, n_columns, block_rows, block_columns, <c_block_fn>kernel, context,
        <const c_options *>options, <c_failure *>failure
    )


cdef fp_outcome parallel_reduce(
    int64_t n, const fp_reduction *reduction, void *context, void *result, const fp_options *options, fp_failure *failure
) noexcept nogil:
    return <fp_outcome>fp_parallel_reduce(
        NULL, n, <const c_reduction *>reduction, context, result, <const c_options *>options, <c_failure *>failure
    )


cdef void request_stop(fp_stop *stop) noexcept nogil:
    fp_stop_request(<c_stop *>stop)


cdef bint is_stopping() noexcept nogil:
    return fp_is_stopping()


cdef int raise_outcome(fp_outcome outcome, const fp_failure *failure) except -1:
    if PyErr_Occurred():
        return -1  # a signal handler's, KeyboardInterrupt above all, or a kernel's that is not noexcept: nothing hides it
    if outcome == FP_FAILED:
        raise KernelError(failure.index, failure.code)
    if outcome == FP_EXHAUSTED:
        raise MemoryError("no memory for the scratch or the accumulators of a parallel loop")
    if outcome == FP_INVALID:
        raise ValueError("a parallel loop was given a negative range or grain, or an unknown schedule")
    if outcome == FP_STOPPED:
        raise RuntimeError("the loop was stopped")
    return 0


cdef int poll_signals(void *context) noexcept nogil:
    """A loop's `poll`: runs Python's signal handlers, where this is the main thread. Their exception stays set."""
    with gil:
        if PyErr_Occurred():
            return -1  # left by a kernel that is not noexcept: no handler may run on top of it, and the rest is in vain
        return PyErr_CheckSignals()


def n_threads():
    """Threads of the pool, beside those that call it."""
    return fp_pool_n_threads(fp_pool_shared())


def rest():
    """End the pool's threads, which must be idle; they start again when they are needed."""
    cdef fp_pool *pool = fp_pool_shared()
    with nogil:
        fp_pool_rest(pool)


def thread_limit():
    """How many threads a loop in the calling thread may use that names no number."""
    return fp_thread_limit()


def set_thread_limit(uint32_t n_threads):
    """Set `thread_limit` in the calling thread; 0: to that of the process. What was set before."""
    return fp_set_thread_limit(n_threads)


def set_process_limit(uint32_t n_threads):
    """Set `thread_limit` in all threads that have none of their own."""
    fp_set_process_limit(n_threads)


if _core.when_pool_is_loaded is not None:
    _core.when_pool_is_loaded(sys.modules[__name__])
