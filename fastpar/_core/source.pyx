"""The user's iterable, read some tasks at a time.

In the calling thread alone: it may hold connections, or use thread-locals.
"""

from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint64_t

from fastpar._core.capi cimport fp_os_clock_ns, fp_task
from fastpar._core.tasks cimport as_task

cdef extern from "Python.h":
    PyObject *PyIter_Next(object iterator) except? NULL

# A slow source must not keep tasks from idle workers while it fills a batch.
cdef uint64_t PATIENCE_NS = 200_000


cdef class Source:
    """Reads an iterator of tasks."""

    def __cinit__(self, iterator):
        self.iterator = iterator

    def __dealloc__(self):
        self.drop()
        PyMem_RawFree(self.tasks)

    cdef int read(self, Py_ssize_t limit, uint64_t first_index, bint is_patient) except -1:
        """Read up to `limit` tasks, fewer if that takes long and `is_patient` does not say to wait for all of them.

        An error of the iterator is raised as it is, and what was read before it is dropped.
        """
        cdef uint64_t deadline = fp_os_clock_ns() + PATIENCE_NS
        try:
            while self.n < limit:
                item = PyIter_Next(self.iterator)
                if item == NULL:
                    self.is_exhausted = True
                    break
                self.keep(<object>item, first_index + self.n)
                Py_DECREF(<object>item)
                if self.n < limit and not is_patient and fp_os_clock_ns() > deadline:
                    break
        except BaseException:
            self.drop()
            raise
        return 0

    cdef int keep(self, object item, uint64_t index) except -1:
        cdef Py_ssize_t capacity = max(2 * self.capacity, 64)
        if self.n == self.capacity:
            grown = PyMem_RawRealloc(self.tasks, capacity * sizeof(fp_task))
            if grown == NULL:
                raise MemoryError(f"no memory to read {self.n + 1} tasks at once")
            self.tasks = <fp_task *>grown
            self.capacity = capacity
        task = as_task(item, index)
        Py_INCREF(task)
        self.tasks[self.n].item = <void *>task
        self.tasks[self.n].index = index
        self.n += 1
        return 0

    cdef void hand_on(self) noexcept:
        """The tasks read so far are somebody else's now."""
        self.n = 0

    cdef void drop(self) noexcept:
        """Release the tasks read so far."""
        cdef Py_ssize_t i, n = self.n
        self.n = 0
        for i in range(n):
            Py_DECREF(<object><PyObject *>self.tasks[i].item)
