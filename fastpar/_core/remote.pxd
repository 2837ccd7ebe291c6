from libc.stdint cimport int64_t

from fastpar._core.dispatch cimport Crew, Run
from fastpar._core.tasks cimport Batch


cdef class RemoteCrew(Crew):
    cdef Py_ssize_t n_summoned
    cdef readonly set seats


cdef class Seat:
    cdef Run run
    cdef RemoteCrew crew
    cdef readonly Batch batch
    cdef public int64_t number    # of the batch, towards the worker that has it
    cdef public bint is_spoilt    # some results of the batch could not be read: none are taken any more

    cpdef bint take(self)
    cdef int top_up(self) except -1
    cpdef settle(self, list results, int64_t total_ns, int64_t longest_ns, int64_t overhead_ns)
    cdef int _store(self, list results) except -1


cpdef tuple columns(Batch batch)
cpdef bint is_plain(tuple columns)
