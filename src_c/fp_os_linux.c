/* Linux: waiting on a word is a private futex.
 *
 * Absolute deadlines (FUTEX_WAIT_BITSET takes them on CLOCK_MONOTONIC), so that a wait which is woken for no reason
 * and starts again does not also start its time again.
 */
#define _GNU_SOURCE

#include "fp_os.h"

#if defined(__linux__)

#include <sched.h>
#include <unistd.h>

/* A machine of more CPUs than a cpu_set_t holds refuses: then it is all those that are there. */
uint32_t fp_os_n_cpus(void)
{
    cpu_set_t cpus;
    long n = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? CPU_COUNT(&cpus) : sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : (uint32_t)n;
}

#endif

#if defined(__linux__) && !defined(FP_OS_CONDVAR)

#include "fp_check.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

fp_os_woken fp_os_wait(fp_atomic_u32_t *word, uint32_t expected, uint64_t deadline_ns)
{
    struct timespec deadline = {
        .tv_sec = (time_t)(deadline_ns / 1000000000),
        .tv_nsec = (long)(deadline_ns % 1000000000),
    };
    long result = syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, expected,
                          deadline_ns == FP_OS_FOREVER ? NULL : &deadline, NULL, FUTEX_BITSET_MATCH_ANY);
    if (result == 0)
        return FP_OS_WOKEN;
    switch (errno) {
    case ETIMEDOUT:
        return FP_OS_TIMED_OUT;
    case EINTR:
        return FP_OS_INTERRUPTED;
    default:
        FP_CHECK(errno == EAGAIN, "futex wait on %p: errno %d", (void *)word, errno);
        return FP_OS_WOKEN;
    }
}

/* The kernel makes its key from the address of a private futex without reading it: freed memory is no error here. */
void fp_os_wake_one(const fp_atomic_u32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0);
}

#endif
