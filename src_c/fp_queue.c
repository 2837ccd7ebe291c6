/* See fp_queue.h, and DESIGN.md for the steps (Q.) and the statements (I) to (III) that they keep. */
#include "fp_queue.h"

#include "fp_atomic.h"
#include "fp_check.h"
#include "fp_park.h"

#include <stdbool.h>
#include <stdlib.h>

#define MIN_CAPACITY ((size_t)64)
#define MAX_CAPACITY (SIZE_MAX / 2 / sizeof(fp_task)) /* halved, since a capacity is rounded up to a power of two */

/* n_ready <= capacity, a power of two or 0; n_seated <= n_seats; the tasks are ring[first ... first + n_ready), modulo
 * capacity; n_ready + the tasks that seats hold from their latest takes <= capacity (III).
 *
 * All of it is written and read under `lock`, and three fields are glanced at without it (fp_queue_n_ready, _n_seated,
 * _is_closed): these are atomic for that alone, and relaxed since a glance promises nothing about other memory.
 */
struct fp_queue {
    fp_mutex lock;
    uint32_t n_seats;          /* constant */
    fp_atomic_u32_t n_seated;  /* taken or reserved */
    fp_atomic_u32_t closed;    /* 0, then 1 for good */
    fp_atomic_size_t n_ready;
    fp_task *ring;             /* grows, never shrinks */
    size_t capacity;
    size_t first;
    size_t n_taken_most;       /* the most that one take has moved out */
};

static inline size_t n_ready_locked(const fp_queue *queue)
{
    return fp_size_load_relaxed(&queue->n_ready);
}

static inline uint32_t n_seated_locked(const fp_queue *queue)
{
    return fp_u32_load_relaxed(&queue->n_seated);
}

static inline bool is_closed_locked(const fp_queue *queue)
{
    return fp_u32_load_relaxed(&queue->closed) != 0;
}

static inline fp_task *slot_locked(const fp_queue *queue, size_t position)
{
    return &queue->ring[(queue->first + position) & (queue->capacity - 1)];
}

static void check_locked(const fp_queue *queue)
{
    FP_CHECK(n_ready_locked(queue) <= queue->capacity, "%zu ready in %zu", n_ready_locked(queue), queue->capacity);
    FP_CHECK((queue->capacity & (queue->capacity - 1)) == 0, "capacity %zu", queue->capacity);
    FP_CHECK(queue->first == 0 || queue->first < queue->capacity, "%zu of %zu", queue->first, queue->capacity);
    FP_CHECK(n_seated_locked(queue) <= queue->n_seats, "%u of %u", n_seated_locked(queue), queue->n_seats);
    (void)queue;
}

static void unlock(fp_queue *queue)
{
    check_locked(queue);
    fp_mutex_unlock(&queue->lock);
}

static void *allocate(size_t n_bytes)
{
    return fp_check_fails() ? NULL : malloc(n_bytes);
}

fp_queue *fp_queue_new(uint32_t n_seats)
{
    FP_CHECK(n_seats > 0, "n_seats %u", n_seats);
    fp_queue *queue = allocate(sizeof *queue);
    if (queue == NULL)
        return NULL;
    *queue = (fp_queue){.n_seats = n_seats};
    fp_mutex_init(&queue->lock);
    fp_check_made();
    return queue;
}

void fp_queue_free(fp_queue *queue)
{
    FP_CHECK(n_ready_locked(queue) == 0, "%zu tasks are left", n_ready_locked(queue));
    FP_CHECK(n_seated_locked(queue) == 0, "%u seats are taken", n_seated_locked(queue));
    fp_check_freed();
    free(queue->ring);
    free(queue);
}

/* Tasks that seated workers may hold, and so may put back: each no more than the most one take has moved. */
static size_t n_lent_most_locked(const fp_queue *queue)
{
    size_t n_seated = n_seated_locked(queue);
    return n_seated > 0 && queue->n_taken_most > MAX_CAPACITY / n_seated ? MAX_CAPACITY
                                                                         : n_seated * queue->n_taken_most;
}

/* `n` is at most MAX_CAPACITY. */
static size_t capacity_for(size_t n)
{
    size_t capacity = MIN_CAPACITY;
    while (capacity < n)
        capacity *= 2;
    return capacity;
}

/* Makes room for n more tasks beside those that may be put back, as (III) demands. */
static bool ring_reserve_locked(fp_queue *queue, size_t n)
{
    size_t n_ready = n_ready_locked(queue), n_lent = n_lent_most_locked(queue);
    if (n > MAX_CAPACITY - n_ready || n_lent > MAX_CAPACITY - n_ready - n)
        return false;
    if (n_ready + n + n_lent <= queue->capacity)
        return true;
    size_t capacity = capacity_for(n_ready + n + n_lent);
    fp_task *ring = allocate(capacity * sizeof *ring);
    if (ring == NULL)
        return false;
    for (size_t i = 0; i < n_ready; i++)
        ring[i] = *slot_locked(queue, i);
    free(queue->ring);
    queue->ring = ring;
    queue->capacity = capacity;
    queue->first = 0;
    return true;
}

/* Reserves a seat if a worker could use it. Every step that makes tasks ready or leaves some behind ends here, or (II)
 * would not hold. */
static uint32_t summon_locked(fp_queue *queue)
{
    uint32_t n_seated = n_seated_locked(queue);
    if (n_ready_locked(queue) == 0 || n_seated == queue->n_seats)
        return 0;
    fp_u32_store_relaxed(&queue->n_seated, n_seated + 1);
    return 1;
}

static void seat_give_up_locked(fp_queue *queue)
{
    uint32_t n_seated = n_seated_locked(queue);
    FP_CHECK(n_seated > 0, "a seat is given up, but %u are taken", n_seated);
    fp_u32_store_relaxed(&queue->n_seated, n_seated - 1);
}

fp_status fp_queue_push(fp_queue *queue, const fp_task *tasks, size_t n, uint32_t *n_summoned)
{
    fp_status status = FP_OK;
    *n_summoned = 0;
    fp_mutex_lock(&queue->lock);
    if (is_closed_locked(queue)) {
        status = FP_CLOSED;
    } else if (!ring_reserve_locked(queue, n)) {
        status = FP_NO_MEMORY;
    } else {
        size_t n_ready = n_ready_locked(queue);
        for (size_t i = 0; i < n; i++)
            *slot_locked(queue, n_ready + i) = tasks[i];
        fp_size_store_relaxed(&queue->n_ready, n_ready + n);
        *n_summoned = summon_locked(queue); /* (Q1) */
    }
    unlock(queue);
    return status;
}

fp_status fp_queue_put_back(fp_queue *queue, const fp_task *tasks, size_t n, uint32_t *n_summoned)
{
    fp_status status = FP_OK;
    *n_summoned = 0;
    fp_mutex_lock(&queue->lock);
    size_t n_ready = n_ready_locked(queue);
    if (is_closed_locked(queue)) {
        status = FP_CLOSED;
    } else if (n > queue->capacity - n_ready && !ring_reserve_locked(queue, n)) {
        status = FP_NO_MEMORY;
    } else {
        queue->first = (queue->first - n) & (queue->capacity - 1);
        for (size_t i = 0; i < n; i++)
            *slot_locked(queue, i) = tasks[i];
        fp_size_store_relaxed(&queue->n_ready, n_ready + n);
        *n_summoned = summon_locked(queue); /* (Q1) */
    }
    unlock(queue);
    return status;
}

static size_t move_out_locked(fp_queue *queue, fp_task *out, size_t max)
{
    size_t n_ready = n_ready_locked(queue);
    size_t n = max < n_ready ? max : n_ready;
    for (size_t i = 0; i < n; i++)
        out[i] = *slot_locked(queue, i);
    queue->first = (queue->first + n) & (queue->capacity - 1);
    fp_size_store_relaxed(&queue->n_ready, n_ready - n);
    return n;
}

size_t fp_queue_take(fp_queue *queue, fp_task *out, size_t max, uint32_t *n_summoned)
{
    FP_CHECK(max > 0, "a take of at most %zu", max);
    *n_summoned = 0;
    fp_mutex_lock(&queue->lock);
    size_t n = is_closed_locked(queue) ? 0 : move_out_locked(queue, out, max);
    if (n == 0) {
        seat_give_up_locked(queue); /* (Q3) in the section that found nothing: no push can come between */
    } else {
        queue->n_taken_most = n > queue->n_taken_most ? n : queue->n_taken_most;
        *n_summoned = summon_locked(queue); /* (Q2) */
    }
    unlock(queue);
    return n;
}

void fp_queue_leave(fp_queue *queue)
{
    fp_mutex_lock(&queue->lock);
    seat_give_up_locked(queue);
    unlock(queue);
}

size_t fp_queue_close(fp_queue *queue, fp_task *out, size_t max)
{
    fp_mutex_lock(&queue->lock);
    fp_u32_store_relaxed(&queue->closed, 1);
    size_t n = move_out_locked(queue, out, max);
    unlock(queue);
    return n;
}

size_t fp_queue_n_ready(const fp_queue *queue)
{
    return fp_size_load_relaxed(&queue->n_ready);
}

uint32_t fp_queue_n_seated(const fp_queue *queue)
{
    return fp_u32_load_relaxed(&queue->n_seated);
}

bool fp_queue_is_closed(const fp_queue *queue)
{
    return fp_u32_load_relaxed(&queue->closed) != 0;
}
