from fastpar._core.capi cimport fp_mutex, fp_parker
from fastpar._core.dispatch cimport Batch, Crew, Run


cdef class Worker:
    # Owner: the thread it stands for, except where the line says otherwise.
    cdef object thread
    cdef Batch batch       # kept for the next run
    cdef Run run           # written by ThreadPool.assign before the permit, or before the thread starts
    cdef Team team         # the same
    cdef fp_parker parker  # permit: given by ThreadPool.assign or .close, after taking the worker off the idle list


cdef class ThreadPool:
    cdef fp_mutex lock
    cdef list idle         # under lock; the last to come is the first to go, since its caches are warm
    cdef bint is_closed    # under lock
    cdef Py_ssize_t n_started

    cdef void assign(self, Run run, Team team) noexcept
    cdef bint park(self, Worker worker) except -1
    cdef int _start(self, Run run, Team team) except -1


cdef class Team(Crew):
    cdef ThreadPool pool      # constant, as the next three
    cdef object context
    cdef object enter
    cdef Py_ssize_t n_workers
    cdef bint caller_helps
    cdef Batch batch          # the calling thread's
    cdef fp_mutex lock
    cdef Py_ssize_t n_joined  # under lock

    cdef Py_ssize_t next_rank(self) noexcept
    cdef int work(self, Run run, Worker worker) except -1
    cdef int help(self, Run run) except -1
