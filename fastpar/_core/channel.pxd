from libc.stdint cimport int64_t


cdef struct Header:
    int64_t kind
    int64_t n_bytes       # of the body
    int64_t[6] numbers    # their meaning is the kind's


cdef class Channel:
    # Owner: one thread at a time.
    cdef readonly int fd
    cdef char *inbox

    cdef Py_ssize_t _receive(self, Header *header, int *fds, int *n_fds, bint may_wait) except? -1
    cdef bint _send(self, Header *header, const char *body, int *fds, int n_fds, bint may_wait) except -1
