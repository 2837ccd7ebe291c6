"""The buffers of the arrays that a kernel is mapped over, and whether one loop may work on all of them.

Owns: `Held`, the rules of type, shape, rows and overlap, and what is said of an array that breaks one. Not its job: the
loop, and making an output (`fastpar._core.kernel`). A `Held` is used by the one thread whose call made it; the
functions read what they are given. Nothing rests on the GIL: the memory of a held buffer, its shape and its strides
stay as they are until it is released.
"""

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uintptr_t


cdef class Held:
    """The buffers of some arrays, until `release`."""

    cdef Py_buffer *hold(self, object array, bint writable, str format, str name) except NULL:
        cdef Py_buffer *buffer = &self.buffers[self.n]
        try:
            PyObject_GetBuffer(array, buffer, PyBUF_FORMAT | PyBUF_STRIDES | (PyBUF_WRITABLE if writable else 0))
        except (TypeError, BufferError, ValueError) as error:
            raise _as_array_error(array, writable, name, error)
        self.n += 1
        if buffer.format == NULL or (<bytes>buffer.format).decode() != format:
            raise TypeError(
                f"{name} is of type {_dtype_name(array)}, and the kernel takes "
                f"{'float64' if format == 'd' else 'float32'}: convert it with astype, "
                "or use a kernel of another signature"
            )
        return buffer

    cdef void release(self) noexcept:
        while self.n > 0:
            self.n -= 1
            PyBuffer_Release(&self.buffers[self.n])

    def __dealloc__(self):
        self.release()


cdef object _as_array_error(object array, bint writable, str name, object error):
    if writable and getattr(getattr(array, "flags", None), "writeable", True) is False:
        return ValueError(f"{name} is read-only, and the kernel writes there: give a writable array, or a copy")
    return TypeError(f"{name} is no array of numbers: {type(array).__name__} ({error})")


cdef object _dtype_name(object array):
    return getattr(array, "dtype", type(array).__name__)


cdef int check_shape(const Py_buffer *buffer, const Py_buffer *like, int n_dims, str name) except -1:
    cdef int dim
    cdef bint is_same = buffer.ndim == like.ndim or n_dims < like.ndim and buffer.ndim >= n_dims
    for dim in range(n_dims):
        is_same = is_same and buffer.shape[dim] == like.shape[dim]
    if not is_same:
        raise ValueError(
            f"{name} has shape {shape_of(buffer)} where {shape_of(like)} is needed: "
            "a kernel is mapped over arrays of one shape, use numpy.broadcast_to where they differ"
        )
    return 0


cdef tuple shape_of(const Py_buffer *buffer):
    return tuple([buffer.shape[dim] for dim in range(buffer.ndim)])


cdef int check_overlap(const Py_buffer *out, const Py_buffer *array, object out_array, object in_array) except -1:
    """An output may be an input itself, element on element; any other overlap makes the result depend on the order."""
    cdef uintptr_t bounds[4]
    cdef bint is_same = out.buf == array.buf and out.ndim == array.ndim
    cdef int dim
    for dim in range(out.ndim if is_same else 0):
        is_same = is_same and out.strides[dim] == array.strides[dim]
    if is_same:
        return 0
    find_bounds(out, bounds)
    find_bounds(array, bounds + 2)
    if bounds[1] <= bounds[2] or bounds[3] <= bounds[0]:
        return 0
    import numpy as np

    try:
        overlaps = np.shares_memory(np.asarray(out_array), np.asarray(in_array), max_work=100_000)
    except np.exceptions.TooHardError:
        overlaps = True
    if overlaps:
        raise ValueError("the output overlaps an input without being the same: give another array, or copy the input")
    return 0


cdef void find_bounds(const Py_buffer *buffer, uintptr_t *bounds) noexcept:
    cdef int64_t low = 0, high = buffer.itemsize, reach
    cdef int dim
    for dim in range(buffer.ndim):
        reach = (buffer.shape[dim] - 1) * buffer.strides[dim]
        if buffer.shape[dim] == 0:
            high = low
            break
        if reach < 0:
            low += reach
        else:
            high += reach
    bounds[0] = <uintptr_t>buffer.buf + low
    bounds[1] = <uintptr_t>buffer.buf + high


cdef int check_row(const Py_buffer *buffer, str name) except -1:
    if buffer.ndim == 0 or (buffer.shape[buffer.ndim - 1] > 1 and buffer.strides[buffer.ndim - 1] != buffer.itemsize):
        raise ValueError(f"rows of {name} are not contiguous: use numpy.ascontiguousarray")
    return 0
