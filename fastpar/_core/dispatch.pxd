from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastpar._core.batching cimport BatchSizer
from fastpar._core.capi cimport fp_mutex, fp_parker, fp_queue, fp_task


cdef enum Keep:
    KEEP_LIST      # every result until the end, in the order of the tasks
    KEEP_ORDER     # results until they are consumed, in the order of the tasks
    KEEP_ARRIVAL   # results until they are consumed, in the order in which they arrive


cdef enum Phase:
    FEEDING    # the source may hold more tasks
    DRAINING   # the source is exhausted; tasks are queued or running
    FINISHED   # every task has a result
    FAILED     # a task raised; what was queued is dropped
    CANCELLED  # the caller gave up; what was queued is dropped


cdef class Crew:
    # The workers of one run, as the run sees them. Called without any lock held.
    cdef void summon(self, Run run) noexcept          # by any thread: bring a worker to the seat reserved for it
    cdef bint takes_seat(self, Run run) noexcept      # by the calling thread: will it sit down there itself?


cdef class Batch:
    # Owner: the worker that took it; nobody else touches it. 0 <= n_delivered <= n_done <= n <= capacity.
    cdef fp_task *tasks         # one reference to each of tasks[:n]
    cdef PyObject **results     # one reference to each of results[n_delivered:n_done]
    cdef int64_t budget_ns      # past it the unstarted rest goes back
    cdef readonly Py_ssize_t capacity
    cdef readonly Py_ssize_t n
    cdef readonly Py_ssize_t n_done
    cdef readonly Py_ssize_t n_delivered

    cdef int reserve(self, Py_ssize_t n) except -1
    cdef tuple task(self, Py_ssize_t i)
    cdef void set_result(self, Py_ssize_t i, object result) noexcept
    cdef void clear(self) noexcept


cdef class Run:
    # Set once, before the first worker sees the run:
    cdef readonly Keep keep
    cdef readonly Py_ssize_t n_workers
    cdef readonly Py_ssize_t n_total          # -1: unknown until the source is exhausted
    cdef readonly int64_t started_ns
    cdef Py_ssize_t pre_dispatch              # in batches; -1: all
    cdef bint times_tasks                     # stamp when the oldest missing result changes
    cdef Crew crew
    cdef fp_queue *queue                      # locks itself
    cdef uint64_t fork_generation
    # Touched by the calling thread only:
    cdef object source
    cdef fp_task *pulled
    cdef Py_ssize_t pulled_capacity
    cdef Py_ssize_t n_seen                    # completed tasks when the caller last looked
    cdef bint is_seated                       # a seat is reserved for the calling thread itself
    cdef readonly bint is_hungry              # after a pop: there is room in the window worth filling
    cdef public bint reports                  # the caller wants to look after every batch
    # Written and read under `lock`:
    cdef fp_mutex lock
    cdef Phase phase_
    cdef BatchSizer sizer
    cdef list slots                           # results, at key - base
    cdef Py_ssize_t base
    cdef Py_ssize_t frontier                  # key of the oldest result that is missing (times_tasks only)
    cdef int64_t frontier_ns
    cdef readonly Py_ssize_t n_pulled
    cdef readonly Py_ssize_t n_completed
    cdef readonly Py_ssize_t n_consumed
    cdef Py_ssize_t n_leased                  # tasks taken, and neither delivered, put back nor given up
    cdef readonly Py_ssize_t n_batches
    cdef bint caller_waits
    cdef object error
    cdef tuple failed_task
    cdef Py_ssize_t failed_index
    cdef readonly int64_t busy_ns             # wall time inside tasks, summed over workers
    cdef readonly int64_t cpu_ns              # CPU time of workers, as far as they have reported it
    # One permit for the calling thread: given by whoever clears `caller_waits`.
    cdef fp_parker caller

    # The workers' side.
    cdef bint take(self, Batch batch) except -1
    cdef int put_back(self, Batch batch, Py_ssize_t start) except -1
    cdef void deliver(self, Batch batch, int64_t total_ns, int64_t longest_ns) noexcept
    cdef void finish(self, Batch batch, int64_t total_ns, int64_t longest_ns, int64_t overhead_ns) noexcept
    cdef void fail(self, Batch batch, Py_ssize_t i, object error) noexcept
    cdef void lose_worker(self, object error) noexcept
    cdef void note_cpu(self, int64_t cpu_ns) noexcept
    cdef bint is_stopped(self) noexcept nogil
    cdef bint has_tiny_tasks(self) noexcept

    # Its own. `_locked`: the caller holds the lock.
    cpdef int pull(self) except -1
    cpdef bint wait(self, int64_t timeout_ns=*) except -1
    cdef Py_ssize_t _pull_chunk(self, Py_ssize_t limit) except -1
    cdef int _keep_task(self, Py_ssize_t i, object item) except -1
    cdef int _reserve(self, Py_ssize_t n) except -1
    cdef void _release(self, Py_ssize_t n) noexcept
    cdef int _publish(self, Py_ssize_t n) except -1
    cdef int _add_slots(self, Py_ssize_t n) except -1
    cdef void _end_source(self, Py_ssize_t n_unpublished) noexcept
    cdef int _check_fork(self) except -1
    cdef void _drop_queued(self) noexcept
    cdef void _fail_with(self, object error, Py_ssize_t index, tuple task) noexcept
    cdef bint _move_to_locked(self, Phase phase) noexcept
    cdef Py_ssize_t _room_locked(self) noexcept
    cdef Py_ssize_t _worthwhile_room_locked(self) noexcept
    cdef Py_ssize_t _n_left_locked(self) noexcept
    cdef bint _has_news_locked(self) noexcept
    cdef void _hand_over_locked(self, Batch batch, int64_t total_ns, int64_t longest_ns) noexcept
    cdef void _store_locked(self, uint64_t index, PyObject *result) noexcept
    cdef void _vacate_locked(self, Py_ssize_t place) noexcept
    cdef void _advance_frontier_locked(self) noexcept
    cdef void _unlock_and_wake(self) noexcept


cpdef tuple as_task(object item, Py_ssize_t index)
