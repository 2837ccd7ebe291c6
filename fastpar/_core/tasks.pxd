from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from fastpar._core.capi cimport fp_task


cdef class Batch:
    # Owner: the worker that took it; nobody else touches it. 0 <= n_delivered <= n_done <= n <= capacity.
    cdef fp_task *tasks         # one reference to each of tasks[:n]
    cdef PyObject **results     # one reference to each of results[n_delivered:n_done]
    cdef int64_t budget_ns      # past it the unstarted rest goes back
    cdef readonly Py_ssize_t capacity
    cdef readonly Py_ssize_t n
    cdef readonly Py_ssize_t n_done
    cdef readonly Py_ssize_t n_delivered

    cdef Py_ssize_t make_room(self, Py_ssize_t n) noexcept
    cdef tuple task(self, Py_ssize_t i)
    cdef void set_result(self, Py_ssize_t i, object result) noexcept
    cdef void clear(self) noexcept


cpdef tuple as_task(object item, Py_ssize_t index)
