from libc.stdint cimport int64_t

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents

cdef enum:
    MAX_FDS_ = 250        # the kernel lets a message carry 253
    MAX_BODY_ = 1 << 16

# The kinds and the status that compiled code knows; engines/processes/protocol.py has them all.
cdef enum:
    MESSAGE_BATCH = 11
    MESSAGE_RESULTS = 21
    STATUS_DONE = 0


cdef struct Header:
    int64_t kind
    int64_t n_bytes       # of the body
    int64_t[6] numbers    # their meaning is the kind's


cdef class Channel:
    # Owner: one thread at a time.
    cdef readonly int fd
    cdef char *inbox
    cdef int64_t patience_ns

    cpdef bint send(self, kind, numbers=*, bytes body=*, fds=*, bint may_wait=*) except -1
    cdef tuple _message(self, Py_ssize_t n, Header *header, int *fds, int n_fds)
    cdef Py_ssize_t _receive(self, Header *header, int *fds, int *n_fds, bint may_wait) except? -1
    cdef bint _send(self, Header *header, const char *body, int *fds, int n_fds, bint may_wait) except -1


cdef class Poller:
    cdef pollfd *items
    cdef Py_ssize_t capacity

    cdef int make_room(self, Py_ssize_t n) except -1
    cdef void watch(self, Py_ssize_t i, int fd, bint for_room) noexcept
    cdef bint is_ready(self, Py_ssize_t i) noexcept
    cdef int watch_out(self, Py_ssize_t n) except -1
    cdef int wait(self, Py_ssize_t n, int64_t timeout_ns) except -1
