from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t


cdef enum Keep:
    KEEP_LIST      # every result until the end, in the order of the tasks
    KEEP_ORDER     # results until they are consumed, in the order of the tasks
    KEEP_ARRIVAL   # results until they are consumed, in the order in which they arrive


cdef class Slots:
    # Owner: one Run, under its lock. The result with key k, its place in the order kept, lies at items[k - base].
    cdef readonly Keep keep
    cdef list items
    cdef Py_ssize_t base
    cdef Py_ssize_t n_stored
    cdef Py_ssize_t n_consumed    # keys below were consumed; 0 for a list
    cdef Py_ssize_t frontier      # key of the oldest missing result, as of the latest `advance_frontier`
    cdef int64_t frontier_ns      # since when

    cdef int add(self, Py_ssize_t n) except -1
    cdef void store(self, uint64_t index, PyObject *result) noexcept
    cdef bint has_next(self) noexcept
    cdef PyObject *pop(self) noexcept
    cdef void cut_off(self, Py_ssize_t n) noexcept
    cdef void advance_frontier(self) noexcept
    cdef list take_all(self, list empty)
    cdef dict take_present(self)
