/* Loops under load: seeded programs over the deque and the pool, run plain and under the sanitizers.
 *
 * What must hold: a ticket is taken once, in order, and seen whole; every index runs once, whoever else is at it; a loop
 * that needs several threads gets them, so stealing happens and no wake-up is lost (else it hangs); pools come and go;
 * forks find the rest intact; memory may fail at any point.
 */
#include "fp_test.h"

#define FP_CORE
#include "fastpar.h"

#include "fp_check.h"
#include "fp_deque.h"
#include "fp_os.h"

#include <sched.h>
#include <time.h>
#include <sys/wait.h>

static struct options options;

/* A key that no loop has had: its caller calls for help before it knows anything. Kernels here wait for each other, which
 * no loop promises to serve; one whose kernel was quick last time starts alone. */
static const void *new_key(void)
{
    static char keys[1 << 16];
    static _Atomic unsigned n_keys;
    return &keys[atomic_fetch_add(&n_keys, 1) % sizeof keys];
}

/* ------------------------------------------------------------------------------------------------------ the deque */

enum { MAX_THIEVES = 8 };

static fp_deque deque;
static _Atomic int n_taken_of[1 << 16];
static _Atomic bool is_over;
static _Atomic bool was_stolen_from;

/* The depth is the number of the ticket, the root its complement: a torn ticket shows. */
static void note_taken(const fp_ticket *ticket)
{
    CHECK_EQ(ticket->root, ~(uintptr_t)ticket->depth);
    CHECK_EQ(atomic_fetch_add(&n_taken_of[ticket->depth % (1 << 16)], 1), ticket->depth >> 16);
}

/* A thief sees the numbers grow: the oldest goes first. */
static void *steal_all(void *argument)
{
    static const fp_wish any = {.loop = NULL};
    size_t n_stolen = 0, latest = 0;
    while (!atomic_load(&is_over)) {
        fp_ticket ticket;
        if (fp_deque_steal_thief(&deque, &any, &ticket) != FP_THEFT_TAKEN)
            continue;
        CHECK(n_stolen == 0 || ticket.depth > latest);
        latest = ticket.depth;
        n_stolen++;
        atomic_store(&was_stolen_from, true);
        note_taken(&ticket);
    }
    *(size_t *)argument = n_stolen;
    return NULL;
}

static void stampede(void)
{
    pthread_t thieves[MAX_THIEVES];
    size_t n_stolen[MAX_THIEVES], n_pushed = 0, n_popped = 0, n_all = 0;
    uint64_t random = options.seed;
    fp_deque_init(&deque);
    atomic_store(&is_over, false);
    for (long i = 0; i < options.threads; i++)
        thieves[i] = thread_start(steal_all, &n_stolen[i]);
    atomic_store(&was_stolen_from, false);
    while (n_pushed < (size_t)options.iterations || !atomic_load(&was_stolen_from)) { /* thieves may be slow to come */
        fp_ticket ticket = {NULL, ~(uintptr_t)n_pushed, n_pushed};
        if (random_below(&random, 3) > 0)
            n_pushed += fp_deque_push_owner(&deque, &ticket);
        else if (fp_deque_pop_owner(&deque, &ticket)) {
            n_popped++;
            note_taken(&ticket);
        }
        if (n_pushed % 64 == 0)
            sched_yield(); /* let thieves in where there are fewer cores than threads */
    }
    for (fp_ticket ticket; fp_deque_pop_owner(&deque, &ticket); n_popped++)
        note_taken(&ticket);
    atomic_store(&is_over, true);
    for (long i = 0; i < options.threads; i++) {
        thread_join(thieves[i]);
        n_all += n_stolen[i];
    }
    CHECK_EQ(n_all + n_popped, n_pushed);
    CHECK(n_all > 0);
}

/* ------------------------------------------------------------------------------------------------------ the loops */

enum { MAX_N = 4096 };

struct job {
    fp_pool *pool;
    uint64_t random;
    _Atomic int n_runs[MAX_N];
    _Atomic int n_here;
    int wanted;
};

static void spin(uint64_t turns)
{
    for (volatile uint64_t i = 0; i < turns; i++) {
    }
}

static int run_once(int64_t i, void *context)
{
    struct job *job = context;
    spin((uint64_t)(i * 7919 % 97) * (i % 61 == 0 ? 100 : 3));
    atomic_fetch_add(&job->n_runs[i], 1);
    return 0;
}

static int run_inner(int64_t i, void *context)
{
    struct job *job = context;
    if (i % 5 == 0)
        return run_once(i, context);
    /* A block of 8 indices each, by a loop inside the loop. */
    fp_options inner = {.n_threads = 3, .schedule = (fp_schedule)(i % 4)};
    struct job *own = calloc(1, sizeof *own);
    CHECK_EQ(fp_parallel_for(job->pool, 8, run_once, own, &inner, NULL), FP_DONE);
    for (int k = 0; k < 8; k++)
        CHECK_EQ(atomic_load(&own->n_runs[k]), 1);
    free(own);
    return run_once(i, context);
}

static void run_random_loop(struct job *job, fp_index_fn kernel, int64_t most)
{
    int64_t n = (int64_t)random_below(&job->random, (uint64_t)most);
    fp_options how = {
        .n_threads = 1 + (uint32_t)random_below(&job->random, 6),
        .schedule = (fp_schedule)random_below(&job->random, 4),
        .grain = (int64_t)random_below(&job->random, 20),
    };
    memset(job->n_runs, 0, sizeof job->n_runs);
    CHECK_EQ(fp_parallel_for(job->pool, n, kernel, job, &how, NULL), FP_DONE);
    for (int64_t i = 0; i < most; i++)
        CHECK_EQ(atomic_load(&job->n_runs[i]), i < n);
}

static void *run_many(void *argument)
{
    struct job *job = argument;
    for (long i = 0; i < options.iterations / 1000; i++)
        run_random_loop(job, i % 4 == 0 ? run_inner : run_once, i % 4 == 0 ? 64 : 2000);
    return NULL;
}

/* Several threads from outside at once, nested loops among theirs. */
static void nothing_is_lost(void)
{
    fp_pool *pool = fp_pool_new(3);
    struct job *jobs = calloc((size_t)options.threads, sizeof *jobs);
    pthread_t callers[MAX_THIEVES];
    for (long i = 0; i < options.threads; i++) {
        jobs[i].pool = pool;
        jobs[i].random = options.seed + (uint64_t)i;
        callers[i] = thread_start(run_many, &jobs[i]);
    }
    for (long i = 0; i < options.threads; i++)
        thread_join(callers[i]);
    free(jobs);
    fp_pool_free(pool);
}

/* Waits until as many threads as there are indices are here: without stealing it never ends. */
static int meet(int64_t i, void *context)
{
    struct job *job = context;
    (void)i;
    atomic_fetch_add(&job->n_here, 1);
    while (atomic_load(&job->n_here) < job->wanted)
        sched_yield();
    return 0;
}

static void stealing_happens(void)
{
    fp_pool *pool = fp_pool_new(MAX_THIEVES);
    for (int round = 0; round < 200; round++) {
        struct job job = {.wanted = 2 + round % 4};
        fp_options how = {.n_threads = (uint32_t)job.wanted, .schedule = (fp_schedule)(round % 4), .key = new_key()};
        CHECK_EQ(fp_parallel_for(pool, job.wanted, meet, &job, &how, NULL), FP_DONE);
        if (round % 20 == 0)
            nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL); /* they fall asleep */
    }
    fp_pool_free(pool);
}

/* Of two indices one starts an inner loop that needs both threads: who waits for it must help. */
static int meet_inside(int64_t i, void *context)
{
    struct job *job = context;
    if (i == 0)
        return 0;
    fp_options how = {.n_threads = 2, .schedule = FP_DYNAMIC, .key = new_key()};
    return fp_parallel_for(job->pool, 2, meet, job, &how, NULL) == FP_DONE ? 0 : 1;
}

static void who_waits_helps(void)
{
    fp_pool *pool = fp_pool_new(1);
    for (int round = 0; round < 200; round++) {
        struct job job = {.pool = pool, .wanted = 2};
        fp_options how = {.n_threads = 2, .schedule = FP_DYNAMIC, .key = new_key()};
        CHECK_EQ(fp_parallel_for(pool, 2, meet_inside, &job, &how, NULL), FP_DONE);
    }
    fp_pool_free(pool);
}

/* One endless loop does not keep others from being helped, where they are allowed one thread more than it has. */
static int until_over(int64_t i, void *context)
{
    (void)i, (void)context;
    while (!atomic_load(&is_over))
        sched_yield();
    return 0;
}

static void *run_until_over(void *pool)
{
    fp_options how = {.n_threads = 2, .schedule = FP_STATIC, .key = new_key()};
    CHECK_EQ(fp_parallel_for(pool, 2, until_over, NULL, &how, NULL), FP_DONE);
    return NULL;
}

static void no_starvation(void)
{
    fp_pool *pool = fp_pool_new(2);
    atomic_store(&is_over, false);
    pthread_t endless = thread_start(run_until_over, pool);
    for (int round = 0; round < 20; round++) {
        struct job job = {.wanted = 2};
        fp_options how = {.n_threads = 3, .schedule = FP_DYNAMIC, .key = new_key()};
        CHECK_EQ(fp_parallel_for(pool, 2, meet, &job, &how, NULL), FP_DONE);
    }
    atomic_store(&is_over, true);
    thread_join(endless);
    fp_pool_free(pool);
}

/* ------------------------------------------------------------------------------------------- lives of pools, faults */

static void pools_come_and_go(void)
{
    struct job *job = calloc(1, sizeof *job);
    job->random = options.seed;
    for (long i = 0; i < options.iterations / 2000 + 1; i++) {
        job->pool = fp_pool_new((uint32_t)i % 5);
        for (int k = 0; k < 3; k++) {
            run_random_loop(job, run_once, 1000);
            if (k == 1)
                fp_pool_rest(job->pool);
        }
        fp_pool_free(job->pool);
    }
    free(job);
}

#ifndef __SANITIZE_THREAD__ /* it does not follow threads that a forked child starts */

static void forks_while_running(void)
{
    fp_pool *pool = fp_pool_new(3);
    struct job *job = calloc(1, sizeof *job), *others = calloc(1, sizeof *others);
    *others = (struct job){.pool = pool, .random = options.seed};
    *job = (struct job){.pool = pool, .random = options.seed + 1};
    pthread_t caller = thread_start(run_many, others);
    for (int i = 0; i < 30; i++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(HANG_S);
            for (int k = 0; k < 3; k++)
                run_random_loop(job, run_inner, 64);
            _exit(0);
        }
        int status = -1;
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK_EQ(status, 0);
        run_random_loop(job, run_once, 1000);
    }
    thread_join(caller);
    free(job);
    free(others);
    fp_pool_free(pool);
}

#endif

#ifdef FP_DEBUG

static int count_up(void *accumulator, int64_t begin, int64_t end, void *context)
{
    (void)context;
    *(int64_t *)accumulator += end - begin;
    return 0;
}

static void count_merge(void *left, const void *right, void *context)
{
    (void)context;
    *(int64_t *)left += *(const int64_t *)right;
}

/* The n-th allocation or thread fails, n = 1, 2, ...: fewer workers, or FP_EXHAUSTED, and nothing is lost or leaked. */
static void memory_fails(void)
{
    struct job *job = calloc(1, sizeof *job);
    fp_reduction reduction = {sizeof(int64_t), NULL, count_up, count_merge, NULL, 1};
    fp_scratch scratch = {64, NULL, NULL, NULL};
    fp_options how = {.n_threads = 3, .scratch = &scratch, .key = &how};
    for (size_t n = 1; n < 40; n++) {
        fp_check_fail_nth(n);
        job->random = options.seed + n;
        job->pool = fp_pool_new(3);
        if (job->pool != NULL) {
            int64_t result = 0;
            run_random_loop(job, run_once, 1000);
            memset(job->n_runs, 0, sizeof job->n_runs);
            fp_outcome outcome = fp_parallel_for(job->pool, 100, run_once, job, &how, NULL);
            CHECK(outcome == FP_DONE || outcome == FP_EXHAUSTED);
            outcome = fp_parallel_reduce(job->pool, 100, &reduction, NULL, &result, NULL, NULL);
            CHECK(outcome == FP_EXHAUSTED || result == 100);
        }
        fp_check_fail_nth(0);
        fp_pool_free(job->pool);
    }
    free(job);
}

#endif

int main(int argc, char **argv)
{
    options = test_start(argc, argv, (struct options){.seed = 1, .threads = 4, .iterations = 100000});
    CHECK(options.threads <= MAX_THIEVES);
    RUN(stampede);
    RUN(nothing_is_lost);
    RUN(stealing_happens);
    RUN(who_waits_helps);
    RUN(no_starvation);
    RUN(pools_come_and_go);
#ifndef __SANITIZE_THREAD__
    RUN(forks_while_running);
#endif
#ifdef FP_DEBUG
    RUN(memory_fails);
#endif
    CHECK_EQ(fp_check_n_live(), 0);
    return 0;
}
