/* See fp_park.h, and DESIGN.md for the protocols whose steps (M.), (P.) and (U.) are marked here. */
#include "fp_park.h"

#include "fp_check.h"
#include "fp_os.h"

enum { FREE, LOCKED, CONTENDED };
enum { EMPTY, PERMIT, PARKED };

void fp_mutex_init(fp_mutex *mutex)
{
    fp_u32_init(&mutex->state, FREE);
}

/* Whoever has been here holds the mutex as CONTENDED, even when nobody else waits any more: it cannot know. The price
 * is one needless wake. */
static void lock_cold(fp_mutex *mutex)
{
    /* (M2) pairs with (M4), like (M1). */
    while (fp_u32_exchange_acquire(&mutex->state, CONTENDED) != FREE)
        fp_os_wait(&mutex->state, CONTENDED, FP_OS_FOREVER); /* (M3) */
}

void fp_mutex_lock(fp_mutex *mutex)
{
    /* (M1) pairs with (M4): the section before is visible in ours. */
    if (!fp_u32_cas_acquire(&mutex->state, FREE, LOCKED))
        lock_cold(mutex);
}

void fp_mutex_unlock(fp_mutex *mutex)
{
    /* (M4) pairs with (M1) and (M2). From here on the mutex may be gone; only its address is used. */
    uint32_t before = fp_u32_exchange_release(&mutex->state, FREE);
    FP_CHECK(before != FREE, "unlock of a free mutex %p", (void *)mutex);
    if (before == CONTENDED)
        fp_os_wake_one(&mutex->state); /* (M5) */
}

void fp_parker_init(fp_parker *parker)
{
    fp_u32_init(&parker->state, EMPTY);
}

/* (P1) pairs with (U1): what every unparker wrote before it left this permit is visible. Must be an exchange: between
 * a load and a store of EMPTY another unpark could be wiped out whose writes the load has not made visible. */
static bool permit_consume_owner(fp_parker *parker)
{
    return fp_u32_exchange_acquire(&parker->state, EMPTY) == PERMIT;
}

static fp_parked park_cold_owner(fp_parker *parker, uint64_t deadline_ns)
{
    for (;;) {
        fp_os_woken woken = FP_OS_WOKEN;
        /* (P2) announces the sleeper to (U1). Relaxed: it publishes nothing, and if a permit is there (P1) takes it. */
        if (fp_u32_cas_relaxed(&parker->state, EMPTY, PARKED))
            woken = fp_os_wait(&parker->state, PARKED, deadline_ns); /* (P3) */
        if (permit_consume_owner(parker))
            return FP_PARKED_PERMIT;
        if (woken != FP_OS_WOKEN)
            return woken == FP_OS_TIMED_OUT ? FP_PARKED_TIMEOUT : FP_PARKED_INTERRUPTED;
    }
}

fp_parked fp_park(fp_parker *parker, int64_t timeout_ns)
{
    FP_CHECK(fp_u32_load_relaxed(&parker->state) != PARKED, "a second thread parks on %p", (void *)parker);
    if (permit_consume_owner(parker))
        return FP_PARKED_PERMIT;
    if (timeout_ns == 0)
        return FP_PARKED_TIMEOUT;
    return park_cold_owner(parker, timeout_ns < 0 ? FP_OS_FOREVER : fp_os_clock_ns() + (uint64_t)timeout_ns);
}

void fp_unpark(fp_parker *parker)
{
    /* (U1) pairs with (P1). From here on the parker may be gone; only its address is used. */
    uint32_t before = fp_u32_exchange_release(&parker->state, PERMIT);
    if (before == PARKED)
        fp_os_wake_one(&parker->state); /* (U2) */
}
