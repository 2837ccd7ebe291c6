/* One parallel loop: a range of units, the threads that have joined, and how the last of them lets the caller go.
 *
 * The caller starts alone on a private span. When there is enough left to share it *opens* the loop: the rest becomes
 * its span in a table of members, and it posts a ticket. Whoever takes a ticket becomes a member, cuts half of somebody's
 * span off whenever its own is empty, and leaves when there is nothing to cut. Members, too, post a ticket while none of
 * theirs is out, so helpers arrive like a chain reaction. Protocol: DESIGN.md, 10.
 */
#ifndef FP_LOOP_H
#define FP_LOOP_H

#include "fp_pool.h"

/* How long a piece may be, in units. */
typedef enum fp_pace {
    FP_PACE_UNIT,     /* one, of a grain, or of more where the range has too many grains to count in 32 bits */
    FP_PACE_SHARE,    /* one, of as many grains as a member's share has */
    FP_PACE_FRACTION, /* a quarter of what the member has left */
    FP_PACE_TIMED,    /* about 20 us, by what the pieces before took, and no more than a quarter unless that is tiny */
} fp_pace;

/* n indices in n_units units: the first `n_longer` have one index more, and the last one may have fewer. */
typedef struct fp_units {
    int64_t n, size, n_longer;
    uint32_t n_units;
} fp_units;

struct fp_loop {
    /* Constant once it is open. */
    fp_pool *pool;
    fp_chunk_fn body;
    void *context;
    const fp_options *options;
    const void *key;     /* what fp_hint remembers the duration of an index by */
    const struct fp_loop *parent;
    struct fp_loop *root;
    size_t depth;
    fp_units units;
    int64_t grain;        /* a kernel is never called with fewer indices, but at the end of a range; a unit at most */
    int64_t unit_grains;  /* whole grains in a unit */
    fp_pace pace;
    uint32_t n_threads;   /* what it was allowed */
    uint32_t max_members; /* the same, or one for each unit */
    fp_place *place;     /* the caller's */
    bool is_lease;
    fp_member *members;  /* NULL until it is open; one of its own, if a caller without a place needs scratch */

    /* By any member. */
    fp_atomic_u32_t n_inside;   /* members beside the caller, and tickets; WAITING is set by the caller, which ends it */
    fp_atomic_u32_t n_invited;  /* members beside the caller, and tickets; never more than max_members - 1 */
    fp_atomic_u32_t n_joined;   /* members beside the caller that ever were: the next one's number */
    fp_atomic_u32_t is_stopped; /* 0, then 1 for good */
    fp_atomic_u32_t n_spinning; /* of the outermost loop: who waits awake, here or inside, and would help inside of that */
    fp_mutex lock;
    fp_outcome outcome;         /* under lock, as is the next; read without it when no member is left */
    fp_failure failure;
};

/* Runs the loop to its end; `outcome` and `failure` say which. The caller has set pool, body, context, options, key, units,
 * grain, unit_grains, pace, n_threads and max_members, and zeroed the rest. */
void fp_loop_run(struct fp_loop *loop);

/* What the calling thread is in; NULL: no loop. */
const struct fp_loop *fp_loop_current(void);

/* Whether this loop, or one around it, has stopped or was asked to. False for NULL. */
bool fp_loop_is_stopping(const struct fp_loop *loop);

/* The first index of a unit; of unit n_units, n. */
int64_t fp_units_begin(const fp_units *units, uint32_t unit);

#endif
