from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t


cdef extern from "fp_shared.h" nogil:
    ctypedef struct fp_atomic_i64_t:
        pass
    ctypedef struct fp_segment_head:
        pass
    ctypedef struct fp_board:
        fp_atomic_i64_t batch
        fp_atomic_i64_t place
        fp_atomic_i64_t started_ns
        fp_atomic_i64_t n_failed
        fp_atomic_i64_t stop
    int FP_BATCHES_HELD
    int FP_PLACE_IDLE
    int FP_PLACE_UNPACKING
    int FP_PLACE_PACKING
    void fp_segment_hold(fp_segment_head *head) noexcept
    void fp_segment_release(fp_segment_head *head) noexcept
    uint32_t fp_segment_n_holders(const fp_segment_head *head) noexcept
    int64_t fp_board_get(const fp_atomic_i64_t *field) noexcept
    void fp_board_set(fp_atomic_i64_t *field, int64_t value) noexcept
    bint fp_board_offer(fp_board *board, int64_t batch) noexcept
    bint fp_board_claim(fp_board *board, int64_t batch) noexcept


cdef class Segment:
    # Constant once made, but for fd.
    cdef char *base                 # the head, and HEAD_BYTES on the bytes; NULL: not mapped
    cdef readonly Py_ssize_t size   # bytes that may be used
    cdef readonly Py_ssize_t room   # bytes that there are
    cdef readonly int fd            # -1: given up, the mapping alone keeps the memory
    cdef bint is_writable
    cdef public bint is_shared      # made to be written by all who have it
    cdef readonly str mode          # what this process may do with the bytes
    cdef int generation             # of the process that its count of holders has been told of
    cdef bint is_held_for_child     # a fork is under way, and the child has been counted
    cdef PyObject *older            # the next in the list of all that are mapped here, under `lock`
    cdef PyObject *newer
    cdef object __weakref__

    cdef int _map(self, int flags) except -1
    cdef void _make_private(self) noexcept


cdef class Board:
    cdef fp_board *board
    cdef readonly int fd
