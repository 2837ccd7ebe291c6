"""Runs whose workers are elsewhere, and answer by messages: what the calling thread does in their place.

To its run, each worker sits on seats of its own and pulls, like a thread does. Here the calling thread moves for it: it
takes a batch on the worker's behalf, sends it, and brings in what the worker says of it. So everything in this file belongs
to the run's calling thread, and nothing is shared.
"""

from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport int64_t

from fastpar._core.capi cimport fp_queue_n_ready
from fastpar._core.atoms cimport is_atom
from fastpar._core.dispatch cimport Crew, Run
from fastpar._core.tasks cimport Batch


cdef class RemoteCrew(Crew):
    """Counts the workers that the run has asked for; the calling thread brings them after each of its moves.

    Attributes
    ----------
    seats : set of Seat
        Those that have been brought, and not been given up: when the run is over there are none.
    """

    def __cinit__(self):
        self.needs_caller = True
        self.seats = set()

    cdef void summon(self, Run run) noexcept:
        self.n_summoned += 1

    def answer_summons(self):
        """Whether a worker is to be brought: called until it says no, and each time a `Seat` is made, be it to leave."""
        if self.n_summoned == 0:
            return False
        self.n_summoned -= 1
        return True


cdef class Seat:
    """What one worker has of a run: the batch that it works on.

    A worker has as many of them as it holds batches.

    Parameters
    ----------
    run : Run
        In which a seat has been reserved.
    """

    def __init__(self, Run run):
        self.run = run
        self.crew = run.crew
        self.batch = Batch()
        self.crew.seats.add(self)

    cpdef bint take(self):
        """Take the next batch. False: nothing is ready, and the seat is given up."""
        self.is_spoilt = False
        if self.run.take(self.batch):
            return True
        self.crew.seats.discard(self)
        return False

    cdef int top_up(self) except -1:
        """Read some of the source if nothing is ready: a seat that is given up has to be brought again.

        Not of one that takes its time: whoever reads that looks for messages afterwards.
        """
        if fp_queue_n_ready(self.run.queue) == 0 and not self.run.is_source_slow:
            self.run.pull(False)
        return 0

    def leave(self):
        """Give the seat up; nothing is expected of its batch any more."""
        self.crew.seats.remove(self)
        self.drop()
        self.run.leave()

    @property
    def budget_ns(self):
        """Time after which the worker gives the unstarted rest of its batch back."""
        return self.batch.budget_ns

    def index(self, Py_ssize_t place):
        """Where in the source the task at this place of the batch stood."""
        return self.batch.tasks[place].index

    def deliver(self, list results, int64_t total_ns, int64_t longest_ns):
        """Bring in the results of the next tasks of the batch, which goes on."""
        self._store(results)
        self.run.deliver(self.batch, total_ns, longest_ns)

    cpdef settle(self, list results, int64_t total_ns, int64_t longest_ns, int64_t overhead_ns):
        """Bring in the results of the last tasks that ran, and return those that did not."""
        self._store(results)
        if self.batch.n_done < self.batch.n:
            self.run.put_back(self.batch, self.batch.n_done)  # else the run has ended, and drops them
        self.run.finish(self.batch, total_ns, longest_ns, overhead_ns, 0)

    cdef int _store(self, list results) except -1:
        cdef Py_ssize_t i, n = PyList_GET_SIZE(results)
        if n > self.batch.n - self.batch.n_done:
            raise AssertionError(f"{n} results for {self.batch.n - self.batch.n_done} tasks")
        for i in range(n):
            self.batch.set_result(self.batch.n_done, <object>PyList_GET_ITEM(results, i))
        return 0

    def replace(self, Py_ssize_t place, tuple task):
        """Put another task where the one at this place is."""
        cdef PyObject *old = <PyObject *>self.batch.tasks[place].item
        Py_INCREF(task)
        self.batch.tasks[place].item = <PyObject *>task
        Py_DECREF(<object>old)

    def settle_one(self, Py_ssize_t place, result):
        """Bring in a result for the task at this place, and return all others that have none."""
        cdef Py_ssize_t first = self.batch.n_done
        self.batch.tasks[first], self.batch.tasks[place] = self.batch.tasks[place], self.batch.tasks[first]
        self.settle([result], 0, 0, -1)

    def fail(self, Py_ssize_t place, error):
        """The task at this place has failed: the run stops."""
        self.run.fail(self.batch, place, error)

    def drop(self):
        """Expect nothing of the batch any more."""
        self.run.finish(self.batch, 0, 0, -1, 0)


def fail_without_task(Run run, error):
    """End a run for a reason that is no task's."""
    run._fail_with(error, -1, None)


cpdef tuple columns(Batch batch):
    """A batch as ``(function, columns)``, if all its tasks call the same function with equally many positional arguments.

    None if they do not. A column is the tuple of the tasks' arguments at one position: to pickle it costs a fraction of
    what a tuple for every task does.
    """
    cdef Py_ssize_t i, j, n = batch.n
    cdef tuple task = batch.task(0), args = <tuple>task[1]
    cdef PyObject *function = PyTuple_GET_ITEM(task, 0)
    cdef Py_ssize_t n_args = PyTuple_GET_SIZE(args)
    cdef tuple column
    for i in range(n):
        task = batch.task(i)
        if PyTuple_GET_ITEM(task, 0) != function or PyTuple_GET_SIZE(<tuple>task[1]) != n_args or <dict>task[2]:
            return None
    table = []
    for j in range(n_args):
        column = PyTuple_New(n)
        for i in range(n):
            value = <object>PyTuple_GET_ITEM(<tuple>(batch.task(i)[1]), j)
            Py_INCREF(value)
            PyTuple_SET_ITEM(column, i, value)
        table.append(column)
    return <object>function, tuple(table)


cdef enum:
    LARGE = 1 << 15  # OUT_OF_BAND_BYTES: from here on text and bytes are not sent again and again


cpdef bint is_plain(tuple columns):
    """Whether the columns hold numbers, short text and None only: nothing that needs a pickler of ours."""
    cdef Py_ssize_t i
    cdef tuple column
    for column in columns:
        previous = None
        for i in range(PyTuple_GET_SIZE(column)):
            kind = type(<object>PyTuple_GET_ITEM(column, i))
            if kind is not previous and not is_atom(kind):
                return False
            if (kind is str or kind is bytes) and len(<object>PyTuple_GET_ITEM(column, i)) >= LARGE:
                return False
            previous = kind
    return True
