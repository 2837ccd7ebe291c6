/* Any POSIX system: the clocks, and waiting on a word by condition variables where there is no futex.
 *
 * The portable wait is a parking lot: a waiter queues in a bucket found by the address of its word, with a condition
 * variable of its own on its stack, so a wake reaches one waiter of that word and disturbs no other. A wake uses the
 * address as a number only.
 *
 * The lot is static: a word must be waited on and woken through the same copy of this file. Two extension modules
 * that both link it must not share a word, except on Linux, where the lot is the kernel's.
 */
#define _POSIX_C_SOURCE 200809L
#define _DARWIN_C_SOURCE /* for pthread_cond_timedwait_relative_np */

#include "fp_os.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now); /* cannot fail: both clocks exist wherever we compile */
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t fp_os_clock_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t fp_os_thread_cpu_ns(void)
{
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

_Static_assert(sizeof(pthread_t) <= sizeof(uintptr_t), "a thread's name must fit into fp_os_thread");

struct start {
    void (*body)(void *argument);
    void *argument;
};

static void *thread_main(void *argument)
{
    struct start start = *(struct start *)argument;
    free(argument);
    start.body(start.argument);
    return NULL;
}

bool fp_os_thread_start(fp_os_thread *thread, void (*body)(void *argument), void *argument)
{
    struct start *start = malloc(sizeof *start);
    if (start == NULL)
        return false;
    *start = (struct start){body, argument};
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
    sigset_t blocked, before;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(&blocked, faults[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, &before); /* a new thread inherits the mask */
    pthread_t id;
    int error = pthread_create(&id, NULL, thread_main, start);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        free(start);
        return false;
    }
    thread->id = 0;
    memcpy(&thread->id, &id, sizeof id);
    return true;
}

void fp_os_thread_join(fp_os_thread thread)
{
    pthread_t id;
    memcpy(&id, &thread.id, sizeof id);
    pthread_join(id, NULL);
}

void fp_os_at_fork(void (*before)(void), void (*in_parent)(void), void (*in_child)(void))
{
    pthread_atfork(before, in_parent, in_child); /* fails for want of memory only, and forking then does too */
}

void fp_os_yield(void)
{
    sched_yield();
}

#if !defined(__linux__)

uint32_t fp_os_n_cpus(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : (uint32_t)n;
}

#endif

#if !defined(__linux__) || defined(FP_OS_CONDVAR)

#include "fp_check.h"

#include <errno.h>

/* A thread that waits. Lives on its stack; all of it is written and read under the lock of its bucket. */
struct waiter {
    struct waiter *next;
    const fp_atomic_u32_t *word;
    pthread_cond_t wakened;
    bool is_woken; /* set by the waker, which also unlinks */
};

/* Waiters in order of arrival. */
struct bucket {
    pthread_mutex_t lock;
    struct waiter *first;
};

enum { N_BUCKETS_LOG2 = 6, N_BUCKETS = 1 << N_BUCKETS_LOG2 };

static struct bucket buckets[N_BUCKETS];
static pthread_once_t buckets_once = PTHREAD_ONCE_INIT;

/* Also in the child of a fork: only one thread is left there, and the locks may have belonged to another. */
static void buckets_init(void)
{
    for (int i = 0; i < N_BUCKETS; i++) {
        pthread_mutex_init(&buckets[i].lock, NULL);
        buckets[i].first = NULL;
    }
}

static void buckets_prepare(void)
{
    buckets_init();
    pthread_atfork(NULL, NULL, buckets_init);
}

static struct bucket *bucket_lock(const fp_atomic_u32_t *word)
{
    pthread_once(&buckets_once, buckets_prepare);
    /* Fibonacci hashing: the high bits of the product depend on every bit of the address. */
    uint64_t hash = (uint64_t)(uintptr_t)word * UINT64_C(0x9E3779B97F4A7C15);
    struct bucket *bucket = &buckets[hash >> (64 - N_BUCKETS_LOG2)];
    pthread_mutex_lock(&bucket->lock);
    return bucket;
}

#ifdef __APPLE__

static void cond_init(pthread_cond_t *cond)
{
    pthread_cond_init(cond, NULL);
}

static int cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t deadline_ns)
{
    uint64_t now_ns = fp_os_clock_ns();
    uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
    struct timespec left = {(time_t)(left_ns / 1000000000), (long)(left_ns % 1000000000)};
    return pthread_cond_timedwait_relative_np(cond, lock, &left);
}

#else

static void cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
}

static int cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t deadline_ns)
{
    struct timespec deadline = {(time_t)(deadline_ns / 1000000000), (long)(deadline_ns % 1000000000)};
    return pthread_cond_timedwait(cond, lock, &deadline);
}

#endif

static void waiter_link_locked(struct bucket *bucket, struct waiter *waiter)
{
    struct waiter **link = &bucket->first;
    while (*link != NULL)
        link = &(*link)->next;
    *link = waiter;
}

static void waiter_unlink_locked(struct bucket *bucket, const struct waiter *waiter)
{
    struct waiter **link = &bucket->first;
    while (*link != waiter)
        link = &(*link)->next;
    *link = waiter->next;
}

/* One sleep: whoever returns from it unwoken and in time was most likely shaken up by a signal. */
static fp_os_woken waiter_sleep_locked(struct bucket *bucket, struct waiter *waiter, uint64_t deadline_ns)
{
    int error = deadline_ns == FP_OS_FOREVER ? pthread_cond_wait(&waiter->wakened, &bucket->lock)
                                             : cond_wait_until(&waiter->wakened, &bucket->lock, deadline_ns);
    FP_CHECK(error == 0 || error == ETIMEDOUT, "condition wait: error %d", error);
    if (waiter->is_woken)
        return FP_OS_WOKEN;
    waiter_unlink_locked(bucket, waiter);
    return error == ETIMEDOUT ? FP_OS_TIMED_OUT : FP_OS_INTERRUPTED;
}

fp_os_woken fp_os_wait(fp_atomic_u32_t *word, uint32_t expected, uint64_t deadline_ns)
{
    fp_os_woken woken = FP_OS_WOKEN;
    struct bucket *bucket = bucket_lock(word);
    /* Relaxed is enough: a waker changes the word before it takes this lock, so either we see the change here, or
     * it takes the lock after us and finds us linked. */
    if (fp_u32_load_relaxed(word) == expected) {
        struct waiter waiter = {.next = NULL, .word = word, .is_woken = false};
        cond_init(&waiter.wakened);
        waiter_link_locked(bucket, &waiter);
        woken = waiter_sleep_locked(bucket, &waiter, deadline_ns);
        pthread_cond_destroy(&waiter.wakened);
    }
    pthread_mutex_unlock(&bucket->lock);
    return woken;
}

void fp_os_wake_one(const fp_atomic_u32_t *word)
{
    struct bucket *bucket = bucket_lock(word);
    struct waiter **link = &bucket->first;
    while (*link != NULL && (*link)->word != word)
        link = &(*link)->next;
    struct waiter *waiter = *link;
    if (waiter != NULL) {
        *link = waiter->next;
        waiter->is_woken = true;
        /* Under the lock, or the waiter could return meanwhile and take the condition variable with it. */
        pthread_cond_signal(&waiter->wakened);
    }
    pthread_mutex_unlock(&bucket->lock);
}

#endif
