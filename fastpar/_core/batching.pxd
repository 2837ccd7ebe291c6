from libc.stdint cimport int64_t


cdef class BatchSizer:
    # Owner: one Run, which calls every method under its own lock; no method touches a Python object.
    cdef double overhead_ns
    cdef double mean_ns
    cdef double size
    cdef Py_ssize_t fixed

    cdef Py_ssize_t next_size(self, Py_ssize_t n_left, Py_ssize_t n_workers) noexcept nogil
    cdef int64_t budget_ns(self) noexcept nogil
    cdef void observe(self, Py_ssize_t n_tasks, int64_t total_ns, int64_t longest_ns) noexcept nogil
    cdef void observe_overhead(self, int64_t elapsed_ns) noexcept nogil
