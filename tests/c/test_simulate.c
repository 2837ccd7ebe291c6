/* How well loops are shared, on simulated machines: who gets what, who is woken, and when the last one ends.
 *
 * Bounds are in multiples of the ideal, which is all the work divided by the threads; each says what it leaves room for.
 */
#define FP_CORE
#include "fp_simulate.h"

#include "fastpar.h"

#include "fp_check.h"

enum { N = 2000, ITEM_NS = 2000, N_WARM = 5 };

/* What durations are remembered by: numbers, as addresses differ from run to run. */
#define KEY(n) ((const void *)(uintptr_t)(n))

static fp_pool *pool;
static double costs_ns[N];

static int run_item(int64_t i, void *context)
{
    (void)context;
    spend((uint64_t)costs_ns[i]);
    return 0;
}

static void expect_at_most(double got, double most, const char *what)
{
    fprintf(stderr, "    %s: %.3f, at most %.3f\n", what, got, most);
    CHECK(got <= most);
}

static void begin(uint32_t n_cpus)
{
    simulate(n_cpus);
    pool = fp_pool_new(n_cpus - 1);
}

static void end(void)
{
    fp_pool_free(pool);
    CHECK_EQ(fp_check_n_live(), 0);
}

/* How many times the ideal a loop takes that follows others like it at once. */
static double time_when_warm(uint32_t n_threads, fp_index_fn kernel, int64_t n, double total_ns)
{
    uint64_t start_ns = 0;
    fp_options options = {.n_threads = n_threads, .key = KEY(1)};
    for (int i = 0; i < N_WARM; i++) {
        start_ns = self->now_ns;
        CHECK_EQ(fp_parallel_for(pool, n, kernel, NULL, &options, NULL), FP_DONE);
    }
    return (double)(self->now_ns - start_ns) / (total_ns / n_threads);
}

/* ------------------------------------------------------------------------------------------------- skewed loops */

static double uniform(int i)
{
    (void)i;
    return 1;
}

static double growing(int i)
{
    return 2.0 * i / N;
}

/* 1 % of the items hold 90 % of the work, and come first. */
static double in_front(int i)
{
    return i < N / 100 ? 90 : 10 / 99.0;
}

/* The last three hold 60 %. Nobody knows before they are there, so the third follows one of the two others: 1.2. */
static double three_last(int i)
{
    return i >= N - 3 ? 0.2 * N : 0.4;
}

static double skewed(uint32_t n_threads, double (*cost)(int))
{
    double total_ns = 0;
    for (int i = 0; i < N; i++)
        total_ns += costs_ns[i] = ITEM_NS * cost(i);
    return time_when_warm(n_threads, run_item, N, total_ns);
}

static void uneven_loops_are_shared_evenly(void)
{
    begin(2);
    expect_at_most(skewed(2, uniform), 1.01, "uniform");
    expect_at_most(skewed(2, growing), 1.01, "cost grows");
    expect_at_most(skewed(2, in_front), 1.03, "1 % in front hold 90 %");
    expect_at_most(skewed(2, three_last), 1.205, "three huge ones last");
    end();
}

static void more_threads_share_as_evenly(void)
{
    begin(8);
    expect_at_most(skewed(4, growing), 1.01, "4 threads, cost grows");
    expect_at_most(skewed(4, in_front), 1.06, "4 threads, 1 % in front hold 90 %");
    expect_at_most(skewed(8, uniform), 1.02, "8 threads, uniform");
    expect_at_most(skewed(8, growing), 1.02, "8 threads, cost grows");
    end();
}

/* 125 us each, of which 60 go by until a woken thread runs: they must not be woken one by one. */
static void helpers_come_like_a_chain_reaction(void)
{
    begin(32);
    expect_at_most(skewed(32, uniform), 1.1, "32 threads, back to back");
    spend(10000000);
    fp_options options = {.n_threads = 32, .key = KEY(1)};
    uint64_t start_ns = self->now_ns;
    CHECK_EQ(fp_parallel_for(pool, N, run_item, NULL, &options, NULL), FP_DONE);
    expect_at_most((double)(self->now_ns - start_ns) / (N * ITEM_NS / 32.0), 3.0, "32 threads, asleep before");
    end();
}

/* -------------------------------------------------------------------------------------------------------- nesting */

enum { N_INNER = 64, INNER_NS = 500 };

static int run_leaf(int64_t i, void *context)
{
    (void)i, (void)context;
    spend(INNER_NS);
    return 0;
}

static int run_leaves(int64_t i, void *context)
{
    fp_options options = {.key = KEY(2)};
    (void)i, (void)context;
    return fp_parallel_for(pool, N_INNER, run_leaf, NULL, &options, NULL) == FP_DONE ? 0 : 1;
}

/* One of the inner loops is ten times as long as the other. */
static int run_uneven_leaves(int64_t i, void *context)
{
    fp_options options = {.key = KEY(2)};
    (void)context;
    return fp_parallel_for(pool, i == 0 ? 24 : 240, run_leaf, NULL, &options, NULL) == FP_DONE ? 0 : 1;
}

static void nested_loops_cost_little_more(void)
{
    begin(2);
    expect_at_most(time_when_warm(2, run_uneven_leaves, 2, 264.0 * INNER_NS), 1.2, "24 and 240 items of 0.5 us");
    end();
    begin(2);
    expect_at_most(time_when_warm(2, run_leaves, 2, 2.0 * N_INNER * INNER_NS), 1.05, "2 x 64 items of 0.5 us");
    end();
}

/* ----------------------------------------------------------------------------------------------- waking, sleeping */

static int do_nothing(int64_t i, void *context)
{
    (void)i, (void)context;
    return 0;
}

static void tiny_loops_wake_nobody(void)
{
    begin(8);
    time_when_warm(8, do_nothing, 8, 1); /* the first one of its kernel calls for help: nobody knows it */
    CHECK(fp_pool_n_threads(pool) < 7);
    for (int i = 0; i < 100; i++) {
        spend(10000000);
        uint64_t start_ns = self->now_ns;
        fp_options options = {.n_threads = 8, .key = KEY(1)};
        CHECK_EQ(fp_parallel_for(pool, 8, do_nothing, NULL, &options, NULL), FP_DONE);
        CHECK(self->now_ns - start_ns < 1000);
    }
    end();
}

static int take_1_us(int64_t i, void *context)
{
    (void)i, (void)context;
    spend(1000);
    return 0;
}

/* Helped or not, whether helpers are awake or asleep: a short loop takes little longer than the serial one. */
static void short_loops_never_lose(void)
{
    double worst = 0;
    begin(8);
    skewed(8, uniform); /* all threads are started, which costs 20 us each, once */
    time_when_warm(8, take_1_us, 64, 64000); /* and the kernel is known */
    for (int64_t n = 1; n <= 64; n++)
        for (int i = 0; i < 20; i++) {
            spend(i < 10 ? 10000000 : 100);
            uint64_t start_ns = self->now_ns;
            fp_options options = {.n_threads = 8, .key = KEY(1)};
            CHECK_EQ(fp_parallel_for(pool, n, take_1_us, NULL, &options, NULL), FP_DONE);
            double times_serial = (double)(self->now_ns - start_ns) / (double)(n * 1000);
            if (times_serial > worst)
                worst = times_serial;
        }
    expect_at_most(worst, 1.1, "1 to 64 items of 1 us, times serial");
    end();
}

/* All that is left of a pool that has nothing to do is threads that wait without a deadline. */
static void an_idle_pool_sleeps(void)
{
    begin(8);
    skewed(8, uniform);
    CHECK_EQ(fp_pool_n_threads(pool), 7);
    spend(1000000);
    for (int i = 1; i < n_simulated; i++) {
        CHECK(simulated[i].waits_on != NULL);
        CHECK(simulated[i].deadline_ns == FP_OS_FOREVER);
    }
    end();
}

int main(int argc, char **argv)
{
    test_start(argc, argv, (struct options){0});
    RUN(uneven_loops_are_shared_evenly);
    RUN(more_threads_share_as_evenly);
    RUN(helpers_come_like_a_chain_reaction);
    RUN(nested_loops_cost_little_more);
    RUN(tiny_loops_wake_nobody);
    RUN(short_loops_never_lose);
    RUN(an_idle_pool_sleeps);
    return 0;
}
