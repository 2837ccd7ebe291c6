"""What a worker process does with a batch: the loop over its tasks.

Runs in the worker's main thread. It shows on the board which task is running, so that the parent knows it where the worker
itself cannot say any more, and looks there whether it shall stop; both are plain stores and loads in shared memory.
"""

import os
import sys

from cpython.list cimport PyList_Append
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.signal cimport SIGKILL
from libc.stdint cimport int64_t, uint64_t

from fastpar._core.capi cimport fp_os_clock_ns
from fastpar._core.dispatch cimport n_forks
from fastpar._core.segments cimport Board, FP_PLACE_PACKING, fp_board, fp_board_get, fp_board_set
from fastpar.errors import user_traceback

cdef extern from "Python.h":
    object PyObject_Vectorcall(object function, PyObject **args, size_t n_args, PyObject *names)
    object PyObject_Call(object function, object args, object kwargs)

cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int option, unsigned long argument)
    int PR_SET_PDEATHSIG

cdef enum:
    MAX_ARGS = 32

#: Results of a batch that takes longer than this are sent as they come.
cdef int64_t DELIVER_NS = 50_000_000


cdef object call_row(object function, tuple columns, Py_ssize_t i):
    """Call with the arguments in row i of the columns."""
    cdef PyObject* args[MAX_ARGS]
    cdef Py_ssize_t j, n = PyTuple_GET_SIZE(columns)
    if n > MAX_ARGS:
        return function(*[column[i] for column in columns])
    for j in range(n):
        args[j] = PyTuple_GET_ITEM(<object>PyTuple_GET_ITEM(columns, j), i)
    return PyObject_Vectorcall(function, args, n, NULL)


cdef class Labor:
    """A batch in a worker.

    Parameters
    ----------
    board : Board
        This worker's.
    number : int
        The batch's.
    n : int
        How many tasks.
    budget_ns : int
        When the batch has run for so long, the rest is given back.
    function, columns
        Of all tasks, where they are alike; else None, and `tasks` holds ``(function, args, kwargs)`` for each.

    Attributes
    ----------
    n_done : int
        Tasks that have a result.
    results : list
        Those not yet sent.
    total_ns, longest_ns : int
        Time in the tasks whose results are in `results`.
    error : BaseException or None
        What the task at place `n_done` raised.
    """

    cdef fp_board *board
    cdef Board _board
    cdef int64_t number, budget_ns
    cdef Py_ssize_t n
    cdef object function
    cdef tuple columns
    cdef list tasks
    cdef readonly Py_ssize_t n_done
    cdef readonly list results
    cdef readonly int64_t total_ns, longest_ns
    cdef readonly object error
    cdef int64_t begun_ns

    def __cinit__(self, Board board, int64_t number, Py_ssize_t n, int64_t budget_ns, function, tuple columns, list tasks):
        self._board = board
        self.board = board.board
        self.number = number
        self.n = n
        self.budget_ns = budget_ns
        self.function = function
        self.columns = columns
        self.tasks = tasks
        self.results = []

    cdef object _call(self, Py_ssize_t i):
        if self.columns is not None:
            return call_row(self.function, self.columns, i)
        task = <tuple>self.tasks[i]
        return PyObject_Call(task[0], task[1], task[2])

    def work(self):
        """Run tasks until the batch ends, is over its budget, or is to stop; or until results should be sent.

        Returns
        -------
        bool
            True: there is more to come, send what is here and call again.
        """
        cdef int64_t started = fp_os_clock_ns(), last = started, now
        cdef uint64_t generation = n_forks
        cdef Py_ssize_t i = self.n_done
        cdef list results = []
        self.results = results
        self.longest_ns = 0
        if self.begun_ns == 0:
            self.begun_ns = started
        fp_board_set(&self.board.started_ns, started)
        try:
            while i < self.n and fp_board_get(&self.board.stop) != self.number:
                fp_board_set(&self.board.n_failed, 0)
                fp_board_set(&self.board.place, i)
                PyList_Append(results, self._call(i))
                if generation != n_forks:
                    end_child(None)
                i += 1
                self.n_done = i
                now = fp_os_clock_ns()
                fp_board_set(&self.board.started_ns, now)
                self.longest_ns = max(self.longest_ns, now - last)
                last = now
                if i < self.n and (now - self.begun_ns > self.budget_ns or now - started > DELIVER_NS):
                    break
        except BaseException as error:  # whatever a task raises is the parent's to judge
            if generation != n_forks:
                end_child(error)
            self.error = error
        fp_board_set(&self.board.place, FP_PLACE_PACKING)
        self.total_ns = last - started
        return (
            self.error is None and i < self.n and last - self.begun_ns <= self.budget_ns
            and fp_board_get(&self.board.stop) != self.number
        )


cdef int end_child(error) except -1:
    """End this process, a child that a task forked off, where the task ends: it is no worker. As a program would end."""
    status = 0 if error is None else 1
    try:
        if not isinstance(error, SystemExit):
            if error is not None:
                sys.excepthook(type(error), error, user_traceback(error))
        elif error.code is None or isinstance(error.code, int):
            status = error.code or 0
        else:
            print(error.code, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status & 0xFF)


def die_with_parent():
    """Have the kernel kill this process when the thread that forked it ends."""
    prctl(PR_SET_PDEATHSIG, SIGKILL)
