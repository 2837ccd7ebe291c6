/* What the core asks of the operating system: two clocks, waiting on a word of memory, threads, and news of a fork.
 *
 * The contract of all of it: any thread may call, with or without the GIL; pointers are never NULL; nothing here but
 * the start of a thread fails in a way a caller could repair, so there is no status (a call the system refuses means a
 * broken argument, and FP_DEBUG aborts on it). Clocks count nanoseconds from a start of their own.
 *
 * fp_os_posix.c is the whole of it on any POSIX system; on Linux, fp_os_linux.c waits by futex instead.
 * FP_OS_CONDVAR takes the portable wait on Linux too, for its tests.
 */
#ifndef FP_OS_H
#define FP_OS_H

#include "fp_atomic.h"

/* Monotonic: never set back, the clock of every deadline. */
uint64_t fp_os_clock_ns(void);

/* CPU time that the calling thread has used. */
uint64_t fp_os_thread_cpu_ns(void);

/* A deadline that never comes. */
#define FP_OS_FOREVER UINT64_MAX

typedef enum fp_os_woken {
    FP_OS_WOKEN,       /* by a wake, because the word had changed, or for no reason at all */
    FP_OS_TIMED_OUT,   /* the deadline has passed */
    FP_OS_INTERRUPTED, /* a signal handler ran in this thread while it waited */
} fp_os_woken;

/* Sleeps while *word is `expected`, until a wake on its address or `deadline_ns` of fp_os_clock_ns.
 *
 * Comparing and falling asleep are one step as seen by a wake: a change of the word that is followed by a wake is
 * never missed. The result says why the sleep ended, never what the word now is: look again. No memory order is
 * promised either; the caller's own operations on the word carry it.
 *
 * A signal is seen only while asleep, and only when its handler was installed without SA_RESTART (Python's are).
 * The portable wait reports it where a condition variable returns unasked on a signal, as on macOS; with glibc's
 * it never does.
 */
fp_os_woken fp_os_wait(fp_atomic_u32_t *word, uint32_t expected, uint64_t deadline_ns);

/* Wakes one thread that waits on this address, if there is one.
 *
 * The word is not read: it may already have been freed. Whoever waits on the same address by then is woken for no
 * reason, which every user of fp_os_wait must bear anyway.
 */
void fp_os_wake_one(const fp_atomic_u32_t *word);

/* A thread that was started and must be joined, once. */
typedef struct fp_os_thread {
    uintptr_t id;
} fp_os_thread;

/* False: the system gives us no more threads. The new thread takes no signals, they are for threads that were there
 * before; but for those of its own faults, which a handler (Python's faulthandler) could not report otherwise. It sees
 * what was written before the start.
 */
bool fp_os_thread_start(fp_os_thread *thread, void (*body)(void *argument), void *argument);
void fp_os_thread_join(fp_os_thread thread);

/* CPUs that this process may run on, at least 1; control groups are not asked. */
uint32_t fp_os_n_cpus(void);

/* Calls the three around every fork from now on, in the forking thread. They cannot be taken back. */
void fp_os_at_fork(void (*before)(void), void (*in_parent)(void), void (*in_child)(void));

/* Lets another thread go first, if one waits for this CPU. */
void fp_os_yield(void);

/* One turn of a short spin: says to the core that nothing but a change of memory is waited for. */
static inline void fp_os_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

#endif
