"""Messages between two processes: a header of numbers, a short body, and descriptors, over a socket that keeps their borders.

A message arrives whole or not at all (SOCK_SEQPACKET), so there is no half-read state, and a sender that is killed can not
leave one. Bodies are short, `MAX_BODY_`: whatever is larger travels in a segment, of which the message has the descriptor.

Threads: a channel has one owner at a time; sending is one system call, so several threads may send.
"""

import _socket as socket  # the module around it costs milliseconds to import
import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.errno cimport EAGAIN, ECONNRESET, EINTR, ENOBUFS, EPIPE, errno
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from fastpar._core.capi cimport fp_os_clock_ns, fp_os_yield

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    struct iovec:
        void *iov_base
        size_t iov_len
    struct msghdr:
        void *msg_name
        socklen_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    cmsghdr *CMSG_FIRSTHDR(msghdr *message)
    unsigned char *CMSG_DATA(cmsghdr *control)
    size_t CMSG_LEN(size_t n)
    size_t CMSG_SPACE(size_t n)
    Py_ssize_t sendmsg(int fd, const msghdr *message, int flags)
    Py_ssize_t recvmsg(int fd, msghdr *message, int flags)
    int setsockopt(int fd, int level, int name, const void *value, socklen_t n)
    int SOL_SOCKET
    int SO_RCVTIMEO
    int SCM_RIGHTS
    int MSG_DONTWAIT
    int MSG_NOSIGNAL
    int MSG_CMSG_CLOEXEC
    int MSG_CTRUNC

cdef extern from "<sys/time.h>" nogil:
    struct timeval:
        long tv_sec
        long tv_usec

cdef extern from "<poll.h>" nogil:
    int poll(pollfd *fds, unsigned long n, int timeout_ms)
    short POLLIN
    short POLLOUT

cdef enum:
    CONTROL_BYTES = 2048

MAX_BODY, MAX_FDS = MAX_BODY_, MAX_FDS_

cdef enum:
    FIRST_POLL_MS = 50      # then signals are looked at: one that came just before the wait would not have ended it
    MAX_POLL_MS = 1 << 30
    WATCH_NS = 100_000      # twice what it takes to wake a sleeping thread where that means to wake its CPU, too

#: How long the kernel may have no memory for a message of somebody who waits: nothing tells when it has some again.
cdef int64_t SHORTAGE_NS = 1_000_000_000

#: Room in the socket: messages on their way before a sender has to wait.
cdef int SOCKET_BYTES = 1 << 20


def make_pair():
    """The two ends of a new channel, each as a `Channel`."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
    return Channel(ends[0].detach()), Channel(ends[1].detach())


cdef class Channel:
    """One end of a channel; owns its descriptor."""

    def __cinit__(self, int fd):
        self.fd = fd
        self.inbox = <char *>PyMem_RawMalloc(MAX_BODY_)
        if self.inbox == NULL:
            raise MemoryError("no memory for a channel")

    def __dealloc__(self):
        self.close()
        PyMem_RawFree(self.inbox)

    def close(self):
        """Close the descriptor; again is allowed."""
        cdef int fd = self.fd
        self.fd = -1
        if fd >= 0:
            os.close(fd)

    cpdef bint send(self, kind, numbers=(), bytes body=b"", fds=(), bint may_wait=False) except -1:
        """Send a message. False, unless it may wait: the socket is full, try again when it is writable.

        Raises
        ------
        ConnectionError
            If nobody is at the other end any more.
        OSError
            If it cannot be sent: it may wait, and the kernel has had no memory for it for a second, ...
        """
        cdef Header header
        cdef int[MAX_FDS_] c_fds
        cdef Py_ssize_t i
        memset(&header, 0, sizeof(Header))
        header.kind = kind
        header.n_bytes = PyBytes_GET_SIZE(body)
        for i, number in enumerate(numbers):
            header.numbers[i] = number
        if len(fds) > MAX_FDS_ or header.n_bytes > MAX_BODY_:
            raise ValueError(f"a message of {header.n_bytes} bytes and {len(fds)} descriptors is too large")
        for i, fd in enumerate(fds):
            c_fds[i] = fd
        return self._send(&header, PyBytes_AS_STRING(body), c_fds, <int>len(fds), may_wait)

    cdef bint _send(self, Header *header, const char *body, int *fds, int n_fds, bint may_wait) except -1:
        cdef iovec[2] parts
        cdef msghdr message
        cdef char[CONTROL_BYTES] control
        cdef cmsghdr *rights
        cdef Py_ssize_t sent
        cdef int64_t deadline = 0
        parts[0].iov_base = header
        parts[0].iov_len = sizeof(Header)
        parts[1].iov_base = <void *>body
        parts[1].iov_len = header.n_bytes
        memset(&message, 0, sizeof(message))
        message.msg_iov = parts
        message.msg_iovlen = 2 if header.n_bytes else 1
        if n_fds:
            message.msg_control = control
            message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int))
            memset(control, 0, message.msg_controllen)
            rights = CMSG_FIRSTHDR(&message)
            rights.cmsg_level = SOL_SOCKET
            rights.cmsg_type = SCM_RIGHTS
            rights.cmsg_len = CMSG_LEN(n_fds * sizeof(int))
            memcpy(CMSG_DATA(rights), fds, n_fds * sizeof(int))
        while True:
            with nogil:
                sent = sendmsg(self.fd, &message, MSG_NOSIGNAL | (0 if may_wait else MSG_DONTWAIT))
            if sent >= 0:
                return True
            if errno == EINTR:
                PyErr_CheckSignals()
            elif errno == EAGAIN or (errno == ENOBUFS and not may_wait):
                return False
            elif errno == ENOBUFS and (deadline == 0 or <int64_t>fp_os_clock_ns() < deadline):
                deadline = deadline or fp_os_clock_ns() + SHORTAGE_NS
                with nogil:
                    fp_os_yield()
                PyErr_CheckSignals()
            elif errno == EPIPE or errno == ECONNRESET:
                raise ConnectionResetError("the other end of the channel is closed")
            else:
                raise OSError(errno, os.strerror(errno))

    def receive(self, *, bint may_wait=False):
        """The next message as ``(kind, numbers, body, fds)``; None if there is none; kind -1: the other end is closed."""
        cdef Header header
        cdef int[MAX_FDS_] fds
        cdef int n_fds = 0
        cdef Py_ssize_t n = self._receive(&header, fds, &n_fds, may_wait)
        return None if n < 0 else self._message(n, &header, fds, n_fds)

    cdef tuple _message(self, Py_ssize_t n, Header *header, int *fds, int n_fds):
        """For Python: what has been received in n bytes."""
        cdef int i
        if n == 0:
            return -1, (), b"", []
        numbers = (
            header.numbers[0], header.numbers[1], header.numbers[2], header.numbers[3], header.numbers[4], header.numbers[5]
        )
        return header.kind, numbers, PyBytes_FromStringAndSize(self.inbox, header.n_bytes), [fds[i] for i in range(n_fds)]

    def be_patient(self, int64_t timeout_ns):
        """Let a `receive` that may wait do so for this long at most; it then returns None."""
        cdef timeval timeout
        if timeout_ns == self.patience_ns:
            return
        timeout.tv_sec = timeout_ns // 1_000_000_000
        timeout.tv_usec = max(<int64_t>1, timeout_ns % 1_000_000_000 // 1_000)
        if setsockopt(self.fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)):
            raise OSError(errno, os.strerror(errno))
        self.patience_ns = timeout_ns

    cdef Py_ssize_t _receive(self, Header *header, int *fds, int *n_fds, bint may_wait) except? -1:
        """Bytes received, 0 at the end, -1 without an exception if nothing is there."""
        cdef iovec[2] parts
        cdef msghdr message
        cdef char[CONTROL_BYTES] control
        cdef cmsghdr *rights
        cdef Py_ssize_t got
        n_fds[0] = 0
        parts[0].iov_base = header
        parts[0].iov_len = sizeof(Header)
        parts[1].iov_base = self.inbox
        parts[1].iov_len = MAX_BODY_
        memset(&message, 0, sizeof(message))
        message.msg_iov = parts
        message.msg_iovlen = 2
        message.msg_control = control
        message.msg_controllen = CMSG_SPACE(MAX_FDS_ * sizeof(int))
        while True:
            with nogil:
                got = recvmsg(self.fd, &message, MSG_CMSG_CLOEXEC | (0 if may_wait else MSG_DONTWAIT))
            if got >= 0:
                break
            if errno == EINTR:
                PyErr_CheckSignals()
            elif errno == EAGAIN:
                return -1
            elif errno != ECONNRESET:  # said once, of an end that had unread messages; what it had sent comes after it
                raise OSError(errno, os.strerror(errno))
        rights = CMSG_FIRSTHDR(&message)
        if rights != NULL and rights.cmsg_type == SCM_RIGHTS:
            n_fds[0] = <int>((rights.cmsg_len - CMSG_LEN(0)) / sizeof(int))
            memcpy(fds, CMSG_DATA(rights), n_fds[0] * sizeof(int))
        if message.msg_flags & MSG_CTRUNC:
            for i in range(n_fds[0]):
                os.close(fds[i])
            n_fds[0] = 0
            raise OSError(24, "too many open files to receive what a worker sent: raise ulimit -n")
        return got


cdef class Poller:
    """Waits for channels: until one of them can be read, or written."""

    def __dealloc__(self):
        PyMem_RawFree(self.items)

    cdef int make_room(self, Py_ssize_t n) except -1:
        """For n descriptors."""
        if n <= self.capacity:
            return 0
        PyMem_RawFree(self.items)
        self.capacity = 0
        self.items = <pollfd *>PyMem_RawMalloc(2 * n * sizeof(pollfd))
        if self.items == NULL:
            raise MemoryError("no memory to wait for channels")
        self.capacity = 2 * n
        return 0

    cdef void watch(self, Py_ssize_t i, int fd, bint for_room) noexcept:
        """In place i: wait for this descriptor to be read, and for room to write if that is wanted."""
        self.items[i].fd = fd
        self.items[i].events = POLLIN | POLLOUT if for_room else POLLIN

    cdef bint is_ready(self, Py_ssize_t i) noexcept:
        return self.items[i].revents != 0

    cdef int watch_out(self, Py_ssize_t n) except -1:
        """How many of the first n are ready, or become so in a moment: looks again and again, and does not sleep."""
        cdef int n_ready
        cdef int64_t deadline = fp_os_clock_ns() + WATCH_NS
        with nogil:
            while True:
                n_ready = poll(self.items, n, 0)
                if n_ready != 0 or <int64_t>fp_os_clock_ns() > deadline:
                    break
                fp_os_yield()
        return max(0, n_ready)  # errors are the wait's business

    cdef int wait(self, Py_ssize_t n, int64_t timeout_ns) except -1:
        """How many of the first n are ready; 0 when the time is over. Signal handlers run meanwhile."""
        cdef int n_ready, timeout_ms, most_ms = FIRST_POLL_MS
        cdef int64_t deadline = fp_os_clock_ns() + max(<int64_t>0, timeout_ns), left = timeout_ns
        while True:
            timeout_ms = most_ms if timeout_ns < 0 else <int>min(<int64_t>most_ms, (left + 999_999) // 1_000_000)
            with nogil:
                n_ready = poll(self.items, n, timeout_ms)
            if n_ready > 0:
                return n_ready
            if n_ready < 0 and errno != EINTR:
                raise OSError(errno, os.strerror(errno))
            PyErr_CheckSignals()
            if timeout_ns >= 0:
                left = max(<int64_t>0, deadline - <int64_t>fp_os_clock_ns())
                if n_ready == 0 and left == 0:
                    return 0
            most_ms = MAX_POLL_MS if timeout_ns >= 0 else -1
