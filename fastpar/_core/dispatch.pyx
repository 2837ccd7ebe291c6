"""`Run`: all the state of one call, from the user's iterable to the results.

Owns: the source, the window (how far ahead of finished work the source is read), the queue of ready tasks, the batch size,
the result slots, the first error, the counters and the phase. It is a monitor: state changes inside its methods only.

Threads: the *calling thread* alone reads the source, waits and consumes results (`pull`, `wait`, `pop`, ...); any number of
*workers* take, deliver, put back and fail. `dispatch.pxd` says for each field who may touch it under what. Sections under
`Run.lock` are short, never wait, and never run Python code: no object is released, no iterator advanced inside them. Hence a
thread may hold the GIL while it waits for the lock, and the same code holds on free-threaded interpreters.

Not its job: where workers come from (`Crew`), what they do with a task (`threads`), what users see (`parallel`).
"""

from cpython.exc cimport PyErr_CheckSignals, PyErr_Occurred
from cpython.list cimport PyList_Append, PyList_GET_ITEM, PyList_GET_SIZE, PyList_SET_ITEM
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.tuple cimport PyTuple_GET_SIZE
from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastpar._core.batching cimport BatchSizer
from fastpar._core.capi cimport (
    FP_CLOSED,
    FP_NO_MEMORY,
    FP_PARKED_INTERRUPTED,
    FP_PARKED_TIMEOUT,
    fp_mutex_init,
    fp_mutex_lock,
    fp_mutex_unlock,
    fp_os_clock_ns,
    fp_park,
    fp_parked,
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

import os

from fastpar.errors import ForkedRunError

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX
    PyObject *PyIter_Next(object iterator) except? NULL
    int PyList_SetSlice(list target, Py_ssize_t low, Py_ssize_t high, PyObject *items) except -1

#: How results are kept, by the name `Parallel(return_as=...)` has for it.
KEEP = {"list": KEEP_LIST, "generator": KEEP_ORDER, "generator_unordered": KEEP_ARRIVAL}

PHASES = ("feeding", "draining", "finished", "failed", "cancelled")

# Which phases may follow which, as sets of bits. A move that is not here does not happen: the first error wins over the
# second, and over a later cancellation; nothing follows an end.
cdef int[5] MAY_FOLLOW
MAY_FOLLOW[:] = [0, 0, 0, 0, 0]
MAY_FOLLOW[<int>FEEDING] = 1 << DRAINING | 1 << FINISHED | 1 << FAILED | 1 << CANCELLED
MAY_FOLLOW[<int>DRAINING] = 1 << FINISHED | 1 << FAILED | 1 << CANCELLED


cdef inline bint has_ended(Phase phase) noexcept nogil:
    return MAY_FOLLOW[<int>phase] == 0


cdef object PENDING = object()  # in a slot: the result is not there yet

# A slow source must not keep tasks from idle workers while it fills a batch.
cdef int64_t MAX_PULL_NS = 200_000

cdef uint64_t n_forks = 0  # how often this process has been forked off; written in the child of a fork, alone


def _note_fork():
    global n_forks
    n_forks += 1


os.register_at_fork(after_in_child=_note_fork)


cdef class Crew:
    """The workers of a run, as the run sees them. This base has none: its run is driven by the calling thread."""

    cdef void summon(self, Run run) noexcept:
        pass

    cdef bint takes_seat(self, Run run) noexcept:
        return False


cdef class Batch:
    """Tasks on their way through one worker, and their results."""

    cdef int reserve(self, Py_ssize_t n) except -1:
        """Make room for n tasks; the batch is empty."""
        if n <= self.capacity:
            return 0
        n = max(n, 64)
        PyMem_RawFree(self.tasks)
        PyMem_RawFree(self.results)
        self.capacity = 0
        self.tasks = <fp_task *>PyMem_RawMalloc(n * sizeof(fp_task))
        self.results = <PyObject **>PyMem_RawMalloc(n * sizeof(PyObject *))
        if self.tasks == NULL or self.results == NULL:
            raise MemoryError(f"no memory for a batch of {n} tasks")
        self.capacity = n
        return 0

    def __dealloc__(self):
        self.clear()
        PyMem_RawFree(self.tasks)
        PyMem_RawFree(self.results)

    def __len__(self):
        return self.n

    def __getitem__(self, Py_ssize_t i):
        """The task ``(function, args, kwargs)`` at place i."""
        if not 0 <= i < self.n:
            raise IndexError(i)
        return self.task(i)

    cdef tuple task(self, Py_ssize_t i):
        return <tuple><PyObject *>self.tasks[i].item

    cdef void set_result(self, Py_ssize_t i, object result) noexcept:
        Py_INCREF(result)
        self.results[i] = <PyObject *>result
        self.n_done = i + 1

    cdef void clear(self) noexcept:
        # Releases tasks and undelivered results: may run finalizers, so never under a lock.
        cdef Py_ssize_t i, n = self.n
        cdef Py_ssize_t n_done = self.n_done
        self.n = self.n_done = 0
        for i in range(n):
            Py_DECREF(<object><PyObject *>self.tasks[i].item)
        for i in range(self.n_delivered, n_done):
            Py_DECREF(<object>self.results[i])
        self.n_delivered = 0


cdef Py_ssize_t _reserve_batch(Batch batch, Py_ssize_t n) noexcept:
    """Room for up to n tasks: fewer if memory is short, for a run goes on in smaller batches."""
    try:
        batch.reserve(n)
    except MemoryError:
        batch.reserve(1)
    return min(n, batch.capacity)


cdef class Run:
    """One call of `Parallel`: see the module's docstring.

    Parameters
    ----------
    source : iterator
        Yields tasks ``(function, args, kwargs)``; advanced in the calling thread only.
    keep : int
        One of the values of `KEEP`.
    n_workers : int
        How many workers serve the run at once, at most.
    n_seats : int
        The same for a crew that summons its workers; 0 where the calling thread itself takes and delivers.
    n_total : int
        Number of tasks, -1 where it is not known.
    pre_dispatch : int
        The window in batches, -1 for no bound.
    sizer : BatchSizer
        The run's own.
    times_tasks : bool
        Whether a timeout will be asked for.
    """

    def __cinit__(self, *args, **kwargs):
        fp_mutex_init(&self.lock)
        fp_parker_init(&self.caller)

    def __init__(
        self, source, Keep keep, Py_ssize_t n_workers, Py_ssize_t n_seats, Py_ssize_t n_total, Py_ssize_t pre_dispatch,
        BatchSizer sizer, *, Crew crew=None, bint times_tasks=False,
    ):
        self.queue = fp_queue_new(<uint32_t>n_seats)
        if self.queue == NULL:
            raise MemoryError("no memory for the dispatch queue")
        self.source = source
        self.keep = keep
        self.n_workers = n_workers
        self.n_total = n_total
        self.pre_dispatch = pre_dispatch
        self.sizer = sizer
        self.crew = Crew() if crew is None else crew
        self.times_tasks = times_tasks
        self.started_ns = self.frontier_ns = fp_os_clock_ns()
        self.fork_generation = n_forks
        self.slots = []
        self.failed_index = -1

    def __dealloc__(self):
        # A worker holds a reference while it is seated, so nobody is.
        if self.queue != NULL:
            self._drop_queued()
            fp_queue_free(self.queue)
        PyMem_RawFree(self.pulled)

    # ---- what everyone may ask; snapshots

    @property
    def phase(self):
        """Name of the current phase, one of `PHASES`."""
        return PHASES[self.phase_]

    @property
    def is_open(self):
        """Whether tasks may still be read, queued or running."""
        return not has_ended(self.phase_)

    @property
    def failure(self):
        """``(error, index, task)`` of the first task that raised, or None."""
        return None if self.error is None else (self.error, self.failed_index, self.failed_task)

    # ---- the calling thread: source

    cpdef int pull(self) except -1:
        """Read tasks until the window is full; an error of the source is raised as it is."""
        cdef Py_ssize_t room, size
        while True:
            fp_mutex_lock(&self.lock)
            room = self._room_locked() if self.phase_ == FEEDING else 0
            size = self.sizer.current_size()
            fp_mutex_unlock(&self.lock)
            if room <= 0:
                return 0
            self._publish(self._pull_chunk(min(room, size)))

    cdef Py_ssize_t _pull_chunk(self, Py_ssize_t limit) except -1:
        cdef Py_ssize_t n = 0
        cdef uint64_t deadline = fp_os_clock_ns() + MAX_PULL_NS
        try:
            while n < limit:
                item = PyIter_Next(self.source)
                if item == NULL:
                    self._end_source(n)
                    break
                self._keep_task(n, <object>item)
                Py_DECREF(<object>item)
                n += 1
                if n < limit and not self.sizer.fixed and fp_os_clock_ns() > deadline:
                    break
        except BaseException:
            self._release(n)
            raise
        return n

    cdef int _keep_task(self, Py_ssize_t i, object item) except -1:
        self._reserve(i + 1)
        task = as_task(item, self.n_pulled + i)
        Py_INCREF(task)
        self.pulled[i].item = <void *>task
        self.pulled[i].index = self.n_pulled + i
        return 0

    cdef int _reserve(self, Py_ssize_t n) except -1:
        cdef Py_ssize_t capacity = max(2 * self.pulled_capacity, 64)
        if n <= self.pulled_capacity:
            return 0
        grown = PyMem_RawRealloc(self.pulled, capacity * sizeof(fp_task))
        if grown == NULL:
            raise MemoryError(f"no memory to read {n} tasks at once")
        self.pulled = <fp_task *>grown
        self.pulled_capacity = capacity
        return 0

    cdef void _release(self, Py_ssize_t n) noexcept:
        cdef Py_ssize_t i
        for i in range(n):
            Py_DECREF(<object><PyObject *>self.pulled[i].item)

    cdef int _publish(self, Py_ssize_t n) except -1:
        cdef uint32_t n_summoned = 0
        cdef fp_status status
        if n == 0:
            return 0
        self._add_slots(n)
        status = fp_queue_push(self.queue, self.pulled, n, &n_summoned)
        if status == FP_CLOSED:  # a task failed meanwhile
            self._release(n)
        elif status == FP_NO_MEMORY:
            self._release(n)
            raise MemoryError(f"no memory to queue {n} tasks")
        elif n_summoned:
            if self.crew.takes_seat(self):
                self.is_seated = True
            else:
                self.crew.summon(self)
        return 0

    cdef int _add_slots(self, Py_ssize_t n) except -1:
        cdef Py_ssize_t i
        fp_mutex_lock(&self.lock)
        try:
            for i in range(n):
                PyList_Append(self.slots, PENDING)
            self.n_pulled += n
        finally:
            fp_mutex_unlock(&self.lock)
        return 0

    cdef void _end_source(self, Py_ssize_t n_unpublished) noexcept:
        fp_mutex_lock(&self.lock)
        self.n_total = self.n_pulled + n_unpublished
        self._move_to_locked(FINISHED if self.n_completed == self.n_total else DRAINING)
        fp_mutex_unlock(&self.lock)

    cdef Py_ssize_t _room_locked(self) noexcept:
        # Lists hold every result anyhow; generators are bounded by what was consumed.
        cdef Py_ssize_t n_past = self.n_completed if self.keep == KEEP_LIST else self.n_consumed
        if self.pre_dispatch < 0:
            return PY_SSIZE_T_MAX
        return self.pre_dispatch * self.sizer.current_size() - (self.n_pulled - n_past)

    cdef Py_ssize_t _worthwhile_room_locked(self) noexcept:
        # Waking the caller for every task costs more than a task may; waking it too late starves the workers.
        # Half of what is queued beyond the running batches is far from both.
        return max(1, (self.pre_dispatch - self.n_workers) * self.sizer.current_size() // 2)

    # ---- the calling thread: waiting and results

    cdef bint _has_news_locked(self) noexcept:
        """Is there anything for the calling thread to do?"""
        cdef Py_ssize_t place
        if self.phase_ == FINISHED or self.phase_ == FAILED:
            return True
        if self.phase_ == CANCELLED:
            return self.n_leased == 0
        if self.reports and self.n_completed != self.n_seen:
            return True
        if self.phase_ == FEEDING and self._room_locked() >= self._worthwhile_room_locked():
            return True
        place = self.n_consumed - self.base
        return self.keep != KEEP_LIST and place < PyList_GET_SIZE(self.slots) and PyList_GET_ITEM(self.slots, place) != <PyObject *>PENDING

    def step(self, int64_t timeout_ns=-1):
        """Fill the window, then wait until there is news: a result to consume, room in the window, an end.

        Parameters
        ----------
        timeout_ns : int
            How long to wait, in nanoseconds; negative for as long as it takes.

        Returns
        -------
        bool
            False if the time ran out first.
        """
        self.pull()
        return self.wait(timeout_ns)

    cpdef bint wait(self, int64_t timeout_ns=-1) except -1:
        """Wait for news; signal handlers run, so Ctrl-C ends it. Parameters and result are those of `step`."""
        cdef fp_parked parked
        cdef bint news
        cdef int64_t left = timeout_ns
        cdef uint64_t deadline = fp_os_clock_ns() + <uint64_t>timeout_ns if timeout_ns >= 0 else 0
        self._check_fork()
        while True:
            fp_mutex_lock(&self.lock)
            news = self._has_news_locked()
            self.caller_waits = not news and left != 0
            self.n_seen = self.n_completed
            fp_mutex_unlock(&self.lock)
            if news or left == 0:
                return news
            with nogil:
                parked = fp_park(&self.caller, left)
            if parked == FP_PARKED_INTERRUPTED:
                PyErr_CheckSignals()
            if timeout_ns >= 0:
                left = max(<int64_t>0, <int64_t>(deadline - fp_os_clock_ns()))

    cdef void _unlock_and_wake(self) noexcept:
        """Ends a section under lock: releases it, and wakes the caller if it waits for what has changed."""
        cdef bint wake = self.caller_waits and self._has_news_locked()
        if wake:
            self.caller_waits = False
        fp_mutex_unlock(&self.lock)
        if wake:
            fp_unpark(&self.caller)

    def pop(self, default):
        """Consume the next result; `default` where it is not there, or not wanted any more since a task failed."""
        cdef Py_ssize_t place
        cdef PyObject *result = NULL
        fp_mutex_lock(&self.lock)
        place = self.n_consumed - self.base
        if place < PyList_GET_SIZE(self.slots) and self.phase_ != FAILED:
            if PyList_GET_ITEM(self.slots, place) != <PyObject *>PENDING:
                result = PyList_GET_ITEM(self.slots, place)
                self._vacate_locked(place)
        self.is_hungry = self.phase_ == FEEDING and self._room_locked() >= self._worthwhile_room_locked()
        fp_mutex_unlock(&self.lock)
        if result == NULL:
            return default
        found = <object>result
        Py_DECREF(found)  # the slot's reference
        return found

    cdef void _vacate_locked(self, Py_ssize_t place) noexcept:
        # Slots are cut off in lots, so that each costs a constant; they hold nothing but PENDING by then.
        Py_INCREF(PENDING)
        PyList_SET_ITEM(self.slots, place, PENDING)
        self.n_consumed += 1
        place += 1
        if place >= 64 and 2 * place >= PyList_GET_SIZE(self.slots):
            try:
                PyList_SetSlice(self.slots, 0, place, NULL)
                self.base += place
            except MemoryError:
                pass  # the next lot will do

    def results(self):
        """All results, in the order of the tasks; the run gives them up."""
        if self.phase_ != FINISHED or self.keep != KEEP_LIST:
            raise AssertionError(f"results() of a run that is {self.phase}")
        results, self.slots = self.slots, []
        return results

    def oldest_wait_ns(self):
        """How long the oldest missing result has been the oldest one (`times_tasks` only)."""
        fp_mutex_lock(&self.lock)
        since = self.frontier_ns
        fp_mutex_unlock(&self.lock)
        return <int64_t>fp_os_clock_ns() - since

    @property
    def oldest_missing(self):
        """Index of the oldest task without a result (`times_tasks` only)."""
        return max(self.frontier, self.n_consumed)

    def cancel(self):
        """Stop the run: nothing queued is started any more. Running tasks are let go; their results are dropped."""
        if self.fork_generation != n_forks:
            return  # the lock may be held by a thread that this process does not have
        fp_mutex_lock(&self.lock)
        self._move_to_locked(CANCELLED)
        fp_mutex_unlock(&self.lock)
        self._drop_queued()

    cdef int _check_fork(self) except -1:
        if self.fork_generation != n_forks:
            raise ForkedRunError(
                "this Parallel call began before os.fork(), and its workers exist in the parent process only: "
                "start a new call in the child"
            )
        return 0

    cdef void _drop_queued(self) noexcept:
        cdef fp_task[64] dropped
        cdef size_t n, i
        while True:
            n = fp_queue_close(self.queue, dropped, 64)
            if n == 0:
                return
            for i in range(n):
                Py_DECREF(<object><PyObject *>dropped[i].item)

    # ---- workers

    cdef bint is_stopped(self) noexcept nogil:
        return fp_queue_is_closed(self.queue)

    cdef bint has_tiny_tasks(self) noexcept:
        """Whether recent tasks took less than handing one over does."""
        cdef bint tiny
        fp_mutex_lock(&self.lock)
        tiny = self.sizer.outweighs_tasks()
        fp_mutex_unlock(&self.lock)
        return tiny

    cdef bint take(self, Batch batch) except -1:
        """Fill an empty batch. False: nothing is ready, and the worker's seat is given up."""
        cdef uint32_t n_summoned = 0
        cdef Py_ssize_t n_wanted
        fp_mutex_lock(&self.lock)
        n_wanted = min(self.sizer.next_size(self._n_left_locked(), self.n_workers), max(1, <Py_ssize_t>fp_queue_n_ready(self.queue)))
        batch.budget_ns = self.sizer.budget_ns()
        if n_wanted > batch.capacity:
            n_wanted = _reserve_batch(batch, n_wanted)
        self.n_leased += n_wanted  # before they leave the queue: no leases and an empty queue mean that nothing runs
        fp_mutex_unlock(&self.lock)
        batch.n = fp_queue_take(self.queue, batch.tasks, n_wanted, &n_summoned)
        fp_mutex_lock(&self.lock)
        self.n_leased -= n_wanted - batch.n
        self.n_batches += batch.n > 0
        self._unlock_and_wake()
        if n_summoned:
            self.crew.summon(self)
        return batch.n > 0

    cdef Py_ssize_t _n_left_locked(self) noexcept:
        # Tasks nobody has taken yet, -1 where that is not known.
        cdef Py_ssize_t n_ready = fp_queue_n_ready(self.queue)
        return -1 if self.n_total < 0 else self.n_total - self.n_pulled + n_ready

    cdef int put_back(self, Batch batch, Py_ssize_t start) except -1:
        """Return the tasks from place `start` on, unstarted, to the front of the queue."""
        cdef uint32_t n_summoned = 0
        cdef Py_ssize_t n_back = batch.n - start
        cdef fp_status status = fp_queue_put_back(self.queue, batch.tasks + start, n_back, &n_summoned)
        if status == FP_CLOSED:
            return 0  # they stay the batch's, which releases them
        batch.n = start
        fp_mutex_lock(&self.lock)
        self.n_leased -= n_back
        self._unlock_and_wake()
        if n_summoned:
            self.crew.summon(self)
        return 0

    cdef void deliver(self, Batch batch, int64_t total_ns, int64_t longest_ns) noexcept:
        """Hand over the results that are done; the batch goes on."""
        fp_mutex_lock(&self.lock)
        self._hand_over_locked(batch, total_ns, longest_ns)
        self._unlock_and_wake()

    cdef void finish(self, Batch batch, int64_t total_ns, int64_t longest_ns, int64_t overhead_ns) noexcept:
        """Hand over what is done, give up what is not, and empty the batch.

        `overhead_ns`: what passed between the worker's last batch and this one, negative where that means nothing.
        """
        fp_mutex_lock(&self.lock)
        self._hand_over_locked(batch, total_ns, longest_ns)
        self.n_leased -= batch.n - batch.n_delivered
        if overhead_ns >= 0:
            self.sizer.observe_overhead(overhead_ns)
        self._unlock_and_wake()
        batch.clear()

    cdef void _hand_over_locked(self, Batch batch, int64_t total_ns, int64_t longest_ns) noexcept:
        cdef Py_ssize_t i, n = batch.n_done - batch.n_delivered
        if n == 0 or has_ended(self.phase_):
            return  # after an end nobody wants results: they stay with the batch, which releases them
        for i in range(batch.n_delivered, batch.n_done):
            self._store_locked(batch.tasks[i].index, batch.results[i])
        batch.n_delivered = batch.n_done
        self.n_leased -= n
        self.busy_ns += total_ns
        self.sizer.observe(n, total_ns, longest_ns)
        if self.times_tasks:
            self._advance_frontier_locked()
        if self.n_completed == self.n_total and self.phase_ == DRAINING:
            self._move_to_locked(FINISHED)

    cdef void _store_locked(self, uint64_t index, PyObject *result) noexcept:
        # Takes over the reference to the result.
        cdef Py_ssize_t key = self.n_completed if self.keep == KEEP_ARRIVAL else <Py_ssize_t>index
        Py_DECREF(PENDING)  # one of very many: never the last
        PyList_SET_ITEM(self.slots, key - self.base, <object>result)
        self.n_completed += 1

    cdef void _advance_frontier_locked(self) noexcept:
        cdef Py_ssize_t n = self.base + PyList_GET_SIZE(self.slots)
        cdef Py_ssize_t frontier = max(self.frontier, self.n_consumed)
        while frontier < n and PyList_GET_ITEM(self.slots, frontier - self.base) != <PyObject *>PENDING:
            frontier += 1
        if frontier != self.frontier:
            self.frontier = frontier
            self.frontier_ns = fp_os_clock_ns()

    cdef void fail(self, Batch batch, Py_ssize_t i, object error) noexcept:
        """The task at place i raised: if it is the first to do so, the run stops."""
        self._fail_with(error, batch.tasks[i].index, batch.task(i))

    cdef void lose_worker(self, object error) noexcept:
        """A summoned worker could not come: fewer will do, but not none."""
        fp_queue_leave(self.queue)
        if fp_queue_n_seated(self.queue) == 0:
            self._fail_with(error, -1, None)

    cdef void _fail_with(self, object error, Py_ssize_t index, tuple task) noexcept:
        fp_mutex_lock(&self.lock)
        if self._move_to_locked(FAILED):
            self.error = error  # was None: nothing is released under the lock
            self.failed_index = index
            self.failed_task = task
        self._unlock_and_wake()
        self._drop_queued()

    cdef void note_cpu(self, int64_t cpu_ns) noexcept:
        fp_mutex_lock(&self.lock)
        self.cpu_ns += cpu_ns
        fp_mutex_unlock(&self.lock)

    cdef bint _move_to_locked(self, Phase phase) noexcept:
        """Enter a phase if the table allows it."""
        if not MAY_FOLLOW[<int>self.phase_] & 1 << phase:
            return False
        self.phase_ = phase
        return True


cpdef tuple as_task(object item, Py_ssize_t index):
    """The task that an item of the source stands for: the plain tuple of `delayed`, or anything of that shape."""
    if type(item) is tuple and PyTuple_GET_SIZE(item) == 3:
        if type((<tuple>item)[1]) is tuple and type((<tuple>item)[2]) is dict and callable((<tuple>item)[0]):
            return <tuple>item
    try:
        function, args, kwargs = item
        task = (function, tuple(args), dict(kwargs))
    except (TypeError, ValueError):
        task = None
    if task is None or not callable(task[0]):
        raise TypeError(
            f"Parallel expects an iterable of tasks made by delayed(function)(arguments), but item {index} is "
            f"{_brief(item)}: write delayed(f)(x) for x in xs, not f(x) for x in xs"
        )
    return task


cdef str _brief(object item):
    text = repr(item)
    return text if len(text) <= 100 else f"{text[:100]}..."
