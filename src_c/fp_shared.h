/* What two processes see of each other in shared memory: the head of a segment, and the board of a worker.
 *
 * A process may be killed between any two of these stores, so nothing here is a lock, nobody ever waits for a value, and
 * every value is right on its own. Inline, since it is a handful of words.
 */
#ifndef FP_SHARED_H
#define FP_SHARED_H

#include "fp_atomic.h"

/* First page of a segment; the bytes follow on the next page.
 *
 * n_holders counts the mappings of the segment in all processes, and those that are on their way: the sender counts for
 * the receiver. A mapping that ends counts down with release, after its last access, and whoever finds itself the only
 * holder has loaded that with acquire: it may write the bytes anew. A process that is killed never counts down; then the
 * segment is not reused, which costs memory and never data.
 */
typedef struct fp_segment_head {
    fp_atomic_u32_t n_holders;
} fp_segment_head;

/* Batches that a worker holds at most: the one it works on, and one for when that has ended. */
enum { FP_BATCHES_HELD = 2 };

/* What a worker is doing, for when it cannot say so any more. Written by the worker but for `stop` and `offers`.
 *
 * These are words of their own, and a task may end while the parent reads them. It reads `batch` and `place` before
 * `started_ns`, which is written before the `place` that it belongs to: so it never takes an old beginning for this task's.
 *
 * `offers` are the batches on their way that nobody has begun. The parent writes a number there before it sends the
 * batch. To begin the batch the worker claims it, and to have it back so does the parent: whose exchange finds the
 * number has it. No number is used twice, and 0 is none. Relaxed, since what is in a batch travels in its message.
 */
typedef struct fp_board {
    fp_atomic_i64_t batch;      /* number of the batch that was begun last, 0 for none */
    fp_atomic_i64_t place;      /* of the running task within it, or one of fp_place */
    fp_atomic_i64_t started_ns; /* when the running task was begun, or tried again, on the clock of all processes */
    fp_atomic_i64_t n_failed;   /* how often it has failed and was tried again */
    fp_atomic_i64_t stop;       /* written by the parent: number of the batch of which no further task shall begin */
    fp_atomic_i64_t offers[FP_BATCHES_HELD];
} fp_board;

enum fp_place {
    FP_PLACE_IDLE = -1,      /* between batches */
    FP_PLACE_UNPACKING = -2, /* reading the tasks of a batch */
    FP_PLACE_PACKING = -3,   /* making a message of the results, and sending it */
};

static inline void fp_segment_hold(fp_segment_head *head)
{
    fp_u32_add_acq_rel(&head->n_holders, 1);
}

static inline void fp_segment_release(fp_segment_head *head)
{
    fp_u32_add_acq_rel(&head->n_holders, (uint32_t)-1);
}

static inline uint32_t fp_segment_n_holders(const fp_segment_head *head)
{
    return fp_u32_load_acquire(&head->n_holders);
}

static inline int64_t fp_board_get(const fp_atomic_i64_t *field)
{
    return fp_i64_load_acquire(field); /* of fp_board_set: what was set before is seen as well */
}

static inline void fp_board_set(fp_atomic_i64_t *field, int64_t value)
{
    fp_i64_store_release(field, value); /* to fp_board_get */
}

/* False: so many are offered already. */
static inline bool fp_board_offer(fp_board *board, int64_t batch)
{
    for (int i = 0; i < FP_BATCHES_HELD; i++)
        if (fp_i64_cas_relaxed(&board->offers[i], 0, batch))
            return true;
    return false;
}

/* Whether the batch is the caller's: to begin it, or to take it back. */
static inline bool fp_board_claim(fp_board *board, int64_t batch)
{
    for (int i = 0; i < FP_BATCHES_HELD; i++)
        if (fp_i64_cas_relaxed(&board->offers[i], batch, 0))
            return true;
    return false;
}

#endif
