/* See fp_check.h. The counters are relaxed: they order nothing, and a test reads them when all threads are done. */
#include "fp_check.h"

#ifdef FP_DEBUG

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static fp_atomic_size_t n_live;
static fp_atomic_size_t n_until_failure; /* 0: none will fail */

void fp_check_failed(const char *file, int line, const char *condition, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    fprintf(stderr, "fastpar: broken invariant at %s:%d: %s: ", file, line, condition);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    va_end(values);
    abort();
}

void fp_check_made(void)
{
    fp_size_add_relaxed(&n_live, 1);
}

void fp_check_freed(void)
{
    fp_size_add_relaxed(&n_live, (size_t)-1);
}

size_t fp_check_n_live(void)
{
    return fp_size_load_relaxed(&n_live);
}

void fp_check_fail_nth(size_t n)
{
    fp_size_store_relaxed(&n_until_failure, n);
}

bool fp_check_fails(void)
{
    return fp_size_load_relaxed(&n_until_failure) != 0 && fp_size_add_relaxed(&n_until_failure, (size_t)-1) == 1;
}

#endif
