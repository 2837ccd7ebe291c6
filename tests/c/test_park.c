/* The mutex excludes, the parker loses nothing; time and signals end a wait when they should. */
#include "fp_test.h"

#include "fp_os.h"
#include "fp_park.h"

#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

enum { MAX_THREADS = 16 };

static const int64_t FOR_EVER = -1;
static const int64_t MS = 1000000;

static struct options options = {.threads = 4, .iterations = 20000};

/* -------------------------------------------------------------------------------------------------- mutex */

static struct {
    fp_mutex lock;
    long count; /* plain: only the lock makes this right, and ThreadSanitizer looks too */
} shared;

static void *count_up(void *unused)
{
    (void)unused;
    for (long i = 0; i < options.iterations; i++) {
        fp_mutex_lock(&shared.lock);
        shared.count++;
        fp_mutex_unlock(&shared.lock);
    }
    return NULL;
}

static void mutex_excludes(void)
{
    pthread_t threads[MAX_THREADS];
    fp_mutex_init(&shared.lock);
    shared.count = 0;
    for (long i = 0; i < options.threads; i++)
        threads[i] = thread_start(count_up, NULL);
    for (long i = 0; i < options.threads; i++)
        thread_join(threads[i]);
    CHECK_EQ(shared.count, options.threads * options.iterations);
}

/* Reference counting, the classic way to free a mutex under another thread's unlock. */
struct counted {
    fp_mutex lock;
    int n_references;
};

static void *let_go(void *argument)
{
    struct counted *counted = argument;
    fp_mutex_lock(&counted->lock);
    bool is_last = --counted->n_references == 0;
    fp_mutex_unlock(&counted->lock);
    if (is_last)
        free(counted);
    return NULL;
}

static void mutex_may_be_freed_by_the_next_owner(void)
{
    for (long i = 0; i < options.iterations / 50; i++) {
        struct counted *counted = malloc(sizeof *counted);
        CHECK(counted != NULL);
        fp_mutex_init(&counted->lock);
        counted->n_references = 2;
        pthread_t other = thread_start(let_go, counted);
        let_go(counted);
        thread_join(other);
    }
}

/* ------------------------------------------------------------------------------------------------- parker */

static void permit_is_stored_once(void)
{
    fp_parker parker;
    fp_parker_init(&parker);
    CHECK_EQ(fp_park(&parker, 0), FP_PARKED_TIMEOUT);
    fp_unpark(&parker);
    fp_unpark(&parker);
    CHECK_EQ(fp_park(&parker, FOR_EVER), FP_PARKED_PERMIT);
    CHECK_EQ(fp_park(&parker, 0), FP_PARKED_TIMEOUT);
    fp_unpark(&parker);
    CHECK_EQ(fp_park(&parker, 0), FP_PARKED_PERMIT);
    CHECK_EQ(fp_park(&parker, 1), FP_PARKED_TIMEOUT);
    fp_unpark(&parker);
    CHECK_EQ(fp_park(&parker, INT64_MAX), FP_PARKED_PERMIT);
}

static void timeout_is_kept(void)
{
    const int64_t timeouts_ns[] = {1, 1000, 300000, 20 * MS};
    fp_parker parker;
    fp_parker_init(&parker);
    for (size_t i = 0; i < sizeof timeouts_ns / sizeof *timeouts_ns; i++) {
        uint64_t start_ns = fp_os_clock_ns();
        CHECK_EQ(fp_park(&parker, timeouts_ns[i]), FP_PARKED_TIMEOUT);
        CHECK(fp_os_clock_ns() - start_ns >= (uint64_t)timeouts_ns[i]);
    }
}

static void cpu_time_stands_still_while_parked(void)
{
    fp_parker parker;
    fp_parker_init(&parker);
    uint64_t wall_ns = fp_os_clock_ns(), cpu_ns = fp_os_thread_cpu_ns();
    CHECK_EQ(fp_park(&parker, 20 * MS), FP_PARKED_TIMEOUT);
    cpu_ns = fp_os_thread_cpu_ns() - cpu_ns;
    wall_ns = fp_os_clock_ns() - wall_ns;
    CHECK(cpu_ns > 0);
    CHECK(cpu_ns < wall_ns / 2);
}

static struct {
    fp_parker parker;
    atomic_bool is_over;
    pthread_t sleeper;
} shaken;

static void *shake(void *unused)
{
    (void)unused;
    while (!atomic_load(&shaken.is_over))
        fp_os_wake_one(&shaken.parker.state);
    return NULL;
}

/* Wakes without a permit neither end the wait nor start its time again: with relative timeouts this would never end. */
static void needless_wakes_change_nothing(void)
{
    fp_parker_init(&shaken.parker);
    atomic_store(&shaken.is_over, false);
    pthread_t shaker = thread_start(shake, NULL);
    uint64_t start_ns = fp_os_clock_ns();
    CHECK_EQ(fp_park(&shaken.parker, 20 * MS), FP_PARKED_TIMEOUT);
    CHECK(fp_os_clock_ns() - start_ns >= (uint64_t)(20 * MS));
    atomic_store(&shaken.is_over, true);
    thread_join(shaker);
}

/* A child of a fork has only the forking thread; another may just have been inside the system's part of the wait. */
static void fork_leaves_parking_usable(void)
{
    fp_parker_init(&shaken.parker);
    atomic_store(&shaken.is_over, false);
    pthread_t shaker = thread_start(shake, NULL);
    for (long i = 0; i < options.iterations / 200; i++) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            alarm(HANG_S); /* not inherited */
            _exit(fp_park(&shaken.parker, 1000) == FP_PARKED_TIMEOUT ? 0 : 1);
        }
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        CHECK_EQ(status, 0);
    }
    atomic_store(&shaken.is_over, true);
    thread_join(shaker);
}

#ifndef FP_OS_CONDVAR /* glibc's condition variables do not show signals */

static void on_signal(int signal_number)
{
    (void)signal_number;
}

/* Again and again, since a signal that comes before the sleep has begun goes unseen. */
static void *send_signals(void *unused)
{
    (void)unused;
    while (!atomic_load(&shaken.is_over)) {
        pthread_kill(shaken.sleeper, SIGUSR1);
        sched_yield();
    }
    return NULL;
}

static void interrupted_with_timeout(int64_t timeout_ns)
{
    atomic_store(&shaken.is_over, false);
    pthread_t sender = thread_start(send_signals, NULL);
    CHECK_EQ(fp_park(&shaken.parker, timeout_ns), FP_PARKED_INTERRUPTED);
    atomic_store(&shaken.is_over, true);
    thread_join(sender);
}

static void signal_interrupts(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    fp_parker_init(&shaken.parker);
    shaken.sleeper = pthread_self();
    interrupted_with_timeout(FOR_EVER);
    interrupted_with_timeout(HANG_S * 1000 * MS);
    fp_unpark(&shaken.parker);
    CHECK_EQ(fp_park(&shaken.parker, FOR_EVER), FP_PARKED_PERMIT);
}

#endif

static struct {
    fp_parker ping, pong;
    long ball; /* plain: handed to and fro by the permits alone */
} game;

static void *play_pong(void *unused)
{
    (void)unused;
    for (long i = 0; i < options.iterations; i++) {
        while (fp_park(&game.pong, FOR_EVER) != FP_PARKED_PERMIT) {}
        CHECK_EQ(game.ball, 2 * i + 1);
        game.ball++;
        fp_unpark(&game.ping);
    }
    return NULL;
}

static void ping_pong_loses_nothing(void)
{
    fp_parker_init(&game.ping);
    fp_parker_init(&game.pong);
    game.ball = 0;
    pthread_t pong = thread_start(play_pong, NULL);
    for (long i = 0; i < options.iterations; i++) {
        game.ball++;
        fp_unpark(&game.pong);
        while (fp_park(&game.ping, i % 2 ? FOR_EVER : 1000) != FP_PARKED_PERMIT) {}
        CHECK_EQ(game.ball, 2 * i + 2);
    }
    thread_join(pong);
}

static struct {
    fp_parker parker;
    atomic_long n_sent;
} mail;

static void *send_mail(void *unused)
{
    (void)unused;
    for (long i = 0; i < options.iterations; i++) {
        atomic_fetch_add_explicit(&mail.n_sent, 1, memory_order_relaxed);
        fp_unpark(&mail.parker);
    }
    return NULL;
}

/* Permits may fall together, but whoever has consumed the last of them sees all that was sent; or this would hang. */
static void permits_of_many_are_never_lost(void)
{
    pthread_t threads[MAX_THREADS];
    fp_parker_init(&mail.parker);
    atomic_store(&mail.n_sent, 0);
    for (long i = 0; i < options.threads; i++)
        threads[i] = thread_start(send_mail, NULL);
    while (atomic_load_explicit(&mail.n_sent, memory_order_relaxed) < options.threads * options.iterations)
        fp_park(&mail.parker, FOR_EVER);
    for (long i = 0; i < options.threads; i++)
        thread_join(threads[i]);
}

static struct {
    fp_parker ready;
    _Atomic(fp_parker *) to_wake;
} letter_box;

static void *wake_what_comes(void *unused)
{
    (void)unused;
    for (long i = 0; i < options.iterations; i++) {
        fp_parker *parker;
        while ((parker = atomic_exchange(&letter_box.to_wake, NULL)) == NULL)
            fp_park(&letter_box.ready, FOR_EVER);
        fp_unpark(parker);
    }
    return NULL;
}

/* The owner frees its parker while the unparker may still be about to wake it. */
static void parker_may_be_freed_by_its_owner(void)
{
    fp_parker_init(&letter_box.ready);
    atomic_store(&letter_box.to_wake, NULL);
    pthread_t waker = thread_start(wake_what_comes, NULL);
    for (long i = 0; i < options.iterations; i++) {
        fp_parker *parker = malloc(sizeof *parker);
        CHECK(parker != NULL);
        fp_parker_init(parker);
        atomic_store(&letter_box.to_wake, parker);
        fp_unpark(&letter_box.ready);
        while (fp_park(parker, FOR_EVER) != FP_PARKED_PERMIT) {}
        free(parker);
    }
    thread_join(waker);
}

int main(int argc, char **argv)
{
    options = test_start(argc, argv, options);
    CHECK(options.threads <= MAX_THREADS);
    RUN(mutex_excludes);
    RUN(mutex_may_be_freed_by_the_next_owner);
    RUN(permit_is_stored_once);
    RUN(timeout_is_kept);
    RUN(cpu_time_stands_still_while_parked);
    RUN(needless_wakes_change_nothing);
    RUN(fork_leaves_parking_usable);
#ifndef FP_OS_CONDVAR
    RUN(signal_interrupts);
#endif
    RUN(ping_pong_loses_nothing);
    RUN(permits_of_many_are_never_lost);
    RUN(parker_may_be_freed_by_its_owner);
    return 0;
}
