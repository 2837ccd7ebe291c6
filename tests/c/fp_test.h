/* A test framework of one page: checks, threads, a seeded generator, sizes from the command line.
 *
 * A failed check ends the whole program from whichever thread it is in, so none can go unnoticed. A hang ends by
 * SIGALRM.
 */
#ifndef FP_TEST_H
#define FP_TEST_H

#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HANG_S = 60 };

#define CHECK(condition) ((condition) ? (void)0 : test_fail(__FILE__, __LINE__, #condition))
#define CHECK_EQ(got, wanted) test_equal(__FILE__, __LINE__, #got, (long long)(got), (long long)(wanted))
#define RUN(test) (fprintf(stderr, "  %s\n", #test), test())

struct options {
    uint64_t seed;
    long threads, iterations;
};

static inline _Noreturn void test_fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
    _exit(1);
}

static inline void test_equal(const char *file, int line, const char *what, long long got, long long wanted)
{
    if (got == wanted)
        return;
    fprintf(stderr, "%s:%d: failed: %s is %lld, not %lld\n", file, line, what, got, wanted);
    _exit(1);
}

/* Every option is `--name number`. */
static inline struct options test_start(int argc, char **argv, struct options options)
{
    alarm(HANG_S);
    for (int i = 1; i + 1 < argc; i += 2) {
        long value = strtol(argv[i + 1], NULL, 0);
        if (strcmp(argv[i], "--seed") == 0)
            options.seed = (uint64_t)value;
        else if (strcmp(argv[i], "--threads") == 0)
            options.threads = value;
        else if (strcmp(argv[i], "--iterations") == 0)
            options.iterations = value;
        else
            test_fail(argv[0], 0, "options are --seed, --threads and --iterations");
    }
    fprintf(stderr, "%s --seed %llu --threads %ld --iterations %ld\n", argv[0], (unsigned long long)options.seed,
            options.threads, options.iterations);
    return options;
}

static inline pthread_t thread_start(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, body, argument), 0);
    return thread;
}

static inline void thread_join(pthread_t thread)
{
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

/* xorshift64*: good enough to shuffle, and the same on every machine. The state must not be 0. */
static inline uint64_t random_below(uint64_t *state, uint64_t bound)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return ((*state * UINT64_C(0x2545F4914F6CDD1D)) >> 32) % bound;
}

#endif
