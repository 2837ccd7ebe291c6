/* Two ways to wait for another thread: a mutex for sections of a few instructions, and a parker to sleep on.
 *
 * Both are one word in the caller's own struct, need no clean-up, and know nothing of the GIL: a thread that holds it
 * may take a mutex, since no section calls out; it must give it up before it parks. Protocols: DESIGN.md.
 */
#ifndef FP_PARK_H
#define FP_PARK_H

#include "fp_atomic.h"

/* Not recursive, not fair. FREE, LOCKED, or CONTENDED: locked, and some thread may be asleep waiting for it. */
typedef struct fp_mutex {
    fp_atomic_u32_t state; /* by any thread, only by read-modify-write */
} fp_mutex;

void fp_mutex_init(fp_mutex *mutex);
void fp_mutex_lock(fp_mutex *mutex);

/* Once another thread can take the mutex it may free it: unlocking touches it for the last time when it lets go. */
void fp_mutex_unlock(fp_mutex *mutex);

/* One permit, one sleeper. EMPTY, PERMIT, or PARKED: no permit, and the owner is asleep or about to be. */
typedef struct fp_parker {
    fp_atomic_u32_t state; /* EMPTY and PARKED by its owner, PERMIT by any thread; only by read-modify-write */
} fp_parker;

typedef enum fp_parked {
    FP_PARKED_PERMIT,      /* the permit was there or came, and is consumed */
    FP_PARKED_TIMEOUT,     /* no permit in time */
    FP_PARKED_INTERRUPTED, /* a signal handler ran meanwhile (see fp_os_wait); no permit was consumed */
} fp_parked;

void fp_parker_init(fp_parker *parker);

/* Waits for the permit and consumes it. At most one thread at a time, its owner.
 *
 * `timeout_ns` 0 only looks, negative waits for ever. A permit outranks both the time and a signal. What was written
 * before any unpark whose permit this consumes is visible after it.
 */
fp_parked fp_park(fp_parker *parker, int64_t timeout_ns);

/* Leaves the permit, at most one, and wakes the owner if it sleeps. Any thread.
 *
 * The owner may free the parker as soon as it has seen what the unparker did; that is no error here.
 */
void fp_unpark(fp_parker *parker);

#endif
