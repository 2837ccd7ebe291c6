"""Runs that are driven from Python: the calling thread takes the batches, has somebody else execute them, and brings in
what became of them.

For engines whose workers are not ours: executors, backends of third parties. Everything here belongs to the run's calling
thread, so nothing is shared; whatever reports the end of a batch in another thread leaves a message for the calling thread.
A run of this kind has one seat: its only worker, as far as it knows, is the calling thread.
"""

from cpython.mem cimport PyMem_RawRealloc
from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from fastpar._core.capi cimport fp_task
from fastpar._core.dispatch cimport Crew, Run
from fastpar._core.tasks cimport Batch


cdef class DrivenCrew(Crew):
    """Hands ready batches on.

    Parameters
    ----------
    start : callable
        Called with each `Batch` as soon as its tasks are read, in the calling thread. What it raises fails the run. Every
        batch that was given to it is given back: by `finish`, `fail` or `drop`.
    """

    def __cinit__(self, start):
        self.start = start

    cdef void summon(self, Run run) noexcept:
        # Comes from `Run.pull`, after a push: the seat is ours until a take finds nothing.
        cdef Batch batch = new_batch()
        while batch is not None and run.take(batch):
            fit(batch)
            try:
                self.start(batch)
            except BaseException as error:  # whatever the backend raises is the run's to report; its queue is closed then
                run._fail_with(error, -1, None)
            batch = new_batch()
        if batch is None:
            run.lose_worker(MemoryError("no memory for a batch of tasks"))


cdef Batch new_batch():
    try:
        return Batch()
    except MemoryError:
        return None


cdef void fit(Batch batch) noexcept:
    """Give back the room that the batch does not use: very many of them may be under way at once."""
    cdef void *tasks = PyMem_RawRealloc(batch.tasks, batch.n * sizeof(fp_task))
    cdef void *results = PyMem_RawRealloc(batch.results, batch.n * sizeof(PyObject *))
    if tasks != NULL:
        batch.tasks = <fp_task *>tasks
    if results != NULL:
        batch.results = <PyObject **>results
    batch.capacity = batch.n


def first_index(Batch batch):
    """The place in the source of the batch's first task; the others follow it."""
    return batch.tasks[0].index


def finish(Run run, Batch batch, results, int64_t total_ns, int64_t longest_ns):
    """Bring in the results of a batch, in the order of its tasks, and the time that all of them and the longest took."""
    cdef Py_ssize_t i
    if len(results) != batch.n:
        raise ValueError(f"the backend gave {len(results)} results for a batch of {batch.n} tasks")
    for i in range(batch.n):
        batch.set_result(i, results[i])
    run.finish(batch, total_ns, longest_ns, -1, 0)


def fail(Run run, Batch batch, error):
    """Bring in the exception of a batch: of its only task, or of one that the exception's notes name."""
    if batch.n == 1:
        run.fail(batch, 0, error)
    else:
        run._fail_with(error, -1, None)
    run.finish(batch, 0, 0, -1, 0)


def drop(Run run, Batch batch):
    """Expect nothing of a batch any more."""
    run.finish(batch, 0, 0, -1, 0)


def resize(Run run, Py_ssize_t size):
    """Read and take this many tasks at once from now on."""
    run.sizer.fixed = max(size, 1)  # no lock: all that reads it runs in this thread, or is a worker, of which there are none
