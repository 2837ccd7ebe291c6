from libc.stdint cimport uint64_t

from fastpar._core.capi cimport fp_task


cdef class Source:
    # Owner: the thread that calls Parallel; nobody else touches it.
    cdef object iterator
    cdef fp_task *tasks           # one reference to each of tasks[:n]
    cdef Py_ssize_t n             # read, and not yet handed on
    cdef Py_ssize_t capacity
    cdef bint is_exhausted

    cdef int read(self, Py_ssize_t limit, uint64_t first_index, bint is_patient) except -1
    cdef int keep(self, object item, uint64_t index) except -1
    cdef void hand_on(self) noexcept
    cdef void drop(self) noexcept
