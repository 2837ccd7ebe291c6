"""`Run`: all the state of one call, from the user's iterable to the results.

Owns: the source, the window (how far ahead of finished work the source is read), the queue of ready tasks, the batch
size, the result slots, the first error, the counters and the phase. It is a monitor: state changes inside its methods
only.

Threads: the *calling thread* alone reads the source, waits and consumes results (`pull`, `wait`, `pop`, ...); any
number of *workers* take, deliver, put back and fail; anyone may ask. `dispatch.pxd` says for each field who may touch
it under what.

Sections under `Run.lock` are short, never wait, never run Python code and never leave the interpreter's attached
state: no iterator is advanced, no object released (but a placeholder), no collectable object made inside them. Hence
a thread may hold the GIL while it waits for the lock, and the same code holds on free-threaded interpreters.

Not its job: where workers come from (`Crew`), what they do with a task (`threads`), what users see (`parallel`).

Long because it is one monitor: whoever changes a phase or a lock section wants to see them all.
"""

import os
from collections import namedtuple

from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastpar._core.batching cimport BatchSizer
from fastpar._core.capi cimport (
    FP_NO_MEMORY,
    FP_OK,
    fp_check_n_live,
    fp_mutex_init,
    fp_mutex_lock,
    fp_mutex_unlock,
    fp_os_clock_ns,
    fp_park,
    fp_parker_init,
    fp_queue_close,
    fp_queue_free,
    fp_queue_is_closed,
    fp_queue_leave,
    fp_queue_n_ready,
    fp_queue_n_seated,
    fp_queue_new,
    fp_queue_push,
    fp_queue_put_back,
    fp_queue_take,
    fp_status,
    fp_task,
    fp_unpark,
)
from fastpar._core.slots cimport KEEP_LIST, Slots
from fastpar._core.source cimport Source
from fastpar._core.tasks cimport Batch

from fastpar.errors import ForkedRunError

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX

#: Tasks read from the source, completed, and consumed by the reader of a generator; batches that workers took; tasks
#: whose result is the record of a failure.
Counts = namedtuple("Counts", ["n_pulled", "n_completed", "n_consumed", "n_batches", "n_failed"])

PHASES = ("feeding", "draining", "finished", "failed", "cancelled")

# Which phases may follow which, as sets of bits. A move that is not here does not happen: the first error wins over the
# second, and over a later cancellation; nothing follows an end.
cdef int[5] MAY_FOLLOW
MAY_FOLLOW[:] = [0, 0, 0, 0, 0]
MAY_FOLLOW[<int>FEEDING] = 1 << DRAINING | 1 << FINISHED | 1 << FAILED | 1 << CANCELLED
MAY_FOLLOW[<int>DRAINING] = 1 << FINISHED | 1 << FAILED | 1 << CANCELLED


cdef inline bint has_ended(Phase phase) noexcept nogil:
    return MAY_FOLLOW[<int>phase] == 0


# Reading longer than this, a thread that is to run the tasks as well had better begin.
cdef uint64_t LONG_READ_NS = 200_000

# A source that takes longer for a task is slow: to send what was read is worth more than to read on.
cdef uint64_t SLOW_SOURCE_NS = 5_000

# A reader that keeps a result for longer than this is asked for room at every result: by then a wake-up costs nothing.
cdef int64_t SLOW_READER_NS = 500_000

# Results that are timed together.
cdef Py_ssize_t MANY = 16

# A signal that comes between the last look for one and the park itself wakes nobody. It comes just there when somebody
# waits for the tasks to have begun before sending it, so the first park is short and another look follows.
cdef int64_t FIRST_PARK_NS = 50_000_000

n_forks = 0


def _note_fork():
    global n_forks
    n_forks += 1


os.register_at_fork(after_in_child=_note_fork)


def n_live():
    """How many runs exist, in builds with FASTPAR_DEBUG=1; 0 in others."""
    return fp_check_n_live()


cdef class Crew:
    """The workers of a run, as the run sees them. This base has none."""

    cdef void summon(self, Run run) noexcept:
        pass

    cdef bint takes_seat(self, Run run) noexcept:
        return False


cdef class Run:
    """One call of `Parallel`: see the module's docstring.

    Parameters
    ----------
    source : iterator
        Yields tasks ``(function, args, kwargs)``; advanced in the calling thread only.
    slots : Slots
        Where results go; the run's own.
    n_workers : int
        How many workers serve the run at once, at most.
    n_total : int
        Number of tasks, -1 where it is not known.
    pre_dispatch : int
        The window in batches, -1 for no bound.
    sizer : BatchSizer
        The run's own.
    crew : Crew
        Its workers.
    times_tasks : bool, default False
        Whether `oldest_missing` will be asked for.
    n_seats : int, optional
        How many workers may hold seats of the queue; `n_workers` by default.
    """

    def __cinit__(self, *args, **kwargs):
        fp_mutex_init(&self.lock)
        fp_parker_init(&self.caller)

    def __init__(
        self, source, Slots slots, Py_ssize_t n_workers, Py_ssize_t n_total, Py_ssize_t pre_dispatch, BatchSizer sizer,
        Crew crew, *, bint times_tasks=False, n_seats=None,
    ):
        self.queue = fp_queue_new(<uint32_t>min(n_workers if n_seats is None else n_seats, 0xFFFFFFFF))
        if self.queue == NULL:
            raise MemoryError("no memory for the dispatch queue")
        self.source = Source(source)
        self.slots = slots
        self.n_workers = n_workers
        self.n_total_ = n_total
        self.pre_dispatch = pre_dispatch
        self.sizer = sizer
        self.crew = crew
        self.times_tasks = times_tasks
        self.started_ns = fp_os_clock_ns()
        self.fork_generation = n_forks

    def __dealloc__(self):
        # A worker holds a reference while it is seated, so nobody is; but in a forked child the parent's workers are.
        if self.queue != NULL and self.fork_generation == n_forks:
            self._drop_queued()
            fp_queue_free(self.queue)

    # ------------------------------------------------------------------------------------ anyone: snapshots

    @property
    def phase(self):
        """Name of the current phase, one of `PHASES`."""
        fp_mutex_lock(&self.lock)
        cdef Phase phase = self.phase_
        fp_mutex_unlock(&self.lock)
        return PHASES[<int>phase]

    @property
    def is_open(self):
        """Whether tasks may still be read, queued or running."""
        fp_mutex_lock(&self.lock)
        cdef bint ended = has_ended(self.phase_)
        fp_mutex_unlock(&self.lock)
        return not ended

    @property
    def counts(self):
        """The `Counts` at this moment."""
        fp_mutex_lock(&self.lock)
        cdef Py_ssize_t n_pulled = self.n_pulled_, n_batches = self.n_batches_
        cdef Py_ssize_t n_completed = self.slots.n_stored, n_consumed = self.slots.n_consumed, n_failed = self.n_failed_
        fp_mutex_unlock(&self.lock)
        return Counts(n_pulled, n_completed, n_consumed, n_batches, n_failed)

    @property
    def room(self):
        """How many tasks may be read now; 0 once the source is exhausted or the run has ended."""
        fp_mutex_lock(&self.lock)
        cdef Py_ssize_t room = self._room_locked() if self.phase_ == FEEDING else 0
        fp_mutex_unlock(&self.lock)
        return room

    @property
    def has_next(self):
        """Whether there is a result to consume."""
        fp_mutex_lock(&self.lock)
        cdef bint has_next = self.slots.has_next()
        fp_mutex_unlock(&self.lock)
        return has_next

    @property
    def n_total(self):
        """Number of tasks, -1 while it is not known."""
        fp_mutex_lock(&self.lock)
        cdef Py_ssize_t n_total = self.n_total_
        fp_mutex_unlock(&self.lock)
        return n_total

    @property
    def worker_times_ns(self):
        """Wall time inside tasks, and CPU time that workers used, both summed over workers."""
        fp_mutex_lock(&self.lock)
        cdef int64_t busy_ns = self.busy_ns_, cpu_ns = self.cpu_ns_
        fp_mutex_unlock(&self.lock)
        return busy_ns, cpu_ns

    @property
    def elapsed_ns(self):
        """Time since the call began."""
        return fp_os_clock_ns() - self.started_ns

    @property
    def failure(self):
        """``(error, index, task)`` of the first failure, or None; index -1 and task None where no task is to blame."""
        fp_mutex_lock(&self.lock)
        cdef bint failed = self.phase_ == FAILED
        fp_mutex_unlock(&self.lock)
        return (self.error, self.failed_index, self.failed_task) if failed else None  # they do not change any more

    # ------------------------------------------------------------------------- the calling thread: the source

    cpdef int pull(self, bint is_awaiting=True) except -1:
        """Read tasks. An error of the source is raised as it is.

        It ends before the window is full where nobody else runs what was read and it takes long, or nobody else sends it
        and the source is slow; `is_source_slow` says so.

        Parameters
        ----------
        is_awaiting : bool
            Whether the calling thread has nothing better to do: it then reads until the window is full or there is
            something to look at. Otherwise it has a result in hand, and reads one lot.
        """
        cdef Py_ssize_t room, size
        cdef bint goes_on = True
        cdef uint64_t started = fp_os_clock_ns(), n_read = 0, took
        self._check_fork()
        while goes_on:
            fp_mutex_lock(&self.lock)
            room = self._room_locked() if self.phase_ == FEEDING else 0
            size = self.sizer.current_size()
            fp_mutex_unlock(&self.lock)
            if room <= 0:
                return 0
            self.is_source_broken = True
            self.source.read(min(room, size), self.n_pulled_, self.sizer.fixed > 0)
            self.is_source_broken = False
            self._check_fork()  # the source may do it
            if self.source.is_exhausted:
                self._end_source()
            n_read += self.source.n
            if self.source.n > 0:
                self._publish()
            took = fp_os_clock_ns() - started
            self.is_source_slow = took > max(LONG_READ_NS, n_read * SLOW_SOURCE_NS)
            goes_on = is_awaiting and not self._is_awaited()
            if self.is_seated and took > LONG_READ_NS or self.is_source_slow and self.crew.needs_caller:
                goes_on = False
        return 0

    cdef bint _is_awaited(self) noexcept:
        """Is there a result to consume, progress to show, or a list's time limit to watch?"""
        cdef bint awaited
        fp_mutex_lock(&self.lock)
        awaited = self.reports and self.slots.n_stored != self.n_seen
        awaited = awaited or (self.times_tasks if self.slots.keep == KEEP_LIST else self.slots.has_next())
        fp_mutex_unlock(&self.lock)
        return awaited

    cdef int _publish(self) except -1:
        cdef uint32_t n_summoned = 0
        cdef fp_status status
        cdef Source source = self.source
        if self.first_function is None:
            self.first_function = (<tuple><PyObject *>source.tasks[0].item)[0]
        self._add_slots(source.n)  # first: a worker may deliver before the push returns
        status = fp_queue_push(self.queue, source.tasks, source.n, &n_summoned)
        if status == FP_OK:
            source.hand_on()
        else:
            source.drop()
        if status == FP_NO_MEMORY:
            raise MemoryError("no memory to queue tasks")
        if n_summoned:
            if self.is_seated:
                fp_queue_leave(self.queue)  # one seat is enough for this thread; its takes summon whom they need
            elif self.crew.takes_seat(self):
                self.is_seated = True
            else:
                self.crew.summon(self)
        return 0

    cdef int _add_slots(self, Py_ssize_t n) except -1:
        fp_mutex_lock(&self.lock)
        try:
            self.slots.add(n)
            self.n_pulled_ += n
        finally:
            fp_mutex_unlock(&self.lock)
        return 0

    cdef void _end_source(self) noexcept:
        fp_mutex_lock(&self.lock)
        self.n_total_ = self.n_pulled_ + self.source.n
        self._move_to_locked(FINISHED if self.slots.n_stored == self.n_total_ else DRAINING)
        fp_mutex_unlock(&self.lock)

    cdef Py_ssize_t _room_locked(self) noexcept:
        # A list holds every result anyhow; the window of a generator ends where its reader is.
        cdef Py_ssize_t n_past = self.slots.n_stored if self.slots.keep == KEEP_LIST else self.slots.n_consumed
        if self.pre_dispatch < 0:
            return PY_SSIZE_T_MAX
        return self.pre_dispatch * self._lot_locked() - (self.n_pulled_ - n_past)

    cdef Py_ssize_t _lot_locked(self) noexcept:
        # The unit of the window. A list holds every result anyhow, so reading further ahead costs it nothing but tasks.
        # A reader that takes its time is not what workers should wait for, nor a reason to pile results up; as long as nobody
        # knows whether it does, the window grows with what it has taken. Batches of a size that was asked for come whole.
        if self.slots.keep == KEEP_LIST:
            return self.sizer.lot_size()
        if self.sizer.fixed > 0:
            return self.sizer.current_size()
        return min(self.sizer.current_size(), 1 + self.n_swift // max(self.pre_dispatch, 1))

    cdef bint _has_worthwhile_room_locked(self) noexcept:
        # Waking the caller for every task costs more than a task may; waking it too late starves the workers. Half of
        # what may be queued beyond the running batches is far from both.
        cdef Py_ssize_t ahead = (self.pre_dispatch - self.n_workers) * self._lot_locked()
        return self.phase_ == FEEDING and self._room_locked() >= max(1, ahead // 2)

    # ---------------------------------------------------------------- the calling thread: waiting and results

    cdef bint _has_news_locked(self) noexcept:
        """Is there anything for the calling thread to do?"""
        if self.phase_ == FINISHED or self.phase_ == FAILED:
            return True
        if self.phase_ == CANCELLED:
            return self.n_leased == 0
        if self.reports and self.slots.n_stored != self.n_seen:
            return True
        if self.slots.keep != KEEP_LIST and self.slots.has_next():
            return True
        return self._has_worthwhile_room_locked()

    cpdef bint wait(self, int64_t timeout_ns=-1) except -1:
        """Wait for news: a result to consume, room in the window, an end; after `cancel`, until no task is running.

        Parameters
        ----------
        timeout_ns : int
            How long, in nanoseconds; negative for as long as it takes. Signal handlers run, so Ctrl-C ends it.

        Returns
        -------
        bool
            False if the time ran out first.
        """
        cdef bint news
        cdef int64_t left = timeout_ns
        cdef int64_t most = FIRST_PARK_NS
        cdef uint64_t deadline = fp_os_clock_ns() + <uint64_t>max(<int64_t>0, timeout_ns)
        self._check_fork()
        while True:
            fp_mutex_lock(&self.lock)
            news = self._has_news_locked()
            self.caller_waits = not news and left != 0
            self.n_seen = self.slots.n_stored
            fp_mutex_unlock(&self.lock)
            if news or left == 0:
                return news
            PyErr_CheckSignals()
            with nogil:
                fp_park(&self.caller, left if most < 0 else most if left < 0 else min(left, most))
            most = -1
            if timeout_ns >= 0:
                left = max(<int64_t>0, <int64_t>(deadline - fp_os_clock_ns()))

    cdef void _unlock_and_wake(self) noexcept:
        """End a section that changed something: release the lock, and wake the caller if this is what it waits for."""
        cdef bint wake = self.caller_waits and self._has_news_locked()
        if wake:
            self.caller_waits = False
        fp_mutex_unlock(&self.lock)
        if wake:
            fp_unpark(&self.caller)

    def pop(self, default):
        """Consume the next result; `default` where it is not there, or not wanted any more since a task failed."""
        cdef PyObject *result = NULL
        self._check_fork()
        fp_mutex_lock(&self.lock)
        if self.phase_ != FAILED and self.slots.has_next():
            result = self.slots.pop()
        self._time_reader_locked(result != NULL)
        self.is_hungry = self._has_worthwhile_room_locked()
        fp_mutex_unlock(&self.lock)
        if result == NULL:
            return default
        found = <object>result
        Py_DECREF(found)  # the slot's reference
        return found

    cdef void _time_reader_locked(self, bint found) noexcept:
        # Where tasks are so short that batches are large, the clock at each result would cost more than it is worth.
        cdef int64_t now
        if not found:
            self.popped_ns = self.n_untimed = 0
            return
        self.n_swift += 1
        self.n_untimed += 1
        if self.n_untimed < MANY and self.n_swift > MANY and self.sizer.current_size() > MANY:
            return
        now = fp_os_clock_ns()
        if self.popped_ns and now - self.popped_ns > SLOW_READER_NS * self.n_untimed:
            self.n_swift = 0
        self.popped_ns = now
        self.n_untimed = 0

    def results(self):
        """All results of a finished run that keeps a list, in the order of the tasks; the run gives them up."""
        cdef list empty = []
        if self.phase != "finished":
            raise AssertionError(f"results() of a run that is {self.phase}")
        return self.slots.take_all(empty)

    def finished_results(self):
        """Of a run that keeps a list and has ended early: the results that are there, by index. It gives them up."""
        if self.is_inherited:
            return {}
        if not has_ended(self.phase_):
            raise AssertionError(f"finished_results() of a run that is {self.phase}")
        return self.slots.take_present()  # no lock: after the end nothing is stored any more

    @property
    def oldest_missing(self):
        """Index of the oldest task without a result, and the nanoseconds it has been that (`times_tasks` only)."""
        fp_mutex_lock(&self.lock)
        cdef Py_ssize_t index = max(self.slots.frontier, self.slots.n_consumed)
        cdef int64_t since = self.slots.frontier_ns
        fp_mutex_unlock(&self.lock)
        return index, <int64_t>fp_os_clock_ns() - since

    def cancel(self):
        """Stop the run: nothing queued is started any more. Running tasks are let go; their results are dropped."""
        if self.is_inherited:
            return
        fp_mutex_lock(&self.lock)
        self._move_to_locked(CANCELLED)
        fp_mutex_unlock(&self.lock)
        self._drop_queued()

    @property
    def is_inherited(self):
        """Whether this process was forked off during the run, and has nothing of it but a picture.

        Its lock may be held by a thread that exists in the parent only.
        """
        return self.fork_generation != n_forks

    cdef int _check_fork(self) except -1:
        if self.fork_generation != n_forks:
            raise ForkedRunError(
                "this Parallel call began before os.fork(), and its workers exist in the parent process only: "
                "start a new call in the child"
            )
        return 0

    # -------------------------------------------------------------------------------------------- workers

    cdef bint is_stopped(self) noexcept nogil:
        return fp_queue_is_closed(self.queue)

    cdef bint has_tiny_tasks(self) noexcept:
        """Whether recent tasks took less than handing one over does."""
        cdef bint tiny
        fp_mutex_lock(&self.lock)
        tiny = self.sizer.outweighs_tasks()
        fp_mutex_unlock(&self.lock)
        return tiny

    cdef bint take(self, Batch batch) noexcept:
        """Fill an empty batch. False: nothing is ready, and the worker's seat is given up."""
        cdef uint32_t n_summoned = 0
        cdef Py_ssize_t n_claimed, n_wanted
        fp_mutex_lock(&self.lock)
        n_claimed = self.sizer.next_size(self._n_left_locked(), self.n_workers)
        if self.slots.keep != KEEP_LIST and self.slots.n_stored == 0:
            n_claimed = min(n_claimed, self._lot_locked())  # the first window is for all workers, whatever is expected
        n_claimed = min(n_claimed, max(1, <Py_ssize_t>fp_queue_n_ready(self.queue)))
        batch.budget_ns = self.sizer.budget_ns()
        self.n_leased += n_claimed  # before they leave the queue: no leases and an empty queue mean that nothing runs
        fp_mutex_unlock(&self.lock)
        n_wanted = batch.make_room(n_claimed)
        batch.n = fp_queue_take(self.queue, batch.tasks, n_wanted, &n_summoned)
        fp_mutex_lock(&self.lock)
        self.n_leased -= n_claimed - batch.n
        self.n_batches_ += batch.n > 0
        self._unlock_and_wake()
        if n_summoned:
            self.crew.summon(self)
        return batch.n > 0

    cdef Py_ssize_t _n_left_locked(self) noexcept:
        # Tasks nobody has taken yet, -1 where that is not known.
        return -1 if self.n_total_ < 0 else self.n_total_ - self.n_pulled_ + <Py_ssize_t>fp_queue_n_ready(self.queue)

    cdef bint put_back(self, Batch batch, Py_ssize_t start) noexcept:
        """Return the unstarted tasks from place `start` on to the front of the queue. False: they stay with the batch."""
        cdef uint32_t n_summoned = 0
        cdef Py_ssize_t n_back = batch.n - start
        if fp_queue_put_back(self.queue, batch.tasks + start, n_back, &n_summoned) != FP_OK:
            return False  # the run has ended: FP_NO_MEMORY cannot be, for the tasks come from this seat's latest take
        batch.n = start
        fp_mutex_lock(&self.lock)
        self.n_leased -= n_back
        self._unlock_and_wake()
        if n_summoned:
            self.crew.summon(self)
        return True

    cdef void deliver(self, Batch batch, int64_t total_ns, int64_t longest_ns) noexcept:
        """Hand over the results that are done; the batch goes on."""
        fp_mutex_lock(&self.lock)
        self._hand_over_locked(batch, total_ns, longest_ns)
        self._unlock_and_wake()

    cdef void finish(
        self, Batch batch, int64_t total_ns, int64_t longest_ns, int64_t overhead_ns, int64_t cpu_ns
    ) noexcept:
        """Hand over what is done, give up what is not, and empty the batch.

        `overhead_ns`: what passed between the worker's last batch and this one, negative where that means nothing;
        `cpu_ns`: CPU time of the worker since it last said.
        """
        fp_mutex_lock(&self.lock)
        self._hand_over_locked(batch, total_ns, longest_ns)
        self.n_leased -= batch.n - batch.n_delivered
        self.cpu_ns_ += cpu_ns
        if overhead_ns >= 0:
            self.sizer.observe_overhead(overhead_ns)
        self._unlock_and_wake()
        batch.clear()

    cdef void _hand_over_locked(self, Batch batch, int64_t total_ns, int64_t longest_ns) noexcept:
        cdef Py_ssize_t i, n = batch.n_done - batch.n_delivered
        if n == 0 or has_ended(self.phase_):
            return  # after an end nobody wants results: they stay with the batch, which releases them
        for i in range(batch.n_delivered, batch.n_done):
            self.n_failed_ += type(<object>batch.results[i]) is self.failure_type
            self.slots.store(batch.tasks[i].index, batch.results[i])
        batch.n_delivered = batch.n_done
        self.n_leased -= n
        self.busy_ns_ += total_ns
        self.sizer.observe(n, total_ns, longest_ns)
        if self.times_tasks:
            self.slots.advance_frontier()
        if self.phase_ == DRAINING and self.slots.n_stored == self.n_total_:
            self._move_to_locked(FINISHED)

    cdef void fail(self, Batch batch, Py_ssize_t i, object error) noexcept:
        """The task at place i raised: if it is the first to do so, the run stops."""
        self._fail_with(error, batch.tasks[i].index, batch.task(i))

    cdef void leave(self) noexcept:
        """Give up the seat of a worker that will not come, and that an ended run does not miss."""
        fp_queue_leave(self.queue)

    cdef void lose_worker(self, object error) noexcept:
        """A summoned worker could not come: fewer will do, but not none while tasks are ready."""
        fp_queue_leave(self.queue)
        if fp_queue_n_seated(self.queue) == 0 and fp_queue_n_ready(self.queue) > 0:
            self._fail_with(error, -1, None)

    cdef void _fail_with(self, object error, Py_ssize_t index, tuple task) noexcept:
        fp_mutex_lock(&self.lock)
        if self._move_to_locked(FAILED):
            self.error = error  # was None: nothing is released under the lock
            self.failed_index = index
            self.failed_task = task
        self._unlock_and_wake()
        self._drop_queued()

    cdef bint _move_to_locked(self, Phase phase) noexcept:
        """Enter a phase if the table allows it."""
        if not MAY_FOLLOW[<int>self.phase_] & 1 << phase:
            return False
        self.phase_ = phase
        return True

    cdef void _drop_queued(self) noexcept:
        cdef fp_task[64] dropped
        cdef size_t n, i
        while True:
            n = fp_queue_close(self.queue, dropped, 64)
            if n == 0:
                return
            for i in range(n):
                Py_DECREF(<object><PyObject *>dropped[i].item)
