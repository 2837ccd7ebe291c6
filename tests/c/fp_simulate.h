/* A machine whose time is made up: the same program takes the same time, to the nanosecond, wherever it runs.
 *
 * Each thread has a CPU and a clock of its own. What it does costs what the table below says, and only the thread whose
 * clock is furthest behind runs, so every operation of fp_atomic.h happens in the order of the clocks. Threads are real
 * (the core has thread-locals) and hand a baton on. That tells how well a loop is shared, and who was woken when, on
 * any number of CPUs and however busy the real ones are. It does not tell what an operation costs: bench/ does.
 */
#ifndef FP_SIMULATE_H
#define FP_SIMULATE_H

#include "fp_test.h"

#include "fp_os.h"

#include <semaphore.h>

/* Measured on Linux: a futex wake, and until the woken thread runs; a thread's start, and until it runs. */
enum {
    ATOMIC_NS = 10,
    CLOCK_NS = 25,
    WAKE_COSTS_NS = 3000,
    WAKE_TAKES_NS = 50000,
    START_COSTS_NS = 20000,
    START_TAKES_NS = 60000,
    YIELD_NS = 500,
};

enum { MAX_SIMULATED = 64 };

static struct simulated {
    uint64_t now_ns;
    const fp_atomic_u32_t *waits_on; /* NULL: it runs */
    uint64_t deadline_ns;
    fp_os_woken woken;
    bool is_over;
    sem_t baton;
    pthread_t thread;
    void (*body)(void *argument);
    void *argument;
} simulated[MAX_SIMULATED]; /* all of it by whoever has the baton */

static int n_simulated;
static uint32_t n_simulated_cpus;
static _Thread_local struct simulated *self;

/* ------------------------------------------------------------------------------------------------------ the baton */

/* When a thread could do its next step; never, while it waits without a deadline. */
static uint64_t next_step_ns(const struct simulated *thread)
{
    return thread->is_over ? FP_OS_FOREVER : thread->waits_on != NULL ? thread->deadline_ns : thread->now_ns;
}

static struct simulated *furthest_behind(void)
{
    struct simulated *first = &simulated[0];
    for (int i = 1; i < n_simulated; i++)
        if (next_step_ns(&simulated[i]) < next_step_ns(first))
            first = &simulated[i];
    CHECK(next_step_ns(first) != FP_OS_FOREVER); /* else all wait for each other */
    return first;
}

static void go_on(void)
{
    struct simulated *me = self, *next = furthest_behind();
    if (next->waits_on != NULL) {
        next->now_ns = next->deadline_ns;
        next->waits_on = NULL;
        next->woken = FP_OS_TIMED_OUT;
    }
    if (next == me)
        return;
    sem_post(&next->baton);
    if (!me->is_over)
        sem_wait(&me->baton);
}

/* The calling thread is busy for so long. */
static void spend(uint64_t ns)
{
    self->now_ns += ns;
    go_on();
}

static void *live(void *argument)
{
    self = argument;
    sem_wait(&self->baton);
    self->body(self->argument);
    self->is_over = true;
    go_on();
    return NULL;
}

/* The calling thread becomes the only one of a machine with so many CPUs, at time 0. */
static void simulate(uint32_t n_cpus)
{
    n_simulated_cpus = n_cpus;
    n_simulated = 1;
    self = &simulated[0];
    memset(self, 0, sizeof *self);
    sem_init(&self->baton, 0, 0);
}

/* ------------------------------------------------------------------------- the system, as fp_os.h and fp_atomic.h have it */

void fp_test_yield(void)
{
    if (self != NULL)
        spend(ATOMIC_NS);
}

uint64_t fp_os_clock_ns(void)
{
    self->now_ns += CLOCK_NS; /* nobody else sees it: no need to go on */
    return self->now_ns;
}

fp_os_woken fp_os_wait(fp_atomic_u32_t *word, uint32_t expected, uint64_t deadline_ns)
{
    if (atomic_load(word) != expected)
        return FP_OS_WOKEN;
    self->waits_on = word;
    self->deadline_ns = deadline_ns;
    go_on();
    return self->woken;
}

void fp_os_wake_one(const fp_atomic_u32_t *word)
{
    spend(WAKE_COSTS_NS);
    for (int i = 0; i < n_simulated; i++) {
        struct simulated *thread = &simulated[i];
        if (thread->waits_on != word || thread->is_over)
            continue;
        thread->waits_on = NULL;
        thread->woken = FP_OS_WOKEN;
        thread->now_ns = self->now_ns + WAKE_TAKES_NS;
        return;
    }
}

bool fp_os_thread_start(fp_os_thread *thread, void (*body)(void *argument), void *argument)
{
    CHECK(n_simulated < MAX_SIMULATED);
    struct simulated *started = &simulated[n_simulated];
    memset(started, 0, sizeof *started);
    started->body = body;
    started->argument = argument;
    started->now_ns = self->now_ns + START_TAKES_NS;
    sem_init(&started->baton, 0, 0);
    started->thread = thread_start(live, started);
    thread->id = (uintptr_t)n_simulated++;
    spend(START_COSTS_NS);
    return true;
}

void fp_os_thread_join(fp_os_thread thread)
{
    struct simulated *joined = &simulated[thread.id];
    while (!joined->is_over) {
        self->now_ns = next_step_ns(furthest_behind()) + 1;
        go_on();
    }
    thread_join(joined->thread);
}

uint32_t fp_os_n_cpus(void)
{
    return n_simulated_cpus;
}

void fp_os_at_fork(void (*before)(void), void (*in_parent)(void), void (*in_child)(void))
{
    (void)before, (void)in_parent, (void)in_child; /* nobody forks here */
}

void fp_os_yield(void)
{
    spend(YIELD_NS);
}

#endif
