"""Where the results of a run lie until somebody wants them.

One list serves all three ways of keeping results. A run that returns a list returns this very list. For generators the
front is cut off as it is consumed, so what stays is the window; results that are kept in the order of arrival get the
next free key as they come.

No method runs Python code or releases an object but PENDING, so the owner may hold its lock: results leave by pointer.
"""

from cpython.list cimport PyList_Append, PyList_GET_ITEM, PyList_GET_SIZE, PyList_SET_ITEM
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint64_t

from fastpar._core.capi cimport fp_os_clock_ns

cdef extern from "Python.h":
    int PyList_SetSlice(list target, Py_ssize_t low, Py_ssize_t high, PyObject *items) except -1

#: How results are kept, by the name `Parallel(return_as=...)` has for it.
KEEP = {"list": KEEP_LIST, "generator": KEEP_ORDER, "generator_unordered": KEEP_ARRIVAL}

cdef object PENDING = object()  # in a slot: the result is not there


cdef class Slots:
    """Result slots; see the module's docstring. `keep` is one of the values of `KEEP`."""

    def __cinit__(self, Keep keep):
        self.keep = keep
        self.items = []
        self.frontier_ns = fp_os_clock_ns()

    cdef int add(self, Py_ssize_t n) except -1:
        """Slots for n more tasks."""
        cdef Py_ssize_t i
        if self.frontier == self.base + PyList_GET_SIZE(self.items):  # nothing was missing, so nothing was waited for
            self.frontier_ns = fp_os_clock_ns()
        for i in range(n):
            PyList_Append(self.items, PENDING)
        return 0

    cdef void store(self, uint64_t index, PyObject *result) noexcept:
        """Take over the reference to the result of the task with this index."""
        cdef Py_ssize_t key = self.n_stored if self.keep == KEEP_ARRIVAL else <Py_ssize_t>index
        Py_DECREF(PENDING)  # one of very many: never the last
        PyList_SET_ITEM(self.items, key - self.base, <object>result)
        self.n_stored += 1

    cdef bint has_next(self) noexcept:
        """Whether the next result to consume is there."""
        cdef Py_ssize_t place = self.n_consumed - self.base
        return place < PyList_GET_SIZE(self.items) and PyList_GET_ITEM(self.items, place) != <PyObject *>PENDING

    cdef PyObject *pop(self) noexcept:
        """Consume the next result, which is there; the reference becomes the caller's."""
        cdef Py_ssize_t place = self.n_consumed - self.base
        cdef PyObject *result = PyList_GET_ITEM(self.items, place)
        Py_INCREF(PENDING)
        PyList_SET_ITEM(self.items, place, PENDING)
        self.n_consumed += 1
        self.cut_off(place + 1)
        return result

    cdef void cut_off(self, Py_ssize_t n) noexcept:
        # The first n slots are consumed and hold nothing but PENDING. In lots, so that each costs a constant.
        if n < 64 or 2 * n < PyList_GET_SIZE(self.items):
            return
        try:
            PyList_SetSlice(self.items, 0, n, NULL)
            self.base += n
        except MemoryError:
            pass  # the next lot will do

    cdef void advance_frontier(self) noexcept:
        cdef Py_ssize_t end = self.base + PyList_GET_SIZE(self.items)
        cdef Py_ssize_t frontier = max(self.frontier, self.n_consumed)
        while frontier < end and PyList_GET_ITEM(self.items, frontier - self.base) != <PyObject *>PENDING:
            frontier += 1
        if frontier != self.frontier:
            self.frontier = frontier
            self.frontier_ns = fp_os_clock_ns()

    cdef list take_all(self, list empty):
        """Give the whole list away, for an empty one."""
        items, self.items = self.items, empty
        return items

    cdef dict take_present(self):
        """Give the results that are there away, by key."""
        cdef list items = self.take_all([])
        return {self.base + i: item for i, item in enumerate(items) if item is not PENDING}
