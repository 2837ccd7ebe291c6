"""Which native libraries this process has loaded, and how often it has loaded one. Any thread may ask."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint64_t

from fastpar._core.capi cimport fp_os_list_libraries, fp_os_n_loads

cdef size_t USUAL_SIZE = 1 << 15  # of the list: Python with scikit-learn has 20 kB of paths


def n_loads():
    """How often libraries were loaded so far, by an import or otherwise; 0 where the system does not count."""
    cdef uint64_t n
    with nogil:  # a lock of the loader: whoever has it does not wait for us
        n = fp_os_n_loads()
    return n


def listing():
    """The paths of all loaded libraries, a line each, as bytes; None where the system has no list."""
    cdef size_t room = USUAL_SIZE, size
    cdef char *start
    while True:
        text = PyBytes_FromStringAndSize(NULL, room)
        start = PyBytes_AS_STRING(text)
        with nogil:
            size = fp_os_list_libraries(start, room)
        if size <= room:
            return text[:size] if size else None
        room = 2 * size  # more may be loaded meanwhile
