# Parallel loops for Cython code, without OpenMP, an include directory or a link step:
#
#     from fastpar.kernels cimport fp_options, parallel_for, raise_outcome
#
# See docs/kernels.md for an example, and src_c/fastpar.h, which `fastpar.get_include()` leads to, for what each promises.

from fastpar._core.pool cimport (
    FP_AUTO,
    FP_DONE,
    FP_DYNAMIC,
    FP_EXHAUSTED,
    FP_FAILED,
    FP_GUIDED,
    FP_INVALID,
    FP_STATIC,
    FP_STOPPED,
    block_kernel,
    chunk_kernel,
    fp_block,
    fp_chunk,
    fp_failure,
    fp_options,
    fp_outcome,
    fp_reduction,
    fp_schedule,
    fp_scratch,
    fp_stop,
    index_kernel,
    is_stopping,
    parallel_for,
    parallel_for_blocks,
    parallel_for_chunks,
    parallel_reduce,
    poll_signals,
    raise_outcome,
    request_stop,
)
