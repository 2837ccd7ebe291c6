/* The pool: threads that outlive loops, and the places from which threads, its own and others, take part in them.
 *
 * A *place* is what a thread needs to be found by thieves: a deque, a parker, and memory that is used again. Each worker
 * thread has one for life; a thread from outside leases one while its outermost loop is shared. The pool owns threads and
 * places, their memory, and what a fork does to them. What a loop is, it does not know: it brings tickets to fp_loop_help.
 *
 * Threads are started one by one when a ticket finds nobody idle, and no more than a loop asks for. Any thread may call
 * what is here; `_owner` functions are for the thread that has the place.
 */
#ifndef FP_POOL_H
#define FP_POOL_H

#define FP_CORE
#include "fastpar.h"

#include "fp_deque.h"
#include "fp_os.h"
#include "fp_sleep.h"
#include "fp_span.h"

enum {
    FP_MAX_THREADS = 1023, /* of a pool, beside the callers */
    FP_MAX_GUESTS = 64,    /* threads from outside that share loops at a time; more run theirs alone */
    FP_MAX_OPEN = 16,      /* loops that one place shares at a time, each inside the one before; deeper ones run alone */
};

/* One thread's part in one loop, on cache lines of its own. */
typedef struct fp_member {
    _Alignas(FP_CACHE_LINE) fp_shared_span span; /* read by every member, see fp_span.h */
    void *scratch;                               /* its own; read by the loop's caller at the end */
    size_t scratch_bytes;                        /* how large that memory is */
    bool has_scratch;                            /* whether it was initialised in this loop */
} fp_member;

typedef struct fp_members {
    fp_member *members;
    uint32_t n;
} fp_members;

typedef struct fp_place {
    _Alignas(FP_CACHE_LINE) fp_deque deque;
    fp_sleeper sleeper;
    fp_atomic_u32_t is_leased;        /* guests' places: 1 from lease to release */
    fp_pool *pool;                    /* constant after the first use; so is what follows, or the owner's */
    uint64_t random;
    uint64_t spin_ns;                 /* how long to search before sleeping: adapts to whether that was worth it */
    fp_os_thread thread;              /* a worker's; under the pool's lock */
    uint32_t n_open;
    fp_members tables[FP_MAX_OPEN];   /* kept for the next loop */
} fp_place;

struct fp_pool {
    fp_sleep sleep;
    fp_mutex lock;
    fp_atomic_u32_t n_workers;  /* threads started; written under lock, read by anyone */
    fp_atomic_u32_t n_wanted;   /* the most that a loop has asked for; only grows, by whoever posts a ticket */
    fp_atomic_u32_t n_guests;   /* guests' places ever leased; only grows */
    fp_atomic_u32_t is_resting; /* 1 while its threads are told to end */
    uint32_t max_workers, n_cpus;
    fp_place *places;           /* the workers', then the guests' */
    void *memory;
    fp_pool *next;              /* of all pools; under the registry's lock */
};

/* The one that this process shares; NULL: no memory. */
fp_pool *fp_pool_shared(void);

/* The place from which the calling thread takes part in loops of this pool: the one it has, or a lease, which must be
 * given back. NULL: none is free. */
fp_place *fp_place_enter(fp_pool *pool, bool *is_lease);
void fp_place_release(fp_place *place);

/* Memory for the members of one more loop, all with an empty span. NULL: no memory, or too many loops. */
fp_member *fp_place_open_owner(fp_place *place, uint32_t n_members);
void fp_place_close_owner(fp_place *place);

/* A ticket that suits, from whichever place has one. */
bool fp_place_search_owner(fp_place *place, const fp_wish *wish, fp_ticket *ticket);

/* Says how many threads a loop may use, before its first ticket. */
void fp_pool_want(fp_pool *pool, uint32_t n_threads);

/* Starts a thread, unless there are as many as were wanted, or the system has none left. */
void fp_pool_start_worker(fp_pool *pool);

/* The one call upwards, fp_loop.c: a worker helps with the loop whose ticket it took, until nothing is left to do. */
void fp_loop_help(struct fp_loop *loop, fp_place *place);

/* The child of a fork begins: forget what loop the thread was in. fp_loop.c, too. */
void fp_loop_forget(void);

#endif
