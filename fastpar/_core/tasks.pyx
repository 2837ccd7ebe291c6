"""A task, and a batch of tasks on its way through one worker.

A task is the plain tuple ``(function, args, kwargs)``. Between the source and its result it has one owner at a time,
who holds one reference: the queue, then a batch. Nothing here is shared between threads.
"""

from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.tuple cimport PyTuple_GET_SIZE

from fastpar._core.capi cimport fp_task


cdef class Batch:
    """Tasks on their way through one worker, and their results."""

    def __cinit__(self):
        if self.make_room(64) < 1:
            raise MemoryError("no memory for a batch of tasks")

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

    cdef Py_ssize_t make_room(self, Py_ssize_t n) noexcept:
        """Grow an empty batch to n tasks; returns how many of them fit, fewer where memory is short."""
        cdef void *tasks
        cdef void *results
        if n <= self.capacity:
            return n
        tasks = PyMem_RawMalloc(n * sizeof(fp_task))
        results = PyMem_RawMalloc(n * sizeof(PyObject *))
        if tasks == NULL or results == NULL:
            PyMem_RawFree(tasks)
            PyMem_RawFree(results)
            return self.capacity
        PyMem_RawFree(self.tasks)
        PyMem_RawFree(self.results)
        self.tasks = <fp_task *>tasks
        self.results = <PyObject **>results
        self.capacity = n
        return n

    cdef tuple task(self, Py_ssize_t i):
        return <tuple><PyObject *>self.tasks[i].item

    cdef void set_result(self, Py_ssize_t i, object result) noexcept:
        Py_INCREF(result)
        self.results[i] = <PyObject *>result
        self.n_done = i + 1

    cdef void clear(self) noexcept:
        """Release tasks and undelivered results. May run finalizers, so never under a lock."""
        cdef Py_ssize_t i, n = self.n, n_done = self.n_done, n_delivered = self.n_delivered
        self.n = self.n_done = self.n_delivered = 0
        for i in range(n):
            Py_DECREF(<object><PyObject *>self.tasks[i].item)
        for i in range(n_delivered, n_done):
            Py_DECREF(<object>self.results[i])


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
