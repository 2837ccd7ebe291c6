"""Anonymous shared memory: segments, which carry buffers from process to process, and boards, on which a worker shows what
it is doing.

A segment has no name. It exists as long as a descriptor or a mapping of it does in any process, and the kernel frees it with
the last, however the processes end: nothing can be left behind. Its memory is reserved before it is written, so a full
machine is an exception here and never a SIGBUS later.

Threads: a segment is made and unmapped by whoever owns the object; the count of its holders is atomic, across processes too.
"""

import os

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from libc.errno cimport EINTR, errno
from libc.string cimport memcpy

from fastpar._core.capi cimport fp_mutex, fp_mutex_init, fp_mutex_lock, fp_mutex_unlock, fp_os_clock_ns

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t length)
    int mprotect(void *address, size_t length, int protection)
    int PROT_READ
    int PROT_WRITE
    int MAP_SHARED
    int MAP_PRIVATE
    int MAP_FIXED
    int MAP_POPULATE
    void *MAP_FAILED

cdef extern from "<fcntl.h>" nogil:
    int posix_fallocate(int fd, long offset, long length)

cdef enum:
    PAGE = 4096
    HEAD_BYTES = PAGE  # the bytes begin on a page of their own: mapping modes are a matter of pages

cdef fp_mutex lock           # for the list of the mapped segments
cdef PyObject *newest = NULL  # its head
cdef int n_mapped_ = 0       # and its length
cdef int n_open_ = 0         # those that have a descriptor, written with the GIL or roughly: it is kept roughly
cdef int generation = 0      # of this process: its parent's and one more
fp_mutex_init(&lock)

IDLE, UNPACKING, PACKING = FP_PLACE_IDLE, FP_PLACE_UNPACKING, FP_PLACE_PACKING
BATCHES_HELD = FP_BATCHES_HELD


def open_memory(folder=None):
    """A descriptor of new, empty memory without a name: in the kernel's own file system, or in a folder."""
    if folder is None and hasattr(os, "memfd_create"):
        return os.memfd_create("fastpar", os.MFD_CLOEXEC)
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
    except (AttributeError, OSError):  # a system or file system that has no such thing
        pass
    import tempfile
    fd, path = tempfile.mkstemp(prefix="fastpar-", dir=folder)
    os.unlink(path)
    return fd


cdef void enlist(Segment segment) noexcept:
    global newest, n_mapped_, n_open_
    fp_mutex_lock(&lock)
    segment.older = newest
    if newest != NULL:
        (<Segment>newest).newer = <PyObject *>segment
    newest = <PyObject *>segment
    n_mapped_ += 1
    n_open_ += 1
    fp_mutex_unlock(&lock)


cdef void delist(Segment segment) noexcept:
    global newest, n_mapped_
    fp_mutex_lock(&lock)
    if segment.older != NULL:
        (<Segment>segment.older).newer = segment.newer
    if segment.newer != NULL:
        (<Segment>segment.newer).older = segment.older
    else:
        newest = segment.older
    n_mapped_ -= 1
    fp_mutex_unlock(&lock)


def n_mapped():
    """How many segments this process has mapped."""
    return n_mapped_


def n_open():
    """About how many of them have a descriptor."""
    return n_open_


cdef int reserve(int fd, size_t size) except -1:
    """Make the file this large, its memory taken: what cannot be had is an error now."""
    cdef int status
    with nogil:
        status = posix_fallocate(fd, 0, <long>size)
        while status == EINTR:
            status = posix_fallocate(fd, 0, <long>size)
    if status:
        raise OSError(status, os.strerror(status))
    return 0


cdef class Segment:
    """Shared memory mapped into this process; exports its bytes as a buffer.

    Made by `create` and `attach`. Objects that use the buffer keep the segment; it is unmapped with the last of them.
    """

    def __cinit__(self):
        self.fd = -1
        self.mode = "r+"

    def __dealloc__(self):
        if self.base != NULL:
            delist(self)
            if self.generation == generation:  # else it is a fork's that was not counted
                fp_segment_release(<fp_segment_head *>self.base)  # the bytes may be anybody's from here on
            munmap(self.base, HEAD_BYTES + self.room)
        self.give_up_fd()

    @staticmethod
    def create(Py_ssize_t size, folder=None):
        """A new segment of `size` bytes, writable here.

        Raises
        ------
        OSError
            If there is no memory, or no room in the folder, for it.
        """
        cdef Segment segment = Segment()
        segment.fd = open_memory(folder)
        segment.room = max(PAGE, (size + PAGE - 1) & -PAGE)
        segment.size = size
        segment.is_writable = True
        reserve(segment.fd, HEAD_BYTES + segment.room)
        segment._map(MAP_POPULATE)
        segment.lend()  # to ourselves
        return segment

    @staticmethod
    def attach(int fd, Py_ssize_t size):
        """Map a segment that another process has lent to this one.

        Parameters
        ----------
        fd : int
            Its descriptor; it belongs to the segment from here on, on errors too.
        size : int
            Bytes that are used.
        """
        cdef Segment segment = Segment()
        segment.fd = fd
        segment.room = os.fstat(fd).st_size - HEAD_BYTES
        if size > segment.room:
            raise ValueError(f"a segment of {segment.room} bytes cannot hold {size}")
        segment.size = size
        segment.is_writable = True
        segment._map(0)
        return segment

    cdef int _map(self, int flags) except -1:
        cdef void *base
        cdef size_t length = HEAD_BYTES + self.room
        with nogil:
            base = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | flags, self.fd, 0)
        if base == MAP_FAILED:
            raise OSError(errno, os.strerror(errno))
        self.base = <char *>base
        self.generation = generation
        enlist(self)
        return 0

    def protect(self, mode):
        """Change what this process may do with the bytes, before they are used.

        Parameters
        ----------
        mode : {'r', 'r+', 'c'}
            Read; write for all; or write for this process alone, copied page by page as it is written.
        """
        cdef void *bytes_ = self.base + HEAD_BYTES
        cdef int status = 0
        if mode == "r":
            status = mprotect(bytes_, self.room, PROT_READ)
        elif mode == "c":
            if mmap(bytes_, self.room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, self.fd, HEAD_BYTES) == MAP_FAILED:
                status = -1
        if status:
            raise OSError(errno, os.strerror(errno))
        self.is_writable = mode != "r"
        self.mode = mode

    cdef void _make_private(self) noexcept:
        # Where there is no descriptor, or no memory to manage it with, writes are seen by the parent: nothing can be done.
        if self.fd >= 0 and self.is_writable and not self.is_shared:
            mmap(self.base + HEAD_BYTES, self.room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, self.fd, HEAD_BYTES)

    def private(self):
        """The same bytes mapped once more, for this process to write to a copy of its own."""
        cdef int fd = os.dup(self.fd)
        self.lend()
        cdef Segment segment = Segment.attach(fd, self.size)
        segment.protect("c")
        return segment

    def offset_of(self, size_t address):
        """Where among the bytes an address is."""
        return address - <size_t>(self.base + HEAD_BYTES)

    def lend(self):
        """Count one more holder: the process that is being sent the segment, whose `attach` takes this over."""
        fp_segment_hold(<fp_segment_head *>self.base)

    @property
    def n_holders(self):
        """How many mappings of this memory there are in all processes; 1: nobody else can see it."""
        return fp_segment_n_holders(<fp_segment_head *>self.base)

    def resize(self, Py_ssize_t size):
        """Use another number of its bytes, before it is exported."""
        if not 0 <= size <= self.room:
            raise ValueError(f"a segment of {self.room} bytes cannot hold {size}")
        self.size = size

    def give_up_fd(self):
        """Close the descriptor; the mapping stays."""
        global n_open_
        cdef int fd = self.fd
        self.fd = -1
        if fd >= 0:
            n_open_ -= self.base != NULL
            os.close(fd)

    def write(self, Py_ssize_t offset, source):
        """Copy the bytes of a contiguous buffer into the segment; other Python threads run meanwhile."""
        cdef Py_buffer view
        PyObject_GetBuffer(source, &view, PyBUF_SIMPLE)
        try:
            if offset < 0 or offset + view.len > self.size or not self.is_writable:
                raise ValueError(f"{view.len} bytes at {offset} do not fit into {self.size}")
            with nogil:
                memcpy(self.base + HEAD_BYTES + offset, view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.base + HEAD_BYTES, self.size, not self.is_writable, flags)

    def __len__(self):
        return self.size


def _before_fork():
    """Count the child as a holder of everything that is mapped: it will be."""
    cdef PyObject *each
    fp_mutex_lock(&lock)
    each = newest
    while each != NULL:
        fp_segment_hold(<fp_segment_head *>(<Segment>each).base)
        (<Segment>each).is_held_for_child = True
        each = (<Segment>each).older
    fp_mutex_unlock(&lock)


def _after_fork_in_child():
    """Have copies of our own, as of all other memory.

    What came between the counting and the fork was not counted, and is not counted down.
    """
    global generation
    cdef PyObject *each = newest
    fp_mutex_init(&lock)
    generation += 1
    while each != NULL:
        if (<Segment>each).is_held_for_child:
            (<Segment>each).is_held_for_child = False
            (<Segment>each).generation = generation
        (<Segment>each)._make_private()
        each = (<Segment>each).older


def _after_fork_in_parent():
    """Forget that a fork was under way."""
    cdef PyObject *each
    fp_mutex_lock(&lock)
    each = newest
    while each != NULL:
        (<Segment>each).is_held_for_child = False
        each = (<Segment>each).older
    fp_mutex_unlock(&lock)


os.register_at_fork(
    before=_before_fork, after_in_child=_after_fork_in_child, after_in_parent=_after_fork_in_parent
)


cdef class Board:
    """A worker's board; `fp_shared.h` has its fields. Either process may be killed at any point."""

    def __cinit__(self, int fd=-1):
        """Make a board; or map the one that came as a descriptor, which belongs to the board from here on."""
        cdef void *base
        self.fd = fd
        if fd < 0:
            self.fd = open_memory()
            reserve(self.fd, PAGE)
        base = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, self.fd, 0)
        if base == MAP_FAILED:
            raise OSError(errno, os.strerror(errno))
        self.board = <fp_board *>base

    def __dealloc__(self):
        if self.board != NULL:
            munmap(self.board, PAGE)
        self.give_up_fd()

    def give_up_fd(self):
        """Close the descriptor; the mapping stays."""
        cdef int fd = self.fd
        self.fd = -1
        if fd >= 0:
            os.close(fd)

    @property
    def batch(self):
        """Number of the batch that the worker began last."""
        return fp_board_get(&self.board.batch)

    @property
    def place(self):
        """Place of the running task in it; or IDLE, UNPACKING, PACKING."""
        return fp_board_get(&self.board.place)

    def running(self):
        """Batch and place as above, and when the task there was begun or tried again; later if it has just ended."""
        batch, place = self.batch, self.place
        return batch, place, fp_board_get(&self.board.started_ns)

    @property
    def n_failed(self):
        """How often it has failed and was tried again."""
        return fp_board_get(&self.board.n_failed)

    def try_again(self):
        """The running task has failed, and is tried again."""
        fp_board_set(&self.board.n_failed, self.n_failed + 1)
        fp_board_set(&self.board.started_ns, fp_os_clock_ns())

    def stop(self, batch):
        """Let the worker begin no further task of a batch."""
        fp_board_set(&self.board.stop, batch)

    def offer(self, batch):
        """Say that a batch is on its way; nobody has begun it until it is claimed."""
        if not fp_board_offer(self.board, batch):
            raise AssertionError(f"batch {batch} is one more than a worker can hold")

    def claim(self, batch):
        """Whether the batch is the caller's, and never the other process's: to begin it, or to take it back."""
        return fp_board_claim(self.board, batch)

    def show(self, batch, place):
        """What this worker does now, where it is not in a task."""
        fp_board_set(&self.board.place, place)
        fp_board_set(&self.board.batch, batch)
