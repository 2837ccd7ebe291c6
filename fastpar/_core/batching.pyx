# cython: cdivision=True
# (Otherwise Cython would take the GIL to report a division by zero. Here it gives infinity, and means it.)
"""How many tasks to hand to a worker at once: arithmetic on measured durations, and nothing else.

Owns the estimate of what a task and a batch cost. Not its job: clocks (the worker measures), queues, threads. Every
method is called by one owner under that owner's lock, on free-threaded builds too; none touches a Python object, so
the owner need not hold the GIL. The simulator (bench/simulator.py) and the unit tests drive this same compiled code.

The idea. A batch should be so long that its overhead is OVERHEAD_SHARE of it, and no longer. Its size is that length
divided by the mean time of a task over the last moments. Forgetting is by time worked, not by tasks seen: one long
task fills the memory, so the size falls at once, while many short ones must first outweigh what is remembered.
The constants are simulated, none of them finely tuned: D-010 to D-013.
"""

cimport cython
from libc.math cimport INFINITY, ceil
from libc.stdint cimport INT64_MAX, int64_t

#: Share of a batch that its overhead may cost: "a few per cent".
cdef double OVERHEAD_SHARE = 0.03
#: The least time that a batch aims at: below, the clocks themselves cost.
cdef double MIN_BATCH_NS = 100e3
#: A batch is over budget when it has run this many times as long as it should have,
cdef double BUDGET = 2.0
#: or, near a known end, as long as the whole rest should take; but cutting it must stay cheap: this many overheads.
cdef double LEAST_BUDGET = 10.0
#: How long the memory of task times is, in batch lengths.
cdef double HISTORY = 2.0
#: The longest task of n counts for at most OUTLIER / n memories: the more companions disagree, the less it matters.
cdef double OUTLIER = 8.0
#: n remembered tasks are evidence for batches of up to GROWTH * n.
cdef double GROWTH = 4.0
#: Near a known end a batch is at most this fraction of a worker's even share (guided self-scheduling, Polychronopoulos
#: and Kuck 1987, take 1; a smaller fraction forgives uneven tasks).
cdef double SHRINK = 0.5
#: The measured overhead is this quantile: waits for the GIL or a busy core only ever lengthen a measurement.
cdef double QUANTILE = 0.25
cdef double QUANTILE_STEP = 0.125
#: How far measurements may move the overhead from the engine's prior. Little downwards, since waking the caller is
#: not in them; not far upwards, since when 64 workers start at once they mostly measure the wait for each other.
cdef double LEAST_OVERHEAD = 0.5
cdef double MOST_OVERHEAD = 4.0


#: Work that is read ahead at a time where no memory is at stake. Waking the calling thread, which then competes for the
#: GIL, costs the workers 30 to 80 us a time: 2 ms keep that below a few per cent at batches of any size.
cdef double LOT_NS = 2e6


cdef inline double clamp(double value, double low, double high) noexcept nogil:
    return low if value < low else high if value > high else value


@cython.final
cdef class BatchSizer:
    """Says how many tasks the next batch should hold.

    Parameters
    ----------
    overhead_ns : float
        The engine's prior for the cost of one batch that is not task time, in nanoseconds.
    fixed : int, default 0
        A batch size set by the user; 0 means automatic.
    max_size : int, default 512
        No automatic batch is larger: the window of tasks taken from the source is a multiple of the batch size, so
        this bounds memory.
    max_batch_ns : float, default 5 ms
        No automatic batch aims at more time: Ctrl-C, progress and balance suffer.

    Notes
    -----
    Not synchronised: the owner calls every method under its own lock. A few nanoseconds a call.
    """

    def __cinit__(self, double overhead_ns, Py_ssize_t fixed=0, Py_ssize_t max_size=512, double max_batch_ns=5e6):
        if not overhead_ns > 0 or fixed < 0 or max_size < 1 or not max_batch_ns > 0:
            raise ValueError(
                "BatchSizer needs overhead_ns > 0, fixed >= 0, max_size >= 1 and max_batch_ns > 0, "
                f"got {overhead_ns}, {fixed}, {max_size} and {max_batch_ns}"
            )
        self.prior_ns = self.overhead_ns = overhead_ns
        self.tasks = self.work_ns = 0
        self.size = 1
        self.share = INFINITY
        self.max_size = max_size
        self.max_batch_ns = max_batch_ns
        self.fixed = fixed

    cpdef Py_ssize_t next_size(self, Py_ssize_t n_left, Py_ssize_t n_workers) noexcept nogil:
        """Tasks to hand to a worker now, at least 1.

        Parameters
        ----------
        n_left : int
            Tasks not yet assigned; negative while that is unknown.
        n_workers : int
            Workers of the run.

        Notes
        -----
        Near a known end batches shrink, but not below what takes as long as its own overhead: to split that between
        two workers gains nothing, and makes a call of ten tiny tasks twice as slow (D-010).
        """
        cdef Py_ssize_t size = self.current_size()
        if n_left < 0:
            return size
        if self.fixed == 0:
            self.share = max(n_left, 1) / <double>max(n_workers, 1)
            size = <Py_ssize_t>min(<double>size, max(SHRINK * self.share, self.overhead_ns / self.mean_ns()))
        return max(1, min(size, n_left))

    cpdef Py_ssize_t current_size(self) noexcept nogil:
        """The batch size where no end is in sight; the window is a multiple of it."""
        return self.fixed if self.fixed > 0 else <Py_ssize_t>ceil(self.size)

    cpdef Py_ssize_t lot_size(self) noexcept nogil:
        """Tasks that are worth waking the reader of the source for; at least a batch.

        Not bounded by evidence as batches are: reading too far ahead makes nobody wait.
        """
        if self.fixed > 0 or self.tasks == 0:
            return self.current_size()
        return max(self.current_size(), <Py_ssize_t>min(LOT_NS / self.mean_ns(), self.max_size))

    cpdef int64_t budget_ns(self) noexcept nogil:
        """Time after which a worker hands the unstarted rest of its batch back."""
        if self.fixed > 0:
            return INT64_MAX
        return <int64_t>clamp(
            self.share * self.mean_ns(), LEAST_BUDGET * self.prior_ns, BUDGET * self.target_ns()
        )

    cpdef bint outweighs_tasks(self) noexcept nogil:
        """Whether a handover costs more than a recent task took: who holds such a task had better run it."""
        return self.mean_ns() < self.prior_ns

    cpdef void observe(self, Py_ssize_t n_tasks, int64_t total_ns, int64_t longest_ns) noexcept nogil:
        """Learn from a finished batch, or the finished part of one.

        Parameters
        ----------
        n_tasks : int
            Tasks that ran.
        total_ns, longest_ns : int
            Time of all of them, and of the longest, measured in the worker.
        """
        if n_tasks < 1 or total_ns < 0:  # a clock that went backwards has nothing to teach
            return
        cdef double target = self.target_ns()
        cdef double memory = HISTORY * target
        cdef double longest = longest_ns
        self.tasks += n_tasks
        self.work_ns += max(total_ns - longest, 0) + min(longest, OUTLIER * memory / n_tasks)
        self.size = clamp(target / self.mean_ns(), 1, min(GROWTH * self.tasks, self.max_size))
        if self.work_ns > memory:  # forget the oldest
            self.tasks *= memory / self.work_ns
            self.work_ns = memory

    cpdef void observe_overhead(self, int64_t elapsed_ns) noexcept nogil:
        """Learn from the time between two batches of one worker.

        Parameters
        ----------
        elapsed_ns : int
            Time that was not task time. May hold waits; a few long ones do no harm.
        """
        cdef double step = QUANTILE if elapsed_ns > self.overhead_ns else QUANTILE - 1
        self.overhead_ns = clamp(
            self.overhead_ns * (1 + QUANTILE_STEP * step),
            LEAST_OVERHEAD * self.prior_ns,
            MOST_OVERHEAD * self.prior_ns,
        )

    cdef double target_ns(self) noexcept nogil:
        """How long a batch should take."""
        return clamp(self.overhead_ns / OVERHEAD_SHARE, MIN_BATCH_NS, max(MIN_BATCH_NS, self.max_batch_ns))

    cdef double mean_ns(self) noexcept nogil:
        """Time of a task lately: infinite before the first, never 0 where the clock is too coarse to see one."""
        return max(self.work_ns, 1) / self.tasks
