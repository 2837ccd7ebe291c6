# Loops over compiled code on the native pool, for Cython: `from fastpar.kernels cimport parallel_for, ...` gets them from
# here. Neither an include directory nor a library is needed: the functions are looked up in the module when the consumer is
# imported. All may be called without the GIL and from any thread. What they promise is said in src_c/fastpar.h.

from libc.stdint cimport int64_t, uint32_t


ctypedef enum fp_outcome:
    FP_DONE       # every index was handled
    FP_FAILED     # a kernel returned something else than 0: see the fp_failure
    FP_STOPPED    # the stop token asked for it
    FP_EXHAUSTED  # no memory for scratch or accumulators
    FP_INVALID    # an argument is wrong; nothing was done

ctypedef enum fp_schedule:
    FP_AUTO       # pieces of about 20 us, measured as the loop runs
    FP_STATIC     # one piece a thread
    FP_DYNAMIC    # pieces of `grain` indices
    FP_GUIDED     # a quarter of what a thread has left, at least `grain`

ctypedef struct fp_stop:
    uint32_t word

ctypedef struct fp_scratch:
    size_t n_bytes
    void (*init)(void *scratch, void *context) noexcept nogil
    void (*merge)(void *scratch, void *context) noexcept nogil
    void (*free)(void *scratch, void *context) noexcept nogil

ctypedef struct fp_options:
    uint32_t n_threads
    fp_schedule schedule
    int64_t grain
    fp_stop *stop
    int (*poll)(void *context) noexcept nogil
    void *poll_context
    const fp_scratch *scratch
    const void *key

ctypedef struct fp_failure:
    int64_t index
    int code

ctypedef struct fp_chunk:
    int64_t begin
    int64_t end
    void *scratch
    uint32_t member

ctypedef struct fp_block:
    int64_t row_begin
    int64_t row_end
    int64_t column_begin
    int64_t column_end
    void *scratch
    uint32_t member

ctypedef struct fp_reduction:
    size_t n_bytes
    void (*init)(void *accumulator, void *context) noexcept nogil
    int (*add)(void *accumulator, int64_t begin, int64_t end, void *context) noexcept nogil
    void (*merge)(void *left, const void *right, void *context) noexcept nogil
    void (*free)(void *accumulator, void *context) noexcept nogil
    int64_t block

# Kernels: 0 to go on; anything else stops the loop within a piece of each thread.
ctypedef int (*index_kernel)(int64_t index, void *context) noexcept nogil
ctypedef int (*chunk_kernel)(fp_chunk *chunk, void *context) noexcept nogil
ctypedef int (*block_kernel)(const fp_block *block, void *context) noexcept nogil

cdef fp_outcome parallel_for(
    int64_t n, index_kernel kernel, void *context, const fp_options *options, fp_failure *failure
) noexcept nogil
cdef fp_outcome parallel_for_chunks(
    int64_t n, chunk_kernel kernel, void *context, const fp_options *options, fp_failure *failure
) noexcept nogil
cdef fp_outcome parallel_for_blocks(
    int64_t n_rows, int64_t n_columns, int64_t block_rows, int64_t block_columns, block_kernel kernel, void *context,
    const fp_options *options, fp_failure *failure
) noexcept nogil
cdef fp_outcome parallel_reduce(
    int64_t n, const fp_reduction *reduction, void *context, void *result, const fp_options *options, fp_failure *failure
) noexcept nogil
cdef void request_stop(fp_stop *stop) noexcept nogil
cdef bint is_stopping() noexcept nogil

# Raises the exception that an outcome stands for, KernelError, MemoryError, ...; does nothing for FP_DONE. One that is set
# already, by a signal handler that `poll_signals` ran, is raised instead, whatever the outcome.
cdef int raise_outcome(fp_outcome outcome, const fp_failure *failure) except -1

# For loops that a Python thread runs without the GIL: the options' `poll`, so that Ctrl-C reaches them.
cdef int poll_signals(void *context) noexcept nogil
