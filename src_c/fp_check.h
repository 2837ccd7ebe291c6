/* Invariants, counted objects and allocations that fail on request: all of it only with FP_DEBUG.
 *
 * In a release build a check costs nothing, its operands are compiled but never evaluated, and the count is zero.
 * Any thread may call. A broken invariant aborts at once: a scheduler whose state is wrong is never limped along.
 */
#ifndef FP_CHECK_H
#define FP_CHECK_H

#include "fp_atomic.h"

#ifdef FP_DEBUG

/* Aborts, unless `condition` holds, with the values seen: a printf format and its arguments. */
#define FP_CHECK(condition, ...) ((condition) ? (void)0 : fp_check_failed(__FILE__, __LINE__, #condition, __VA_ARGS__))

_Noreturn void fp_check_failed(const char *file, int line, const char *condition, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Objects of the core that were made and not yet freed; tests see to it that none is left behind. */
void fp_check_made(void);
void fp_check_freed(void);
size_t fp_check_n_live(void);

/* Lets the n-th allocation from now fail, once; 0 takes an earlier request back. */
void fp_check_fail_nth(size_t n);

/* Asked before each allocation: has its time to fail come? */
bool fp_check_fails(void);

#else

#define FP_CHECK(condition, ...) ((void)sizeof(condition))

static inline void fp_check_made(void) {}
static inline void fp_check_freed(void) {}
static inline size_t fp_check_n_live(void) { return 0; }
static inline bool fp_check_fails(void) { return false; }

#endif
#endif
