from libc.stdint cimport int64_t, uint64_t

from fastpar._core.batching cimport BatchSizer
from fastpar._core.capi cimport fp_mutex, fp_parker, fp_queue
from fastpar._core.slots cimport Slots
from fastpar._core.source cimport Source
from fastpar._core.tasks cimport Batch


cdef uint64_t n_forks  # how often this process was forked off; written in the child of a fork, where it is alone


cdef enum Phase:
    FEEDING    # the source may hold more tasks
    DRAINING   # the source is exhausted; tasks are queued or running
    FINISHED   # every task has a result
    FAILED     # a task raised; what was queued is dropped
    CANCELLED  # the caller gave up; what was queued is dropped


cdef class Crew:
    # The workers of one run, as the run sees them. Called without any lock held.
    cdef bint needs_caller                            # they come, and are told, when the calling thread does it
    cdef void summon(self, Run run) noexcept          # by any thread: bring a worker to the seat reserved for it
    cdef bint takes_seat(self, Run run) noexcept      # by the calling thread: will it sit down there itself?


cdef class Run:
    # Set once, before the first worker sees the run:
    cdef readonly Py_ssize_t n_workers
    cdef uint64_t started_ns
    cdef Py_ssize_t pre_dispatch              # in batches; -1: all
    cdef bint times_tasks                     # stamp when the oldest missing result changes
    cdef Crew crew
    cdef fp_queue *queue                      # locks itself
    cdef uint64_t fork_generation
    # Touched by the calling thread only:
    cdef Source source
    cdef Py_ssize_t n_seen                    # completed tasks when the caller last looked
    cdef bint is_seated                       # a seat is reserved for the calling thread itself
    cdef object first_function                # of the first task read; None before
    cdef readonly bint is_source_broken       # it has raised
    cdef readonly bint is_source_slow         # the latest reading took long, and not for the number of tasks
    cdef readonly bint is_hungry              # after a pop: there is room in the window worth filling
    cdef public bint reports                  # the caller wants to look after every batch
    cdef public object failure_type           # results of this type count as failed; set before the first task is read
    # Written and read under `lock`:
    cdef fp_mutex lock
    cdef Phase phase_
    cdef BatchSizer sizer
    cdef Slots slots
    cdef Py_ssize_t n_total_                  # tasks in all; -1: unknown until the source is exhausted
    cdef Py_ssize_t n_pulled_                 # tasks read from the source and published
    cdef Py_ssize_t n_leased                  # tasks taken, and neither delivered, put back nor given up
    cdef Py_ssize_t n_batches_
    cdef Py_ssize_t n_failed_                 # results of `failure_type`
    cdef int64_t popped_ns                    # when a generator's latest result left, 0 if it had to be waited for
    cdef Py_ssize_t n_untimed                 # results that left since
    cdef Py_ssize_t n_swift                   # results that the reader took since it last kept one for long
    cdef bint caller_waits
    cdef object error
    cdef tuple failed_task
    cdef Py_ssize_t failed_index
    cdef int64_t busy_ns_                     # wall time inside tasks, summed over workers
    cdef int64_t cpu_ns_                      # CPU time of workers, as far as they have reported it
    # One permit for the calling thread: given by whoever clears `caller_waits`.
    cdef fp_parker caller

    # The calling thread's side.
    cpdef int pull(self, bint is_awaiting=*) except -1
    cpdef bint wait(self, int64_t timeout_ns=*) except -1

    # The workers' side.
    cdef bint take(self, Batch batch) noexcept
    cdef bint put_back(self, Batch batch, Py_ssize_t start) noexcept
    cdef void deliver(self, Batch batch, int64_t total_ns, int64_t longest_ns) noexcept
    cdef void finish(
        self, Batch batch, int64_t total_ns, int64_t longest_ns, int64_t overhead_ns, int64_t cpu_ns
    ) noexcept
    cdef void fail(self, Batch batch, Py_ssize_t i, object error) noexcept
    cdef void leave(self) noexcept
    cdef void lose_worker(self, object error) noexcept
    cdef bint is_stopped(self) noexcept nogil
    cdef bint has_tiny_tasks(self) noexcept

    # Its own. `_locked`: the caller holds the lock.
    cdef int _publish(self) except -1
    cdef int _add_slots(self, Py_ssize_t n) except -1
    cdef void _end_source(self) noexcept
    cdef int _check_fork(self) except -1
    cdef void _drop_queued(self) noexcept
    cdef void _fail_with(self, object error, Py_ssize_t index, tuple task) noexcept
    cdef bint _move_to_locked(self, Phase phase) noexcept
    cdef Py_ssize_t _room_locked(self) noexcept
    cdef Py_ssize_t _lot_locked(self) noexcept
    cdef bint _has_worthwhile_room_locked(self) noexcept
    cdef Py_ssize_t _n_left_locked(self) noexcept
    cdef bint _is_awaited(self) noexcept
    cdef bint _has_news_locked(self) noexcept
    cdef void _hand_over_locked(self, Batch batch, int64_t total_ns, int64_t longest_ns) noexcept
    cdef void _time_reader_locked(self, bint found) noexcept
    cdef void _unlock_and_wake(self) noexcept
