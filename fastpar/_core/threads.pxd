from fastpar._core.capi cimport fp_mutex, fp_parker
from fastpar._core.dispatch cimport Batch, Crew, Run


# Runs tasks of a batch from `first` on whose function is a compiled kernel, `n_most` of them, one after the other without
# the GIL, and sets their results; how many they were, 0 when the ordinary call must see to the first. `_core.kernel` puts
# itself here when it is imported: programs without kernels never load it.
ctypedef Py_ssize_t (*run_kernels_function)(Batch batch, Py_ssize_t first, Py_ssize_t n_most) except -1
cdef type kernel_type
cdef run_kernels_function run_kernels


cdef class Worker:
    # Owner: the thread it stands for, except where the line says otherwise.
    cdef object thread     # set before the thread starts
    cdef Batch batch       # kept from run to run
    cdef Run run           # the assignment, from `assign` to `_arrive`; under the pool's lock
    cdef fp_parker parker  # permit: given by whoever took the worker off the idle list


cdef class ThreadPool:
    # Each under `lock`. A worker is on one of the lists, or serves a run.
    cdef fp_mutex lock
    cdef list idle         # parked; the last to come is the first to go, since its caches are warm
    cdef list coming       # summoned to a run, and not there yet
    cdef bint is_closed    # who comes home goes on
    cdef object numbers    # of threads, for their names; advanced in C, so atomically
    cdef object tiny_function  # weak reference to the function of the latest call, if its tasks were tiny

    cdef bint expects_tiny(self, object function) noexcept
    cdef int remember(self, object function, bint tiny) except -1

    cdef void assign(self, Run run) noexcept
    cdef Worker _call_idle(self, Run run)
    cdef Run _divert_late(self, Run run)
    cdef int _start(self, Run run) except -1
    cdef Run _arrive(self, Worker worker)
    cdef bint _park(self, Worker worker) except -1


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
