/* The public loops call by call: every index once, every schedule, failures, stops, scratch, blocks, reductions, forks. */
#include "fp_test.h"

#define FP_CORE
#include "fastpar.h"

#include "fp_check.h"
#include "fp_os.h"
#include "fp_sleep.h"

#include <sys/wait.h>

enum { N = 1000, N_THREADS = 4 };

static fp_pool *pool;
static _Atomic int n_runs[N];

static void forget_runs(void)
{
    for (int i = 0; i < N; i++)
        atomic_store(&n_runs[i], 0);
}

static void check_each_once(int64_t n)
{
    for (int i = 0; i < N; i++)
        CHECK_EQ(atomic_load(&n_runs[i]), i < n);
}

/* Long enough that helpers are called and come. */
static void work_ns(uint64_t ns)
{
    uint64_t end_ns = fp_os_clock_ns() + ns;
    while (fp_os_clock_ns() < end_ns) {
    }
}

static int run_index(int64_t i, void *context)
{
    (void)context;
    work_ns(1000);
    atomic_fetch_add(&n_runs[i], 1);
    return 0;
}

static int run_chunk(fp_chunk *chunk, void *context)
{
    CHECK(chunk->begin < chunk->end);
    CHECK(chunk->member < N_THREADS);
    for (int64_t i = chunk->begin; i < chunk->end; i++)
        run_index(i, context);
    return 0;
}

/* ---------------------------------------------------------------------------------------------------- ranges */

static void every_schedule_runs_each_index_once(void)
{
    const int64_t sizes[] = {0, 1, 2, 3, 7, 64, N};
    const int64_t grains[] = {0, 1, 3, 5000};
    for (int schedule = FP_AUTO; schedule <= FP_GUIDED; schedule++)
        for (int s = 0; s < 7; s++)
            for (int g = 0; g < 4; g++)
                for (uint32_t n_threads = 1; n_threads <= N_THREADS; n_threads += 3) {
                    fp_options options = {.n_threads = n_threads, .schedule = (fp_schedule)schedule, .grain = grains[g]};
                    forget_runs();
                    CHECK_EQ(fp_parallel_for(pool, sizes[s], run_index, NULL, &options, NULL), FP_DONE);
                    check_each_once(sizes[s]);
                    forget_runs();
                    CHECK_EQ(fp_parallel_for_chunks(pool, sizes[s], run_chunk, NULL, &options, NULL), FP_DONE);
                    check_each_once(sizes[s]);
                }
}

static int add_up(fp_chunk *chunk, void *context)
{
    atomic_fetch_add((_Atomic int64_t *)context, chunk->end - chunk->begin);
    return 0;
}

static void more_indices_than_32_bits(void)
{
    const int64_t n = ((int64_t)1 << 33) + 5;
    for (int schedule = FP_AUTO; schedule <= FP_GUIDED; schedule++) {
        _Atomic int64_t sum = 0;
        fp_options options = {.n_threads = N_THREADS, .schedule = (fp_schedule)schedule, .grain = 1 << 20};
        CHECK_EQ(fp_parallel_for_chunks(pool, n, add_up, &sum, &options, NULL), FP_DONE);
        CHECK_EQ(atomic_load(&sum), n);
    }
}

/* Units of grains, and grains of indices, whose last end is no number any more if it is taken for a whole one. */
static void up_to_the_last_number(void)
{
    const int64_t grains[] = {0, (int64_t)1 << 62, ((int64_t)1 << 62) + 1, INT64_MAX / 3, INT64_MAX};
    for (int schedule = FP_AUTO; schedule <= FP_GUIDED; schedule++)
        for (int g = schedule == FP_DYNAMIC /* without a grain: 2^31 pieces */; g < 5; g++)
            for (uint32_t n_threads = 1; n_threads <= N_THREADS; n_threads += 3) {
                _Atomic int64_t sum = 0;
                fp_options options = {.n_threads = n_threads, .schedule = (fp_schedule)schedule, .grain = grains[g]};
                CHECK_EQ(fp_parallel_for_chunks(pool, INT64_MAX, add_up, &sum, &options, NULL), FP_DONE);
                CHECK_EQ(atomic_load(&sum), INT64_MAX);
            }
}

static int add_rows(const fp_block *block, void *context)
{
    CHECK(block->row_begin < block->row_end && block->column_begin < block->column_end);
    atomic_fetch_add((_Atomic int64_t *)context, block->row_end - block->row_begin);
    return 0;
}

static void blocks_up_to_the_last_number(void)
{
    _Atomic int64_t sum = 0;
    CHECK_EQ(fp_parallel_for_blocks(pool, INT64_MAX, 1, ((int64_t)1 << 61) + 1, INT64_MAX, add_rows, &sum, NULL, NULL),
             FP_DONE);
    CHECK_EQ(atomic_load(&sum), INT64_MAX);
}

static int run_block(const fp_block *block, void *context)
{
    int n_columns = *(int *)context;
    for (int64_t row = block->row_begin; row < block->row_end; row++)
        for (int64_t column = block->column_begin; column < block->column_end; column++)
            atomic_fetch_add(&n_runs[row * n_columns + column], 1);
    return 0;
}

static void blocks_cover_the_table(void)
{
    const int shapes[][4] = {{20, 50, 3, 7}, {1, 1000, 5, 9}, {1000, 1, 1, 1}, {40, 25, 40, 25}, {0, 5, 1, 1}, {5, 0, 2, 2}};
    for (int i = 0; i < 6; i++) {
        int n_columns = shapes[i][1];
        forget_runs();
        CHECK_EQ(fp_parallel_for_blocks(pool, shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3], run_block,
                                        &n_columns, NULL, NULL),
                 FP_DONE);
        check_each_once(shapes[i][0] * shapes[i][1]);
    }
}

static void wrong_arguments(void)
{
    fp_options grain = {.grain = -1}, schedule = {.schedule = (fp_schedule)9};
    CHECK_EQ(fp_parallel_for(pool, -1, run_index, NULL, NULL, NULL), FP_INVALID);
    CHECK_EQ(fp_parallel_for(pool, 1, run_index, NULL, &grain, NULL), FP_INVALID);
    CHECK_EQ(fp_parallel_for(pool, 1, run_index, NULL, &schedule, NULL), FP_INVALID);
    CHECK_EQ(fp_parallel_for_blocks(pool, 1, 1, 0, 1, run_block, NULL, NULL, NULL), FP_INVALID);
    CHECK_EQ(fp_parallel_for_blocks(pool, INT64_MAX, INT64_MAX, 1, 1, run_block, NULL, NULL, NULL), FP_INVALID);
}

/* ------------------------------------------------------------------------------------------- failures and stops */

static int fail_at(int64_t i, void *context)
{
    run_index(i, NULL);
    return i == *(int *)context ? 7 : 0;
}

static void a_failure_stops_the_rest(void)
{
    for (int bad = 0; bad < N; bad += 111)
        for (int schedule = FP_AUTO; schedule <= FP_GUIDED; schedule++) {
            fp_options options = {.n_threads = N_THREADS, .schedule = (fp_schedule)schedule};
            fp_failure failure = {-1, -1};
            forget_runs();
            CHECK_EQ(fp_parallel_for(pool, N, fail_at, &bad, &options, &failure), FP_FAILED);
            CHECK_EQ(failure.index, bad);
            CHECK_EQ(failure.code, 7);
            for (int i = 0; i < N; i++)
                CHECK(atomic_load(&n_runs[i]) <= 1);
        }
}

static int stop_soon(int64_t i, void *context)
{
    atomic_fetch_add(&n_runs[i], 1);
    work_ns(50000);
    fp_stop_request(context);
    CHECK(fp_is_stopping());
    return 0;
}

static void a_stop_token_stops(void)
{
    fp_stop stop = {0};
    fp_options options = {.n_threads = N_THREADS, .stop = &stop, .schedule = FP_DYNAMIC, .grain = 1};
    int n = 0;
    forget_runs();
    CHECK_EQ(fp_parallel_for(pool, N, stop_soon, &stop, &options, NULL), FP_STOPPED);
    for (int i = 0; i < N; i++)
        n += atomic_load(&n_runs[i]);
    CHECK(n >= 1 && n <= N_THREADS);
    CHECK_EQ(fp_parallel_for(pool, N, run_index, NULL, &options, NULL), FP_STOPPED); /* nothing starts */
    CHECK(!fp_is_stopping());
}

struct below {
    fp_stop stop;
    int depth, n_leaves;
};

static int stop_below(int64_t i, void *context)
{
    (void)i;
    struct below *below = context;
    if (below->depth == 3) {
        work_ns(50000);
        if (++below->n_leaves == 3)
            fp_stop_request(&below->stop);
        return 0;
    }
    fp_options options = {.n_threads = 1};
    below->depth++;
    CHECK_EQ(fp_parallel_for(pool, N, stop_below, below, &options, NULL), FP_STOPPED);
    below->depth--;
    return 0;
}

/* The innermost of four loops looks at what was asked of the outermost. */
static void a_stop_reaches_inner_loops(void)
{
    struct below below = {.depth = 0};
    fp_options options = {.n_threads = 1, .stop = &below.stop};
    CHECK_EQ(fp_parallel_for(pool, N, stop_below, &below, &options, NULL), FP_STOPPED);
    CHECK(below.n_leaves < 10);
    CHECK_EQ(below.depth, 0);
}

static int poll_says_stop(void *context)
{
    ++*(int *)context;
    return 1;
}

static int take_5_ms(int64_t i, void *context)
{
    (void)i, (void)context;
    work_ns(5000000);
    return 0;
}

/* A kernel is called with no fewer indices than the grain, but at the end of a range or of a thread's share. */
static int count_short(fp_chunk *chunk, void *context)
{
    work_ns(100);
    if (chunk->end - chunk->begin < 50)
        atomic_fetch_add((_Atomic int *)context, 1);
    return 0;
}

static void the_grain_is_kept(void)
{
    for (int schedule = FP_AUTO; schedule <= FP_GUIDED; schedule++)
        for (int i = 0; i < 5; i++) {
            _Atomic int n_short = 0;
            fp_options options = {.n_threads = N_THREADS, .schedule = (fp_schedule)schedule, .grain = 50};
            CHECK_EQ(fp_parallel_for_chunks(pool, 100049, count_short, &n_short, &options, NULL), FP_DONE);
            CHECK(atomic_load(&n_short) <= (schedule == FP_STATIC ? N_THREADS : 1));
        }
}

/* Returns how long it took, in all. */
static uint64_t poll_once(int64_t n, int (*kernel)(int64_t i, void *context))
{
    uint64_t begin_ns = fp_os_clock_ns();
    for (int schedule = FP_AUTO; schedule <= FP_GUIDED; schedule++)
        for (uint32_t n_threads = 1; n_threads <= 2; n_threads++) {
            int n_polls = 0;
            fp_options options = {
                .n_threads = n_threads,
                .schedule = (fp_schedule)schedule,
                .poll = poll_says_stop,
                .poll_context = &n_polls,
            };
            CHECK_EQ(fp_parallel_for(pool, n, kernel, NULL, &options, NULL), FP_STOPPED);
            CHECK_EQ(n_polls, 1);
        }
    return fp_os_clock_ns() - begin_ns;
}

static void polling_stops(void)
{
    poll_once(100000, take_5_ms);
}

static int do_nothing(int64_t i, void *context)
{
    (void)i, (void)context;
    return 0;
}

/* Units of 2^32 indices, for their number must fit into 32 bits: each alone takes seconds. */
static void huge_loops_are_polled_in_time(void)
{
    CHECK(poll_once(INT64_MAX, do_nothing) < UINT64_C(16000000000)); /* 0.4 s, where nobody else wants the CPUs */
}

/* -------------------------------------------------------------------------------------------------------- scratch */

struct tally {
    _Atomic int n_inits, n_merges, n_frees;
    int64_t sum;
};

static void tally_init(void *scratch, void *context)
{
    CHECK_EQ((uintptr_t)scratch % 64, 0);
    atomic_fetch_add(&((struct tally *)context)->n_inits, 1);
    *(int64_t *)scratch = 0;
}

static int tally_add(fp_chunk *chunk, void *context)
{
    (void)context;
    work_ns(20000);
    for (int64_t i = chunk->begin; i < chunk->end; i++)
        *(int64_t *)chunk->scratch += i;
    return 0;
}

static void tally_merge(void *scratch, void *context)
{
    struct tally *tally = context;
    CHECK_EQ(atomic_load(&tally->n_frees), atomic_fetch_add(&tally->n_merges, 1));
    tally->sum += *(int64_t *)scratch;
}

static void tally_free(void *scratch, void *context)
{
    (void)scratch;
    atomic_fetch_add(&((struct tally *)context)->n_frees, 1);
}

static void each_thread_has_scratch(void)
{
    fp_scratch scratch = {1000, tally_init, tally_merge, tally_free};
    fp_options options = {.n_threads = N_THREADS, .scratch = &scratch, .schedule = FP_DYNAMIC, .grain = 10};
    for (int i = 0; i < 20; i++) {
        struct tally tally = {.sum = 0};
        CHECK_EQ(fp_parallel_for_chunks(pool, N, tally_add, &tally, &options, NULL), FP_DONE);
        CHECK_EQ(tally.sum, N * (N - 1) / 2);
        CHECK(atomic_load(&tally.n_inits) <= N_THREADS);
        CHECK_EQ(atomic_load(&tally.n_merges), atomic_load(&tally.n_inits));
        CHECK_EQ(atomic_load(&tally.n_frees), atomic_load(&tally.n_inits));
    }
}

enum { DEPTH = 20, N_CALLERS = 70 };

static fp_pool *other_pool;

/* More loops inside each other than a place can share, every other one on another pool. */
static int descend(fp_chunk *chunk, void *context)
{
    int64_t depth = *(int64_t *)context, below = depth - 1;
    fp_scratch scratch = {.n_bytes = 100 * (size_t)depth};
    fp_options options = {.scratch = &scratch, .n_threads = 2};
    CHECK(chunk->scratch != NULL);
    CHECK_EQ((uintptr_t)chunk->scratch % 64, 0);
    memset(chunk->scratch, (int)depth, 100);
    if (depth > 1)
        CHECK_EQ(fp_parallel_for_chunks(depth % 2 ? pool : other_pool, 1, descend, &below, &options, NULL), FP_DONE);
    CHECK_EQ(*(char *)chunk->scratch, depth); /* nobody else's */
    return 0;
}

static void scratch_at_any_depth(void)
{
    int64_t depth = DEPTH;
    fp_scratch scratch = {.n_bytes = 100};
    fp_options options = {.scratch = &scratch};
    other_pool = fp_pool_new(1);
    for (options.n_threads = 1; options.n_threads <= N_THREADS; options.n_threads += 3)
        CHECK_EQ(fp_parallel_for_chunks(pool, 2, descend, &depth, &options, NULL), FP_DONE);
    scratch.n_bytes = SIZE_MAX;
    CHECK_EQ(fp_parallel_for_chunks(pool, 2, descend, &depth, &options, NULL), FP_EXHAUSTED);
    fp_pool_free(other_pool);
}

static int meet(fp_chunk *chunk, void *context)
{
    memset(chunk->scratch, 1, 100);
    atomic_fetch_add((_Atomic int *)context, 1);
    while (atomic_load((_Atomic int *)context) < N_CALLERS)
        fp_os_yield();
    return 0;
}

static void *run_a_meeting(void *context)
{
    fp_scratch scratch = {.n_bytes = 100};
    fp_options options = {.n_threads = 1, .scratch = &scratch};
    CHECK_EQ(fp_parallel_for_chunks(pool, 1, meet, context, &options, NULL), FP_DONE);
    return NULL;
}

/* More threads at once than there are places for them. */
static void scratch_for_any_number_of_callers(void)
{
    pthread_t callers[N_CALLERS];
    _Atomic int n_met = 0;
    for (int i = 0; i < N_CALLERS; i++)
        callers[i] = thread_start(run_a_meeting, &n_met);
    for (int i = 0; i < N_CALLERS; i++)
        thread_join(callers[i]);
}

/* ------------------------------------------------------------------------------------------------------ reductions */

static int sum_harmonics(void *accumulator, int64_t begin, int64_t end, void *context)
{
    if (context != NULL && *(int64_t *)context >= begin && *(int64_t *)context < end)
        return 3;
    for (int64_t i = begin; i < end; i++)
        *(double *)accumulator += 1.0 / (double)(i + 1);
    return 0;
}

static void sum_merge(void *left, const void *right, void *context)
{
    (void)context;
    *(double *)left += *(const double *)right;
}

static void reductions_are_bitwise_equal(void)
{
    const int64_t sizes[] = {0, 1, 2, 3, 5, 1023, 1024, 1025, 100003};
    for (int s = 0; s < 9; s++)
        for (int64_t block = 0; block <= 16; block += 16) {
            fp_reduction reduction = {sizeof(double), NULL, sum_harmonics, sum_merge, NULL, block};
            double expected = -1;
            fp_options alone = {.n_threads = 1};
            CHECK_EQ(fp_parallel_reduce(pool, sizes[s], &reduction, NULL, &expected, &alone, NULL), FP_DONE);
            for (int round = 0; round < 12; round++) {
                double result = -1;
                fp_options options = {.n_threads = (uint32_t)round % N_THREADS + 1, .schedule = (fp_schedule)(round % 4)};
                CHECK_EQ(fp_parallel_reduce(pool, sizes[s], &reduction, NULL, &result, &options, NULL), FP_DONE);
                CHECK_EQ(memcmp(&result, &expected, sizeof result), 0);
            }
        }
}

static void a_reduction_can_fail(void)
{
    fp_reduction reduction = {sizeof(double), NULL, sum_harmonics, sum_merge, NULL, 100};
    int64_t bad = 5150;
    double result = -1;
    fp_failure failure = {0, 0};
    CHECK_EQ(fp_parallel_reduce(pool, 10000, &reduction, &bad, &result, NULL, &failure), FP_FAILED);
    CHECK_EQ(failure.index, 5100);
    CHECK_EQ(failure.code, 3);
    CHECK_EQ(fp_parallel_reduce(pool, -1, &reduction, &bad, &result, NULL, &failure), FP_INVALID);
}

/* -------------------------------------------------------------------------------------------------- limits, threads */

static int see_limit(int64_t i, void *context)
{
    ((uint32_t *)context)[i] = fp_thread_limit();
    return 0;
}

static void limits_are_inherited(void)
{
    uint32_t seen[3] = {0};
    fp_options options = {.n_threads = 3};
    CHECK(fp_thread_limit() >= 1);
    CHECK_EQ(fp_set_thread_limit(5), 0);
    CHECK_EQ(fp_thread_limit(), 5);
    CHECK_EQ(fp_parallel_for(pool, 3, see_limit, seen, &options, NULL), FP_DONE);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(seen[i], 3);
    CHECK_EQ(fp_set_thread_limit(0), 5);
}

static void pools_start_what_they_need(void)
{
    fp_pool *small = fp_pool_new(2);
    fp_options options = {.n_threads = 64, .schedule = FP_DYNAMIC, .grain = 1};
    CHECK_EQ(fp_pool_n_threads(small), 0);
    forget_runs();
    for (int i = 0; i < 50 && fp_pool_n_threads(small) < 2; i++)
        CHECK_EQ(fp_parallel_for(small, 20, take_5_ms, NULL, &options, NULL), FP_DONE);
    CHECK_EQ(fp_pool_n_threads(small), 2);
    fp_pool_rest(small);
    CHECK_EQ(fp_pool_n_threads(small), 0);
    CHECK_EQ(fp_parallel_for(small, N, run_index, NULL, &options, NULL), FP_DONE);
    fp_pool_free(small);
    fp_pool_free(NULL);
}

/* Two wait, one is called for a ticket that is taken back: it looks in vain, and the other sleeps on. */
static void a_call_in_vain_ends_there(void)
{
    static fp_sleep sleep;
    static fp_sleeper waiting[2];
    const fp_ticket ticket = {NULL, 1, 1};
    const fp_wish wish = {(struct fp_loop *)&sleep, 1, 0};
    fp_sleep_init(&sleep);
    for (int i = 0; i < 2; i++) {
        fp_parker_init(&waiting[i].parker);
        fp_sleep_wait_begin(&sleep, &waiting[i], &wish);
    }
    CHECK(fp_sleep_post(&sleep, &ticket));
    CHECK_EQ(fp_sleep_glance(&sleep).n_waiting, 1);
    fp_sleep_withdraw(&sleep);
    CHECK_EQ(fp_park(&waiting[1].parker, 0), FP_PARKED_PERMIT);
    fp_sleep_wait_end(&sleep, &waiting[1], FP_WAITED_IN_VAIN, NULL);
    CHECK_EQ(fp_sleep_glance(&sleep).n_waiting, 1);
    CHECK_EQ(fp_park(&waiting[0].parker, 0), FP_PARKED_TIMEOUT);
    fp_sleep_wait_end(&sleep, &waiting[0], FP_WAITED_ENOUGH, NULL);
    CHECK_EQ(fp_sleep_glance(&sleep).n_waiting, 0);
}

#ifndef __SANITIZE_THREAD__

static void a_child_starts_with_an_empty_pool(void)
{
    CHECK_EQ(fp_parallel_for(pool, N, run_index, NULL, NULL, NULL), FP_DONE);
    pid_t child = fork();
    if (child == 0) {
        alarm(HANG_S);
        CHECK_EQ(fp_pool_n_threads(pool), 0);
        forget_runs();
        fp_options options = {.n_threads = N_THREADS};
        CHECK_EQ(fp_parallel_for(pool, N, run_index, NULL, &options, NULL), FP_DONE);
        check_each_once(N);
        _exit(0);
    }
    int status = -1;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

#endif

int main(int argc, char **argv)
{
    test_start(argc, argv, (struct options){0});
    pool = fp_pool_new(N_THREADS - 1);
    RUN(every_schedule_runs_each_index_once);
    RUN(more_indices_than_32_bits);
    RUN(up_to_the_last_number);
    RUN(blocks_cover_the_table);
    RUN(blocks_up_to_the_last_number);
    RUN(wrong_arguments);
    RUN(a_failure_stops_the_rest);
    RUN(a_stop_token_stops);
    RUN(a_stop_reaches_inner_loops);
    RUN(polling_stops);
    RUN(huge_loops_are_polled_in_time);
    RUN(the_grain_is_kept);
    RUN(each_thread_has_scratch);
    RUN(scratch_at_any_depth);
    RUN(scratch_for_any_number_of_callers);
    RUN(reductions_are_bitwise_equal);
    RUN(a_reduction_can_fail);
    RUN(limits_are_inherited);
    RUN(pools_start_what_they_need);
    RUN(a_call_in_vain_ends_there);
#ifndef __SANITIZE_THREAD__ /* it does not follow threads that a forked child starts */
    RUN(a_child_starts_with_an_empty_pool);
#endif
    fp_pool_free(pool);
    CHECK_EQ(fp_check_n_live(), 0);
    return 0;
}
