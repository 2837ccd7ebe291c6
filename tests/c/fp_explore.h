/* Walks through the interleavings of a small program, one by one.
 *
 * Threads are coroutines that may be switched before every operation of fp_atomic.h and around every wait; the system's
 * wait is replaced by one under the same contract. All schedules with at most so many unforced steps (a switch away
 * from a thread that could go on, a needless wake) are tried, depth first. When no thread can go on, the program
 * must be finished: otherwise a wake-up was lost. Memory orders are not explored, every operation here is seen at once
 * by all: they are ThreadSanitizer's part. Not for sanitizers itself, which do not follow the switching of stacks.
 */
#ifndef FP_EXPLORE_H
#define FP_EXPLORE_H

#include "fp_test.h"

#include "fp_os.h"

#include <ucontext.h>

enum { N_THREADS = 3, MAX_DEPTH = 4096, STACK_BYTES = 64 * 1024 };

/* --------------------------------------------------------------------------------------- threads and choices */

static struct thread {
    ucontext_t context;
    const fp_atomic_u32_t *waits_on; /* NULL: could go on */
    bool has_deadline, is_over;
    fp_os_woken woken;
    char stack[STACK_BYTES];
} threads[N_THREADS];

static ucontext_t scheduler;
static struct thread *current; /* NULL: before and after the threads */
static int n_switches, max_switches;

/* The schedule: at each depth, which of how many alternatives was taken. A replay follows it as far as it goes. */
static struct {
    int taken, n;
} choices[MAX_DEPTH];
static int depth, n_recorded;

static int choose(int n)
{
    CHECK(depth < MAX_DEPTH);
    if (depth == n_recorded)
        choices[n_recorded++].taken = 0;
    choices[depth].n = n;
    return choices[depth++].taken;
}

/* Moves on to the next schedule; false when all have been tried. */
static bool next_schedule(void)
{
    while (n_recorded > 0 && choices[n_recorded - 1].taken + 1 == choices[n_recorded - 1].n)
        n_recorded--;
    if (n_recorded == 0)
        return false;
    choices[n_recorded - 1].taken++;
    return true;
}

static void go_on(void);

void fp_test_yield(void)
{
    if (current != NULL)
        go_on();
}

/* ---------------------------------------------------------------------------- the system, as fp_os.h promises it */

fp_os_woken fp_os_wait(fp_atomic_u32_t *word, uint32_t expected, uint64_t deadline_ns)
{
    fp_test_yield();
    if (atomic_load(word) != expected)
        return FP_OS_WOKEN;
    current->waits_on = word;
    current->has_deadline = deadline_ns != FP_OS_FOREVER;
    go_on();
    return current->woken;
}

static void wake(struct thread *thread, fp_os_woken woken)
{
    thread->waits_on = NULL;
    thread->woken = woken;
}

void fp_os_wake_one(const fp_atomic_u32_t *word)
{
    fp_test_yield();
    for (int i = 0; i < N_THREADS; i++)
        if (threads[i].waits_on == word) {
            wake(&threads[i], FP_OS_WOKEN);
            return;
        }
}

uint64_t fp_os_clock_ns(void)
{
    return 0;
}

/* --------------------------------------------------------------------------------------------------- scheduler */

static bool can_go_on(const struct thread *thread)
{
    return !thread->is_over && thread->waits_on == NULL;
}

/* Who goes next: the running thread (the first alternative), another, or a sleeper whose time is over or who wakes for
 * no reason. NULL when none can go on and no deadline is left. */
static struct thread *pick(struct thread *running)
{
    struct thread *alternatives[N_THREADS];
    int n = 0;
    bool is_free = running == NULL || !can_go_on(running);
    if (!is_free)
        alternatives[n++] = running;
    for (int i = 0; i < N_THREADS; i++)
        if (&threads[i] != running && can_go_on(&threads[i]))
            alternatives[n++] = &threads[i];
    bool is_quiet = n == 0;
    for (int i = 0; i < N_THREADS; i++)
        if (threads[i].waits_on != NULL && (is_quiet ? threads[i].has_deadline : n_switches < max_switches))
            alternatives[n++] = &threads[i];
    if (n == 0)
        return NULL;
    struct thread *next = alternatives[!is_free && n_switches == max_switches ? 0 : choose(n)];
    n_switches += (!is_free && next != running) || (!is_quiet && next->waits_on != NULL);
    if (next->waits_on != NULL)
        wake(next, next->has_deadline ? FP_OS_TIMED_OUT : FP_OS_WOKEN);
    return next;
}

/* Lets whoever is picked go on; without anybody, the schedule is over. */
static void go_on(void)
{
    struct thread *before = current;
    current = pick(before);
    if (current != before)
        swapcontext(before == NULL ? &scheduler : &before->context, current == NULL ? &scheduler : &current->context);
}

static void (*bodies[N_THREADS])(int);

static void run_body(int i)
{
    bodies[i](i);
    threads[i].is_over = true;
    go_on();
}

static void start_thread(int i)
{
    struct thread *thread = &threads[i];
    getcontext(&thread->context);
    thread->context.uc_stack.ss_sp = thread->stack;
    thread->context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&thread->context, (void (*)(void))run_body, 1, i);
    thread->is_over = false;
    thread->waits_on = NULL;
}

/* Tries all schedules of a program; `finish` says when nothing can go on whether everything was done. */
static void explore(const char *name, int switches, void (*set_up)(void), void (*finish)(void))
{
    long n_schedules = 0;
    n_recorded = 0;
    max_switches = switches;
    do {
        depth = n_switches = 0;
        set_up();
        for (int i = 0; i < N_THREADS; i++)
            start_thread(i);
        go_on();
        finish();
        n_schedules++;
    } while (next_schedule());
    fprintf(stderr, "  %s: %ld schedules\n", name, n_schedules);
}

static void all_are_over(void)
{
    for (int i = 0; i < N_THREADS; i++)
        CHECK(threads[i].is_over);
}

#endif
