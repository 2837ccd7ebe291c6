# The C core (src_c) as Cython sees it: declarations only, nothing of our own.
#
# Every function here is safe without the GIL. Those marked "waits" must be called without it.

from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from "fp_os.h" nogil:
    uint64_t fp_os_clock_ns() noexcept       # monotonic
    void fp_os_yield() noexcept
    uint64_t fp_os_thread_cpu_ns() noexcept  # CPU time of the calling thread


cdef extern from "fp_park.h" nogil:
    ctypedef struct fp_mutex:
        pass
    void fp_mutex_init(fp_mutex *mutex) noexcept
    void fp_mutex_lock(fp_mutex *mutex) noexcept    # sections are short and never run Python code
    void fp_mutex_unlock(fp_mutex *mutex) noexcept

    ctypedef struct fp_parker:
        pass
    ctypedef enum fp_parked:
        FP_PARKED_PERMIT
        FP_PARKED_TIMEOUT
        FP_PARKED_INTERRUPTED
    void fp_parker_init(fp_parker *parker) noexcept
    fp_parked fp_park(fp_parker *parker, int64_t timeout_ns) noexcept  # waits; negative: for ever
    void fp_unpark(fp_parker *parker) noexcept


cdef extern from "fp_queue.h" nogil:
    ctypedef struct fp_task:
        void *item
        uint64_t index
    ctypedef struct fp_queue:
        pass
    ctypedef enum fp_status:
        FP_OK
        FP_NO_MEMORY
        FP_CLOSED
    fp_queue *fp_queue_new(uint32_t n_seats) noexcept
    void fp_queue_free(fp_queue *queue) noexcept
    fp_status fp_queue_push(fp_queue *queue, const fp_task *tasks, size_t n, uint32_t *n_summoned) noexcept
    fp_status fp_queue_put_back(fp_queue *queue, const fp_task *tasks, size_t n, uint32_t *n_summoned) noexcept
    size_t fp_queue_take(fp_queue *queue, fp_task *out, size_t max, uint32_t *n_summoned) noexcept
    void fp_queue_leave(fp_queue *queue) noexcept
    size_t fp_queue_close(fp_queue *queue, fp_task *out, size_t max) noexcept
    bint fp_queue_is_closed(const fp_queue *queue) noexcept
    size_t fp_queue_n_ready(const fp_queue *queue) noexcept
    uint32_t fp_queue_n_seated(const fp_queue *queue) noexcept


cdef extern from "fp_check.h" nogil:
    size_t fp_check_n_live() noexcept  # queues that exist, in builds with FP_DEBUG; 0 in others
