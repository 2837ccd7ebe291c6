from libc.stdint cimport int64_t

from fastpar._core.pool cimport fp_options


cdef class Kernel:
    # Constant once made, so any thread may use it.
    cdef void *address
    cdef void *data            # what its `void *data` is given where a call names none
    cdef readonly str signature
    cdef readonly str code     # the signature in short: see fastpar.kernels
    cdef readonly object owner # keeps the function, and the data, alive
    cdef object _make_callable # makes the next from the kernel
    cdef object _function      # what Python calls; made when it is first called


cdef class Loop:
    # The options of one loop, as the user gave them; its caller's.
    cdef fp_options options

    cdef int finish(self, int outcome, int64_t index, int code) except -1
