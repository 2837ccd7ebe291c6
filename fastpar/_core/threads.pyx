"""The thread engine's inner loop: Python threads that outlive calls, and what they do with a task.

Owns: the pool of parked threads and the loop from taking a batch to delivering it, which costs a call in C for a batch
and next to nothing for a task. Not its job: when tasks are ready and how many workers a run wants (`dispatch`), inner
thread limits and settings (`engines.threads`).

A worker is in one of four states: *idle* (on the pool's list, parked on its own permit), *coming* (to a run that has
summoned it), *seated* (in that run, until its queue has nothing ready), or *gone*. It waits in one place only, the
pool. Summoning, which any thread may do, takes the last idle worker, diverts one that comes too late to where it was
called, or starts a thread.
"""

import itertools
import threading

from fastpar.errors import add_task_note

from cpython.list cimport PyList_Append, PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_GET_SIZE
from libc.stdint cimport int64_t

from fastpar._core.capi cimport (
    FP_PARKED_PERMIT,
    fp_mutex_init,
    fp_mutex_lock,
    fp_mutex_unlock,
    fp_os_clock_ns,
    fp_os_thread_cpu_ns,
    fp_park,
    fp_parked,
    fp_parker_init,
    fp_unpark,
)
from fastpar._core.dispatch cimport Crew, Run
from fastpar._core.tasks cimport Batch, as_task

cdef extern from *:
    """
    /* The arguments of a tuple as a C array: a vector call needs no other copy of them. */
    #define fp_tuple_items(tuple) (((PyTupleObject *)(tuple))->ob_item)
    """
    PyObject **fp_tuple_items(object args_tuple)

cdef extern from "Python.h":
    object PyObject_Vectorcall(object function, PyObject **args, size_t n_args, PyObject *names)
    object PyObject_Call(object function, object args, object kwargs)
    object PyWeakref_NewRef(object referent, object callback)
    object PyContext_Copy(object context)
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1

# Results of a batch that takes longer than this are delivered as they come: a progress bar or a generator's reader
# should not have to wait for the batch that a user made large.
cdef int64_t DELIVER_NS = 50_000_000

# A thread's CPU clock is a system call of 200 ns: read after batches to which that is nothing.
cdef int64_t CPU_NS = 1_000_000

# Kernels run in one go without the GIL, as many as take about so long: in between the run may be stopped.
cdef int64_t KERNELS_NS = 250_000
cdef Py_ssize_t FIRST_KERNELS = 16


kernel_type = None
run_kernels = NULL


cdef inline Py_ssize_t run_some(Batch batch, Py_ssize_t i, Py_ssize_t n_most) except -1:
    """Run task i of a batch, or up to `n_most` from there on that are kernels; how many."""
    cdef tuple task = batch.task(i)
    cdef Py_ssize_t n_run = 0
    if kernel_type is not None and type(task[0]) is kernel_type:
        n_run = run_kernels(batch, i, n_most)
    if n_run == 0:
        batch.set_result(i, call_task(task))
        n_run = 1
    return n_run


cdef inline object call_task(tuple task):
    """Run one task."""
    cdef object args = <object>task[1]
    cdef object kwargs = <object>task[2]
    if len(<dict>kwargs) == 0:
        return PyObject_Vectorcall(task[0], fp_tuple_items(args), PyTuple_GET_SIZE(args), NULL)
    return PyObject_Call(task[0], args, kwargs)


def run_serial(source, list results):
    """Run every task in the calling thread, one after the other, and append the results."""
    cdef tuple task = None
    try:
        for item in source:
            task = as_task(item, PyList_GET_SIZE(results))
            PyList_Append(results, call_task(task))
            task = None
    except BaseException as error:
        if task is not None:  # else it is the source's own
            add_task_note(error, len(results), task)
        raise


def call_if_free(lock, function):
    """Call a function with a lock held, unless somebody else has it; whether it was called.

    Compiled, because Python looks for signals between two lines: a Ctrl-C there would leave the lock held for ever.
    """
    if not lock.acquire(False):
        return False
    try:
        function()
    finally:
        lock.release()
    return True


cdef struct Shift:
    # One worker's stay in one run; the worker's own.
    int64_t left_at  # when its previous batch ended, 0 for none
    int64_t cpu_ns   # its CPU clock when last read


cdef int run_batch(Run run, Batch batch, Shift *shift) except -1:
    """Run a batch and deliver it."""
    cdef int64_t started = fp_os_clock_ns()
    cdef int64_t overhead = started - shift.left_at if shift.left_at else -1
    cdef int64_t delivered = started, last = started, now, longest = 0
    cdef Py_ssize_t i = 0, n = batch.n, n_run, n_kernels = FIRST_KERNELS
    try:
        while i < n and not run.is_stopped():
            n_run = run_some(batch, i, n_kernels)
            i += n_run
            now = fp_os_clock_ns()
            longest = max(longest, (now - last) // n_run)
            if n_run == n_kernels:
                n_kernels = n_kernels * 4 if now - last < KERNELS_NS else max(1, n_kernels // 4)
            last = now
            if now - delivered > DELIVER_NS and i < n:
                run.deliver(batch, now - delivered, longest)
                delivered = now
                longest = 0
            if now - started > batch.budget_ns and i < n and run.put_back(batch, i):
                break
    except BaseException as error:  # whatever a task raises is the run's to report
        if batch.n_done > batch.n_delivered:
            run.deliver(batch, last - delivered, longest)  # after a failure no results are taken any more
        run.fail(batch, i, error)
    run.finish(batch, last - delivered, longest, overhead, cpu_since(shift) if last - started > CPU_NS else 0)
    shift.left_at = fp_os_clock_ns()
    return 0


cdef int64_t cpu_since(Shift *shift) noexcept:
    """CPU time since this was last asked."""
    cdef int64_t before = shift.cpu_ns
    shift.cpu_ns = fp_os_thread_cpu_ns()
    return shift.cpu_ns - before


cdef int serve(Run run, Batch batch) except -1:
    """Take batches until there are none. The worker's seat is given up with the last, empty take."""
    cdef Shift shift
    shift.left_at = 0
    shift.cpu_ns = fp_os_thread_cpu_ns()
    while run.take(batch):
        run_batch(run, batch, &shift)
    return 0


cdef class Worker:
    """One thread of the pool."""

    def __cinit__(self):
        fp_parker_init(&self.parker)
        self.batch = Batch()


cdef class Team(Crew):
    """The crew of one threaded run: how its workers are summoned, and what each does on joining.

    Parameters
    ----------
    pool : ThreadPool
        Where workers come from.
    context : contextvars.Context
        Each worker runs its tasks in a copy of it.
    n_workers : int
        How many workers may be in the run at once.
    enter : callable
        Called in the worker's context, with its rank in ``range(n_workers)``, before it takes tasks.
    caller_helps : bool
        Whether the calling thread may run tasks that take less time than handing them over does. It is then one of the
        `n_workers`; while it runs a task, it neither reads the source nor watches a time limit.
    """

    def __cinit__(self, ThreadPool pool, context, Py_ssize_t n_workers, enter, *, bint caller_helps):
        fp_mutex_init(&self.lock)
        self.batch = Batch()
        self.caller_helps = caller_helps
        self.pool = pool
        self.context = context
        self.n_workers = n_workers
        self.enter = enter

    cdef void summon(self, Run run) noexcept:
        self.pool.assign(run)

    cdef bint takes_seat(self, Run run) noexcept:
        # Waking a worker costs more than ten tiny tasks. Before any was measured, the latest call is the best guess.
        return self.caller_helps and (run.has_tiny_tasks() or self.pool.expects_tiny(run.first_function))

    def remember(self, Run run):
        """At the end of a run: note for the next call whether its tasks were tiny."""
        self.pool.remember(run.first_function, run.has_tiny_tasks())

    def step(self, Run run, int64_t timeout_ns):
        """The session's `step`."""
        try:
            run.pull(timeout_ns != 0)
        except BaseException:  # the source's: the run is about to be cancelled
            if run.is_seated:
                run.is_seated = False
                run.leave()
            raise
        if run.is_seated:
            run.is_seated = False
            self.help(run)
        return run.wait(timeout_ns)

    cdef int help(self, Run run) except -1:
        """Run tasks in the calling thread as long as they are tiny."""
        cdef Shift shift
        shift.left_at = 0
        shift.cpu_ns = fp_os_thread_cpu_ns()
        context = PyContext_Copy(self.context)
        PyContext_Enter(context)
        try:
            while run.take(self.batch):
                run_batch(run, self.batch, &shift)
                if not run.has_tiny_tasks():
                    self.summon(run)  # the seat is another worker's from here on
                    return 0
        finally:
            PyContext_Exit(context)
        return 0

    cdef Py_ssize_t next_rank(self) noexcept:
        # Ranks go round as workers leave and others join: two may share one for a while, which the budget forgives.
        cdef Py_ssize_t rank
        fp_mutex_lock(&self.lock)
        rank = self.n_joined % self.n_workers
        self.n_joined += 1
        fp_mutex_unlock(&self.lock)
        return rank

    cdef int work(self, Run run, Worker worker) except -1:
        """Serve a run from the seat reserved for the worker, until the seat is given up."""
        context = PyContext_Copy(self.context)
        PyContext_Enter(context)
        try:
            self.enter(self.next_rank())
        except BaseException as error:
            run.lose_worker(error)
        else:
            serve(run, worker.batch)
        finally:
            PyContext_Exit(context)
        return 0


cdef bint is_of_handler(error):
    """Whether a signal handler has raised this where a thread was started; else that could not be done.

    Then it is an error of Python's own: a class of a user's may derive from one.
    """
    return not (isinstance(error, (RuntimeError, MemoryError)) and type(error).__module__ == "builtins")


cdef class ThreadPool:
    """Threads that outlive calls. Safe to use from any thread; a forked child calls `forget` first."""

    def __cinit__(self):
        self.forget()

    def forget(self):
        """In a forked child: start with no threads, for none of them is there."""
        fp_mutex_init(&self.lock)
        self.idle = []
        self.coming = []
        self.is_closed = False
        self.numbers = itertools.count(1)

    cdef bint expects_tiny(self, object function) noexcept:
        """Whether the tasks of the latest call had this function, and were tiny."""
        fp_mutex_lock(&self.lock)
        reference = self.tiny_function
        fp_mutex_unlock(&self.lock)
        return reference is not None and reference() is function

    cdef int remember(self, object function, bint tiny) except -1:
        """Note the function of a call that ends, if its tasks were tiny.

        One is enough: this is for warm calls in a loop. Weakly, since the function is the user's.
        """
        try:
            reference = PyWeakref_NewRef(function, None) if tiny else None
        except TypeError:
            reference = None  # of a kind that has no weak references
        fp_mutex_lock(&self.lock)
        reference, self.tiny_function = self.tiny_function, reference  # the old one is released after the lock
        fp_mutex_unlock(&self.lock)
        return 0

    @property
    def n_idle(self):
        """Threads that are parked now."""
        return len(self.idle)

    cdef void assign(self, Run run) noexcept:
        """Bring a worker to a run that has reserved a seat for it: an idle one, a late one, or a new one."""
        cdef Worker worker
        cdef Run missed
        try:
            worker = self._call_idle(run)
            if worker is not None:
                fp_unpark(&worker.parker)
                return
            missed = self._divert_late(run)
            if missed is not None:
                missed.leave()
                return
            self._start(run)
        except BaseException as error:
            run.lose_worker(error)
            if is_of_handler(error):
                run._fail_with(error, -1, None)

    cdef Worker _call_idle(self, Run run):
        cdef Worker worker = None
        fp_mutex_lock(&self.lock)
        try:
            if PyList_GET_SIZE(self.idle) > 0:
                PyList_Append(self.coming, <object>PyList_GET_ITEM(self.idle, PyList_GET_SIZE(self.idle) - 1))
                worker = self.idle.pop()
                worker.run = run
        finally:
            fp_mutex_unlock(&self.lock)
        return worker

    cdef Run _divert_late(self, Run run):
        """Send a worker here that is on its way to a run that has ended; returns the run it was on its way to.

        A worker that a tiny call has summoned may still wait for the GIL when the next call begins. If that one started
        another thread, a loop of tiny calls would start very many.
        """
        cdef Run missed = None
        fp_mutex_lock(&self.lock)
        for item in self.coming:
            if (<Worker>item).run.is_stopped():
                missed, (<Worker>item).run = (<Worker>item).run, run
                break
        fp_mutex_unlock(&self.lock)
        return missed

    cdef int _start(self, Run run) except -1:
        cdef Worker worker = Worker()
        cdef Run missed
        name = f"fastpar-{next(self.numbers)}"
        worker.thread = threading.Thread(target=_live, args=(self, worker), name=name, daemon=True)
        worker.run = run
        fp_mutex_lock(&self.lock)
        try:
            self.is_closed = False
            PyList_Append(self.coming, worker)
        finally:
            fp_mutex_unlock(&self.lock)
        try:
            worker.thread.start()
        except BaseException as error:
            missed = self._arrive(worker)  # it may have been diverted meanwhile; None: the thread did come
            if missed is not None:
                missed.lose_worker(error)
            if is_of_handler(error):
                run._fail_with(error, -1, None)
        return 0

    cdef Run _arrive(self, Worker worker):
        """The run that the worker is to serve, which is fixed from here on; None: the pool was closed."""
        cdef Run run
        fp_mutex_lock(&self.lock)
        run, worker.run = worker.run, None
        remove(self.coming, worker)
        fp_mutex_unlock(&self.lock)
        return run

    cdef bint _park(self, Worker worker) except -1:
        """Wait for the next assignment. False: the pool is closed."""
        cdef fp_parked parked
        fp_mutex_lock(&self.lock)
        try:
            if self.is_closed:
                return False
            PyList_Append(self.idle, worker)
        finally:
            fp_mutex_unlock(&self.lock)
        with nogil:
            parked = fp_park(&worker.parker, -1)
            while parked != FP_PARKED_PERMIT:  # a signal; its handler is the main thread's business
                parked = fp_park(&worker.parker, -1)
        return True

    def close(self):
        """End the idle threads and wait until they are gone; those still in a task end after it.

        The next run that needs a thread starts one, and with that the pool is open again.
        """
        cdef Worker worker
        cdef list idle = []  # made outside the lock: making a list may run the collector
        fp_mutex_lock(&self.lock)
        self.is_closed = True
        idle, self.idle = self.idle, idle
        fp_mutex_unlock(&self.lock)
        for worker in idle:
            fp_unpark(&worker.parker)
        for worker in idle:
            worker.thread.join()


cdef void remove(list workers, Worker worker) noexcept:
    """Take one worker off a list, in no order; called under the pool's lock."""
    cdef Py_ssize_t i, last = PyList_GET_SIZE(workers) - 1
    for i in range(last + 1):
        if PyList_GET_ITEM(workers, i) == <PyObject *>worker:
            workers[i] = workers[last]
            workers.pop()
            return


def _live(ThreadPool pool, Worker worker):
    """The life of a worker thread."""
    cdef Run run = pool._arrive(worker)
    while run is not None:
        (<Team>run.crew).work(run, worker)
        run = None  # a parked thread keeps nothing of the last call alive
        if not pool._park(worker):
            return
        run = pool._arrive(worker)
