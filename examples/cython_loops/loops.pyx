# cython: boundscheck=False, wraparound=False
"""Two loops over compiled code: distances of points from an origin, and their sum."""

from libc.math cimport sqrt
from libc.stdint cimport int64_t
from libc.string cimport memset

import numpy as np

from fastpar.kernels cimport (
    fp_chunk,
    fp_failure,
    fp_options,
    fp_outcome,
    fp_reduction,
    parallel_for_chunks,
    parallel_reduce,
    poll_signals,
    raise_outcome,
)


cdef struct Points:
    const double *x
    const double *y
    double *distance


# The body of the loop: a piece of the range. Another status than 0 stops the loop and becomes a KernelError.
cdef int measure(fp_chunk *chunk, void *context) noexcept nogil:
    cdef Points *points = <Points *>context
    cdef int64_t i
    for i in range(chunk.begin, chunk.end):
        if points.x[i] != points.x[i]:
            chunk.begin = i
            return 1
        points.distance[i] = sqrt(points.x[i] * points.x[i] + points.y[i] * points.y[i])
    return 0


def distances(double[::1] x, double[::1] y):
    """Distance of each point from the origin."""
    cdef double[::1] out = np.empty(len(x))
    cdef Points points
    cdef fp_options options
    cdef fp_failure failure
    cdef fp_outcome outcome
    if len(x) != len(y):
        raise ValueError("x and y differ in length")
    if len(x) == 0:
        return np.asarray(out)
    points.x, points.y, points.distance = &x[0], &y[0], &out[0]
    memset(&options, 0, sizeof(options))  # all defaults
    options.poll = poll_signals           # Ctrl-C stops the loop
    with nogil:
        outcome = parallel_for_chunks(len(x), measure, &points, &options, &failure)
    raise_outcome(outcome, &failure)
    return np.asarray(out)


cdef int add_block(void *total, int64_t begin, int64_t end, void *values) noexcept nogil:
    cdef int64_t i
    for i in range(begin, end):
        (<double *>total)[0] += (<double *>values)[i]
    return 0


cdef void add_totals(void *left, const void *right, void *values) noexcept nogil:
    (<double *>left)[0] += (<const double *>right)[0]


def total(double[::1] values):
    """The sum, the same to the last bit at any number of threads."""
    cdef fp_reduction reduction
    cdef fp_outcome outcome
    cdef fp_failure failure
    cdef double result = 0
    if len(values) == 0:
        return 0.0
    memset(&reduction, 0, sizeof(reduction))
    reduction.n_bytes = sizeof(double)
    reduction.add = add_block
    reduction.merge = add_totals
    with nogil:
        outcome = parallel_reduce(len(values), &reduction, &values[0], &result, NULL, &failure)
    raise_outcome(outcome, &failure)
    return result
