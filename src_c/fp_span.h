/* A range of units that its owner eats from the front while thieves cut pieces off the back: one atomic word.
 *
 * The word is the whole state, so compare-and-swap on its value is right whatever happened in between. All of it is
 * relaxed: a span says which units are whose and publishes nothing else. That a thief may run what the loop's caller
 * prepared is carried by the ticket it came with, that the caller sees what it did by the loop's count of members.
 */
#ifndef FP_SPAN_H
#define FP_SPAN_H

#include "fp_atomic.h"

typedef struct fp_span {
    uint32_t begin, end; /* begin <= end */
} fp_span;

typedef struct fp_shared_span {
    fp_atomic_u64_t word; /* raised in front by its owner, lowered behind by thieves; refilled by its owner when empty */
} fp_shared_span;

static inline uint32_t fp_span_n(fp_span span)
{
    return span.end - span.begin;
}

static inline uint64_t fp_span_pack(fp_span span)
{
    return (uint64_t)span.end << 32 | span.begin;
}

static inline fp_span fp_span_unpack(uint64_t word)
{
    return (fp_span){.begin = (uint32_t)word, .end = (uint32_t)(word >> 32)};
}

static inline fp_span fp_span_look(const fp_shared_span *shared)
{
    return fp_span_unpack(fp_u64_load_relaxed(&shared->word));
}

/* Only while it is empty, or not yet shared. */
static inline void fp_span_set_owner(fp_shared_span *shared, fp_span span)
{
    fp_u64_store_relaxed(&shared->word, fp_span_pack(span));
}

/* Takes n units off the front of what `seen` says is there; false when it no longer says so, and `seen` is renewed. */
static inline bool fp_span_eat_owner(fp_shared_span *shared, fp_span *seen, uint32_t n)
{
    uint64_t word = fp_span_pack(*seen);
    fp_span left = {seen->begin + n, seen->end};
    bool has_eaten = fp_u64_cas_relaxed(&shared->word, &word, fp_span_pack(left));
    if (!has_eaten)
        *seen = fp_span_unpack(word);
    return has_eaten;
}

/* Cuts the back half off, the larger one; a single unit goes whole. False: there was nothing. */
static inline bool fp_span_steal_thief(fp_shared_span *shared, fp_span *stolen)
{
    uint64_t word = fp_u64_load_relaxed(&shared->word);
    for (;;) {
        fp_span span = fp_span_unpack(word);
        if (fp_span_n(span) == 0)
            return false;
        uint32_t middle = span.begin + fp_span_n(span) / 2;
        if (fp_u64_cas_relaxed(&shared->word, &word, fp_span_pack((fp_span){span.begin, middle}))) {
            *stolen = (fp_span){middle, span.end};
            return true;
        }
    }
}

#endif
