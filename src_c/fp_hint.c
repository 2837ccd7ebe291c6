/* See fp_hint.h. A line of the table is one atomic word, the key's hash beside the duration: it is never torn, and relaxed
 * is enough, for it says nothing about other memory. */
#include "fp_hint.h"

#include "fp_atomic.h"

enum { N_LINES_LOG2 = 8, MOST_RISE = 8 };

static fp_atomic_u64_t lines[1 << N_LINES_LOG2]; /* hash << 32 | duration in 16ths of a ns, never 0; 0: nothing known */

static uint64_t hash(const void *key)
{
    return (uint64_t)(uintptr_t)key * UINT64_C(0x9E3779B97F4A7C15); /* Fibonacci hashing */
}

double fp_hint_recall(const void *key)
{
    uint64_t h = hash(key), line = fp_u64_load_relaxed(&lines[h >> (64 - N_LINES_LOG2)]);
    return line != 0 && (uint32_t)(line >> 32) == (uint32_t)h ? (double)(uint32_t)line / 16 : FP_HINT_UNKNOWN;
}

void fp_hint_store(const void *key, double index_ns)
{
    uint64_t h = hash(key);
    double before_ns = fp_hint_recall(key);
    if (before_ns != FP_HINT_UNKNOWN && index_ns > MOST_RISE * (before_ns + 1))
        index_ns = MOST_RISE * (before_ns + 1); /* an interrupt, mostly; if not, the loops after it go on rising */
    double sixteenths = index_ns * 16 + 1;
    uint32_t duration = sixteenths < (double)UINT32_MAX ? (uint32_t)sixteenths : UINT32_MAX;
    fp_u64_store_relaxed(&lines[h >> (64 - N_LINES_LOG2)], (uint64_t)(uint32_t)h << 32 | duration);
}
