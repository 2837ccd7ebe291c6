from cpython.buffer cimport Py_buffer


cdef class Held:
    # Owner: the call that made it.
    cdef Py_buffer buffers[5]  # [:n] are held: the inputs, of which there are at most FP_MAP_MAX_INPUTS, and the output
    cdef int n

    cdef Py_buffer *hold(self, object array, bint writable, str format, str name) except NULL
    cdef void release(self) noexcept


# Each raises for what does not fit; `name` is what the message calls the array.
cdef int check_shape(const Py_buffer *buffer, const Py_buffer *like, int n_dims, str name) except -1
cdef int check_row(const Py_buffer *buffer, str name) except -1
cdef int check_overlap(const Py_buffer *out, const Py_buffer *array, object out_array, object in_array) except -1

cdef tuple shape_of(const Py_buffer *buffer)
