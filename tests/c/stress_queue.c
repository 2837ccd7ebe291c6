/* The dispatch queue under load, driven exactly as the thread engine drives it.
 *
 * One producer keeps a window of unfinished tasks; a pool of threads sleeps on parkers until it is summoned to the
 * queue. Chance puts rests of batches back, fails to bring a summoned worker, and closes the queue half-way. Asserted
 * of every round: each task ran once or was cancelled once, no seat too many, tasks that were never put back reach
 * each worker in order, and it ends: a wake-up lost would be a hang. Another round needs all seats at once to end.
 */
#include "fp_test.h"

#include "fp_check.h"
#include "fp_park.h"
#include "fp_queue.h"

enum { MAX_THREADS = 16, MAX_BATCH = 8, MAX_TASKS = 2000 };

static const int64_t FOR_EVER = -1;

static struct options options = {.seed = 1, .threads = 4, .iterations = 200000};

/* A task. `was_put_back` is plain: it travels under the queue's lock. */
struct record {
    atomic_int n_ran, n_cancelled;
    bool was_put_back;
};

static struct record records[MAX_TASKS];

/* One round, set up while every worker is idle. */
static struct {
    fp_queue *queue;
    size_t n_tasks, window, batch_most;
    long n_seats;
    uint64_t close_at; /* whoever runs this task closes the queue */
    bool puts_back, loses_workers;
    bool needs_all; /* each task of the round waits until all of them run */
    atomic_size_t n_done;
    atomic_long n_serving;
    fp_parker producer;
} run;

/* The pool: idle workers, and summons that found none idle, both under `lock`. */
struct worker {
    fp_parker parker;
    atomic_bool is_summoned; /* a permit alone may be left over from another wait */
    struct worker *next_idle;
    uint64_t random;
    fp_task batch[MAX_BATCH];
};

static struct {
    fp_mutex lock;
    struct worker *idle;
    long n_idle, n_pending;
    bool is_over;
    fp_parker all_idle;
} pool;

static struct worker workers[MAX_THREADS];

static void serve(struct worker *worker);

/* ---------------------------------------------------------------------------------------------- summoning */

static void worker_wake(struct worker *worker)
{
    atomic_store(&worker->is_summoned, true);
    fp_unpark(&worker->parker);
}

/* A worker that has given its seat up may not be idle yet: its summons waits for it as n_pending. */
static void pool_summon(void)
{
    fp_mutex_lock(&pool.lock);
    struct worker *worker = pool.idle;
    if (worker == NULL) {
        pool.n_pending++;
    } else {
        pool.idle = worker->next_idle;
        pool.n_idle--;
    }
    fp_mutex_unlock(&pool.lock);
    if (worker != NULL)
        worker_wake(worker);
}

static void summon(struct worker *summoner, uint32_t n_summoned, bool may_serve)
{
    if (n_summoned == 0)
        return;
    CHECK_EQ(n_summoned, 1);
    if (!run.loses_workers || random_below(&summoner->random, 4) > 0)
        pool_summon();
    else if (may_serve) /* no worker could be brought to the producer's summons: it serves the seat itself */
        serve(summoner);
    else /* the summoner has a seat of its own, and its next take will summon again */
        fp_queue_leave(run.queue);
}

/* Becomes idle, unless a summons is waiting. */
static bool become_idle(struct worker *worker)
{
    fp_mutex_lock(&pool.lock);
    bool is_idle = pool.n_pending == 0, is_last = false;
    if (is_idle) {
        worker->next_idle = pool.idle;
        pool.idle = worker;
        is_last = ++pool.n_idle == options.threads;
    } else {
        pool.n_pending--;
    }
    fp_mutex_unlock(&pool.lock);
    if (is_last)
        fp_unpark(&pool.all_idle);
    return is_idle;
}

/* Returns false when the pool is over. */
static bool idle_until_summoned(struct worker *worker)
{
    if (!become_idle(worker))
        return true;
    while (!atomic_exchange(&worker->is_summoned, false))
        fp_park(&worker->parker, FOR_EVER);
    return !pool.is_over; /* plain: set once, while all are idle, before they are woken */
}

/* ----------------------------------------------------------------------------------------------- serving */

static struct record *record_of(fp_task task)
{
    CHECK(task.item == &records[task.index]);
    return task.item;
}

static void close_queue(void)
{
    fp_task rest[MAX_BATCH];
    size_t n;
    while ((n = fp_queue_close(run.queue, rest, MAX_BATCH)) > 0)
        for (size_t i = 0; i < n; i++)
            atomic_fetch_add(&record_of(rest[i])->n_cancelled, 1);
}

static void wait_for_all(struct worker *worker)
{
    for (long i = 0; i < options.threads && atomic_load(&run.n_done) == run.n_tasks; i++)
        fp_unpark(&workers[i].parker);
    while (atomic_load(&run.n_done) < run.n_tasks)
        fp_park(&worker->parker, FOR_EVER);
}

static void run_task(struct worker *worker, fp_task task)
{
    atomic_fetch_add(&record_of(task)->n_ran, 1);
    if (task.index == run.close_at)
        close_queue();
    atomic_fetch_add(&run.n_done, 1);
    if (run.needs_all)
        wait_for_all(worker);
}

static void put_rest_back(struct worker *worker, const fp_task *rest, size_t n)
{
    uint32_t n_summoned;
    for (size_t i = 0; i < n; i++)
        record_of(rest[i])->was_put_back = true;
    fp_status status = fp_queue_put_back(run.queue, rest, n, &n_summoned);
    for (size_t i = 0; status == FP_CLOSED && i < n; i++)
        atomic_fetch_add(&record_of(rest[i])->n_cancelled, 1);
    CHECK(status != FP_NO_MEMORY);
    summon(worker, n_summoned, false /* may_serve */);
}

static void run_batch(struct worker *worker, size_t n)
{
    size_t n_started = run.puts_back ? random_below(&worker->random, n + 1) : n;
    for (size_t i = 0; i < n_started; i++)
        run_task(worker, worker->batch[i]);
    if (n_started < n)
        put_rest_back(worker, worker->batch + n_started, n - n_started);
    fp_unpark(&run.producer);
}

static void check_order(const struct worker *worker, size_t n, uint64_t *next)
{
    for (size_t i = 0; i < n; i++) {
        if (record_of(worker->batch[i])->was_put_back)
            continue;
        CHECK(worker->batch[i].index >= *next);
        *next = worker->batch[i].index + 1;
    }
}

/* From a reserved seat until it is given up. Counted inside the seat, so that a count too high is a seat too many. */
static void serve(struct worker *worker)
{
    uint64_t next = 0;
    uint32_t n_summoned;
    size_t n;
    while ((n = fp_queue_take(run.queue, worker->batch, run.batch_most, &n_summoned)) > 0) {
        CHECK(atomic_fetch_add(&run.n_serving, 1) < run.n_seats);
        summon(worker, n_summoned, false /* may_serve */);
        check_order(worker, n, &next);
        run_batch(worker, n);
        atomic_fetch_sub(&run.n_serving, 1);
    }
    fp_unpark(&run.producer);
}

static void *work(void *argument)
{
    while (idle_until_summoned(argument))
        serve(argument);
    return NULL;
}

/* --------------------------------------------------------------------------------------------- producing */

/* Pushes everything, in lots, never more than a window ahead of what is done. Returns how many were accepted. */
static size_t produce(struct worker *producer)
{
    fp_task lot[MAX_BATCH];
    uint32_t n_summoned;
    for (size_t n_pushed = 0; n_pushed < run.n_tasks;) {
        size_t n = 0, n_wanted = 1 + random_below(&producer->random, MAX_BATCH);
        size_t room = run.window - (n_pushed - atomic_load(&run.n_done));
        for (; n < n_wanted && n < room && n_pushed + n < run.n_tasks; n++)
            lot[n] = (fp_task){&records[n_pushed + n], n_pushed + n};
        fp_status status = fp_queue_push(run.queue, lot, n, &n_summoned);
        if (status == FP_CLOSED)
            return n_pushed;
        CHECK_EQ(status, FP_OK);
        n_pushed += n;
        summon(producer, n_summoned, true /* may_serve */);
        /* Cancelled tasks never become done: with the window full of them, only the closed queue ends the wait. */
        while (n_pushed - atomic_load(&run.n_done) >= run.window && run.n_tasks > n_pushed &&
               fp_queue_push(run.queue, NULL, 0, &n_summoned) == FP_OK) {
            summon(producer, n_summoned, true /* may_serve */);
            fp_park(&run.producer, FOR_EVER);
        }
    }
    return run.n_tasks;
}

static void check_records(size_t n_pushed)
{
    for (size_t i = 0; i < run.n_tasks; i++) {
        int n_ran = atomic_load(&records[i].n_ran), n_cancelled = atomic_load(&records[i].n_cancelled);
        CHECK_EQ(n_ran + n_cancelled, i < n_pushed);
        CHECK(n_cancelled == 0 || run.close_at < run.n_tasks);
    }
}

static void start_round(uint64_t *random, bool needs_all)
{
    run.n_seats = 1 + (long)random_below(random, (uint64_t)options.threads);
    run.n_tasks = needs_all ? (size_t)run.n_seats : 1 + random_below(random, MAX_TASKS);
    run.window = needs_all ? run.n_tasks : 1 + random_below(random, 100);
    run.batch_most = needs_all ? 1 : 1 + random_below(random, MAX_BATCH);
    run.close_at = needs_all || random_below(random, 2) ? UINT64_MAX : random_below(random, run.n_tasks * 2);
    run.puts_back = !needs_all && random_below(random, 2);
    run.loses_workers = !needs_all && random_below(random, 2);
    run.needs_all = needs_all;
    run.queue = fp_queue_new((uint32_t)run.n_seats);
    atomic_store(&run.n_done, 0);
    memset(records, 0, sizeof records);
}

/* The pool is idle before and after. */
static void play_round(struct worker *producer, bool needs_all)
{
    start_round(&producer->random, needs_all);
    size_t n_pushed = produce(producer);
    while (true) {
        fp_mutex_lock(&pool.lock);
        bool is_idle = pool.n_idle == options.threads && pool.n_pending == 0;
        fp_mutex_unlock(&pool.lock);
        if (is_idle)
            break;
        fp_park(&pool.all_idle, FOR_EVER);
    }
    CHECK_EQ(fp_queue_n_ready(run.queue), 0);
    CHECK_EQ(fp_queue_n_seated(run.queue), 0);
    check_records(n_pushed);
    fp_queue_free(run.queue);
}

int main(int argc, char **argv)
{
    pthread_t threads[MAX_THREADS];
    options = test_start(argc, argv, options);
    CHECK(options.threads <= MAX_THREADS);
    struct worker producer = {.random = options.seed * 2 + 1};
    fp_mutex_init(&pool.lock);
    fp_parker_init(&pool.all_idle);
    fp_parker_init(&run.producer);
    for (long i = 0; i < options.threads; i++) {
        workers[i].random = (options.seed << 8) + (uint64_t)i + 1;
        fp_parker_init(&workers[i].parker);
        threads[i] = thread_start(work, &workers[i]);
    }
    long n_rounds = 0;
    for (long n_left = options.iterations; n_left > 0; n_left -= (long)run.n_tasks, n_rounds++)
        play_round(&producer, n_rounds % 2 /* needs_all */);
    pool.is_over = true;
    for (long i = 0; i < options.threads; i++)
        worker_wake(&workers[i]);
    for (long i = 0; i < options.threads; i++)
        thread_join(threads[i]);
    fprintf(stderr, "  %ld rounds\n", n_rounds);
    CHECK_EQ(fp_check_n_live(), 0);
    return 0;
}
