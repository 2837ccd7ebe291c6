/* See fp_sleep.h, and DESIGN.md for the steps (Z.) marked here. */
#include "fp_sleep.h"

#include "fp_check.h"

/* The fields of `counts`; nobody else shifts. */
enum { TICKETS_SHIFT = 0, SEARCHING_SHIFT = 16, ASLEEP_SHIFT = 32, WAITING_SHIFT = 48, FIELD = 0xFFFF };

#define TICKET ((uint64_t)1 << TICKETS_SHIFT)
#define SEARCHING ((uint64_t)1 << SEARCHING_SHIFT)
#define ASLEEP ((uint64_t)1 << ASLEEP_SHIFT)
#define WAITING ((uint64_t)1 << WAITING_SHIFT)

static fp_sleep_counts unpack(uint64_t word)
{
    return (fp_sleep_counts){
        .n_tickets = word >> TICKETS_SHIFT & FIELD,
        .n_searching = word >> SEARCHING_SHIFT & FIELD,
        .n_asleep = word >> ASLEEP_SHIFT & FIELD,
        .n_waiting = word >> WAITING_SHIFT & FIELD,
    };
}

/* Acquire and release, always: each step sees what was done before the steps it counts (a push, above all). */
static fp_sleep_counts count(fp_sleep *sleep, uint64_t difference)
{
    return unpack(fp_u64_add_acq_rel(&sleep->counts, difference) + difference);
}

void fp_sleep_init(fp_sleep *sleep)
{
    fp_u64_init(&sleep->counts, 0);
    fp_mutex_init(&sleep->lock);
    sleep->asleep = sleep->waiting = NULL;
}

fp_sleep_counts fp_sleep_glance(const fp_sleep *sleep)
{
    return unpack(fp_u64_load_relaxed(&sleep->counts)); /* relaxed: whoever acts on it makes a step that is not */
}

/* The right side of (IV). */
static bool have_searchers(fp_sleep_counts now)
{
    return now.n_tickets <= now.n_searching;
}

static void list_locked(fp_sleeper **list, fp_sleeper *sleeper)
{
    FP_CHECK(!sleeper->is_listed, "one place sleeps twice");
    sleeper->next = *list;
    sleeper->is_listed = true;
    *list = sleeper;
}

static void unlist_locked(fp_sleeper **list, fp_sleeper *sleeper)
{
    while (*list != sleeper)
        list = &(*list)->next;
    *list = sleeper->next;
    sleeper->is_listed = false;
}

/* (Z2) If there are more tickets than searchers, makes a searcher of one who sleeps. False: nobody sleeps. */
static bool call_searcher(fp_sleep *sleep)
{
    uint64_t word = fp_u64_load_relaxed(&sleep->counts);
    for (;;) {
        fp_sleep_counts now = unpack(word);
        if (have_searchers(now))
            return true;
        if (now.n_asleep == 0)
            return false;
        if (fp_u64_cas_acq_rel(&sleep->counts, &word, word - ASLEEP + SEARCHING))
            break;
    }
    fp_mutex_lock(&sleep->lock);
    fp_sleeper *sleeper = sleep->asleep; /* there is one: (Z5) counts and lists in one section */
    FP_CHECK(sleeper != NULL, "counted as asleep, but not listed");
    unlist_locked(&sleep->asleep, sleeper);
    fp_mutex_unlock(&sleep->lock);
    fp_unpark(&sleeper->parker);
    return true;
}

/* (Z3) Calls one waiting thread that the ticket suits. */
static bool call_waiting(fp_sleep *sleep, const fp_ticket *ticket)
{
    fp_mutex_lock(&sleep->lock);
    fp_sleeper *sleeper = sleep->waiting;
    while (sleeper != NULL && !fp_wish_suits(&sleeper->wish, ticket))
        sleeper = sleeper->next;
    if (sleeper != NULL) {
        unlist_locked(&sleep->waiting, sleeper);
        sleeper->called_for = *ticket;
        count(sleep, -WAITING);
    }
    fp_mutex_unlock(&sleep->lock);
    if (sleeper == NULL)
        return false;
    fp_unpark(&sleeper->parker);
    return true;
}

/* Calls whoever could take the ticket, if there are more tickets than searchers. False: nobody is there. */
static bool call_for(fp_sleep *sleep, fp_sleep_counts now, const fp_ticket *ticket)
{
    if (have_searchers(now))
        return true;
    if (now.n_waiting > 0 && ticket->depth > 0 && call_waiting(sleep, ticket))
        return true;
    return call_searcher(sleep);
}

bool fp_sleep_post(fp_sleep *sleep, const fp_ticket *ticket)
{
    fp_sleep_counts now = count(sleep, TICKET); /* (Z1) pairs with (Z5) and (Z6): they see the ticket, or we see them */
    return call_for(sleep, now, ticket);
}

void fp_sleep_withdraw(fp_sleep *sleep)
{
    count(sleep, -TICKET);
}

void fp_sleep_take(fp_sleep *sleep)
{
    count(sleep, -TICKET - SEARCHING); /* (Z4) one of each: (IV) stays as it was */
}

void fp_sleep_search(fp_sleep *sleep)
{
    count(sleep, SEARCHING);
}

void fp_sleep_leave(fp_sleep *sleep)
{
    count(sleep, -SEARCHING);
    call_searcher(sleep);
}

/* (Z5) One step, under the lock so that whoever is counted is also listed; not where a ticket needs this searcher. */
static bool begin_to_sleep(fp_sleep *sleep, fp_sleeper *sleeper)
{
    bool sleeps = false;
    fp_mutex_lock(&sleep->lock);
    uint64_t word = fp_u64_load_relaxed(&sleep->counts);
    while (have_searchers(unpack(word - SEARCHING)) && !sleeps)
        sleeps = fp_u64_cas_acq_rel(&sleep->counts, &word, word - SEARCHING + ASLEEP);
    if (sleeps)
        list_locked(&sleep->asleep, sleeper);
    fp_mutex_unlock(&sleep->lock);
    return sleeps;
}

static bool is_listed(fp_sleep *sleep, const fp_sleeper *sleeper)
{
    fp_mutex_lock(&sleep->lock);
    bool is_listed = sleeper->is_listed;
    fp_mutex_unlock(&sleep->lock);
    return is_listed;
}

bool fp_sleep_sleep(fp_sleep *sleep, fp_sleeper *sleeper)
{
    if (!begin_to_sleep(sleep, sleeper))
        return false;
    do
        fp_park(&sleeper->parker, -1 /* for ever */);
    while (is_listed(sleep, sleeper)); /* a permit left over from an earlier wait */
    return true;
}

void fp_sleep_dismiss(fp_sleep *sleep)
{
    count(sleep, TICKET);
    call_searcher(sleep);
}

void fp_sleep_admit(fp_sleep *sleep)
{
    count(sleep, -TICKET);
}

void fp_sleep_wait_begin(fp_sleep *sleep, fp_sleeper *sleeper, const fp_wish *wish)
{
    fp_mutex_lock(&sleep->lock);
    sleeper->wish = *wish;
    list_locked(&sleep->waiting, sleeper);
    count(sleep, WAITING); /* (Z6) pairs with (Z1) */
    fp_mutex_unlock(&sleep->lock);
}

/* Who looked in vain calls no other waiting thread: two of them would hand a call for a ticket that is gone to and fro.
 * Nor does who took a ticket of the loop that called: it will invite for that loop itself. But each compares the counts: a
 * ticket taken before the call came does not pay for it. */
bool fp_sleep_wait_end(fp_sleep *sleep, fp_sleeper *sleeper, fp_waited how, const fp_ticket *taken)
{
    fp_mutex_lock(&sleep->lock);
    bool was_called = !sleeper->is_listed;
    fp_ticket called_for = sleeper->called_for;
    if (!was_called) {
        unlist_locked(&sleep->waiting, sleeper);
        count(sleep, -WAITING);
    }
    fp_mutex_unlock(&sleep->lock);
    if (!was_called)
        return true;
    if (how == FP_WAITED_IN_VAIN || (how == FP_WAITED_AND_TOOK && taken->loop == called_for.loop))
        return call_searcher(sleep); /* (Z2) */
    return call_for(sleep, fp_sleep_glance(sleep), &called_for); /* (Z3); by the lock, no older than the post */
}
