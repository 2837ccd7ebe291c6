/* Who searches for tickets, who sleeps, and who is woken: one word that counts them, and two lists under a mutex.
 *
 * A ticket is posted after it was pushed on a deque, and taken (or withdrawn) after it was removed from one. A worker
 * is *searching*, *asleep*, or at work; a thread at the end of its loop may be *waiting*, which helps only with tickets
 * that suit it. One statement holds whenever no step is half done: a worker is asleep => there are no more tickets than
 * searching workers. Steps and proof: DESIGN.md, 9. Any thread may call, none of it needs the GIL.
 */
#ifndef FP_SLEEP_H
#define FP_SLEEP_H

#include "fp_deque.h"
#include "fp_park.h"

/* One thread that sleeps or waits here. Lives as long as the pool, so it may be unparked at any time. */
typedef struct fp_sleeper {
    fp_parker parker;        /* permits also come from the end of a loop: they are hints, as always */
    struct fp_sleeper *next; /* under lock */
    bool is_listed;          /* under lock; taken off by whoever calls the sleeper */
    fp_wish wish;            /* a waiting thread's, constant while it is listed */
    fp_ticket called_for;    /* under lock; the ticket that a waiting thread was called for */
} fp_sleeper;

typedef struct fp_sleep {
    fp_atomic_u64_t counts; /* tickets, searching, asleep and waiting, 16 bits each; only by read-modify-write */
    fp_mutex lock;
    fp_sleeper *asleep;     /* under lock; the last to come is the first to go, since its caches are warm */
    fp_sleeper *waiting;    /* under lock */
} fp_sleep;

typedef struct fp_sleep_counts {
    uint32_t n_tickets, n_searching, n_asleep, n_waiting;
} fp_sleep_counts;

/* Before it is shared, or in the child of a fork. */
void fp_sleep_init(fp_sleep *sleep);

/* A glance, old before it is used. */
fp_sleep_counts fp_sleep_glance(const fp_sleep *sleep);

/* The ticket is on a deque. False: all who search are needed elsewhere, and nobody who could take it was asleep or
 * waiting. */
bool fp_sleep_post(fp_sleep *sleep, const fp_ticket *ticket);

/* Its owner has popped the ticket, or a thread that waits has taken it. */
void fp_sleep_withdraw(fp_sleep *sleep);

/* A searching worker has taken a ticket, and is at work from here on. */
void fp_sleep_take(fp_sleep *sleep);

/* A worker begins to search: it is new, or done with its work. */
void fp_sleep_search(fp_sleep *sleep);

/* A worker that was going to search ends instead, or could not be started. */
void fp_sleep_leave(fp_sleep *sleep);

/* A searching worker sleeps until it is called, and then searches again. False at once: there are tickets. */
bool fp_sleep_sleep(fp_sleep *sleep, fp_sleeper *sleeper);

/* Between these nobody falls asleep, and who was asleep is called: by the first step, and by each worker that leaves. A
 * ticket that is nowhere does it. */
void fp_sleep_dismiss(fp_sleep *sleep);
void fp_sleep_admit(fp_sleep *sleep);

/* How a thread waited at the end of its loop. */
typedef enum fp_waited {
    FP_WAITED_AND_TOOK, /* a ticket that suits, with which it has yet to help */
    FP_WAITED_IN_VAIN,  /* it looked after it was woken: there is none that suits */
    FP_WAITED_ENOUGH,   /* its loop is over, it did not look */
} fp_waited;

/* A thread at the end of its loop will wait: between these it looks for what it waits for, and for tickets that suit
 * `wish`, then parks on sleeper->parker, and looks again. It does not help in between, for in there it may wait too.
 * A call that it got and did not follow is passed on; it followed if what it has `taken` is of the loop that called.
 * False: as fp_sleep_post. */
void fp_sleep_wait_begin(fp_sleep *sleep, fp_sleeper *sleeper, const fp_wish *wish);
bool fp_sleep_wait_end(fp_sleep *sleep, fp_sleeper *sleeper, fp_waited how, const fp_ticket *taken);

#endif
