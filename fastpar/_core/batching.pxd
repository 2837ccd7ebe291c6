cimport cython
from libc.stdint cimport int64_t


@cython.final
cdef class BatchSizer:
    # Owner: one Run, which calls every method under its own lock; no method touches a Python object.
    cdef double prior_ns     # overhead of a batch as the engine declared it; anchors what is measured
    cdef double overhead_ns  # and as it was measured since
    cdef double tasks        # the last moments of work: so many tasks (a fraction, as history fades) ...
    cdef double work_ns      # ... took so long
    cdef double size         # tasks a batch, before the shrink near the end
    cdef double share        # tasks left for each worker, near the end; infinite until then
    cdef double max_size
    cdef double max_batch_ns
    cdef Py_ssize_t fixed    # the user's batch_size; 0: automatic

    cpdef Py_ssize_t next_size(self, Py_ssize_t n_left, Py_ssize_t n_workers) noexcept nogil
    cpdef Py_ssize_t current_size(self) noexcept nogil
    cpdef Py_ssize_t lot_size(self) noexcept nogil
    cpdef int64_t budget_ns(self) noexcept nogil
    cpdef bint outweighs_tasks(self) noexcept nogil
    cpdef void observe(self, Py_ssize_t n_tasks, int64_t total_ns, int64_t longest_ns) noexcept nogil
    cpdef void observe_overhead(self, int64_t elapsed_ns) noexcept nogil

    cdef double target_ns(self) noexcept nogil
    cdef double mean_ns(self) noexcept nogil
