/* Every atomic operation of the core, with its memory order in its name: the list is the inventory of our orderings.
 *
 * No other file writes memory_order_*. Only what is used is here; an operation is added with the protocol that needs
 * it (DESIGN.md). Release and acquire come in pairs and there are no bare fences: a pair says what it publishes and
 * to whom, and ThreadSanitizer understands it.
 *
 * With FP_TEST_YIELD every operation first calls fp_test_yield(), which a test defines: a scheduler that decides
 * there who runs next can walk through the interleavings one by one.
 */
#ifndef FP_ATOMIC_H
#define FP_ATOMIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef _Atomic(uint32_t) fp_atomic_u32_t;
typedef _Atomic(uint64_t) fp_atomic_u64_t;
typedef _Atomic(int64_t) fp_atomic_i64_t;
typedef _Atomic(size_t) fp_atomic_size_t;

/* The kernel compares the word we wait on as 32 plain bits. */
_Static_assert(sizeof(fp_atomic_u32_t) == 4, "an atomic word must be as small as the plain one");
_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "an atomic word must need no lock");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "nor may one that packs several counts");

#ifdef FP_TEST_YIELD
void fp_test_yield(void);
#define FP_YIELD() fp_test_yield()
#else
#define FP_YIELD() ((void)0)
#endif

/* Before the word is shared, so neither an order nor a yield point. */
static inline void fp_u32_init(fp_atomic_u32_t *word, uint32_t value)
{
    atomic_init(word, value);
}

static inline uint32_t fp_u32_load_relaxed(const fp_atomic_u32_t *word)
{
    FP_YIELD();
    return atomic_load_explicit(word, memory_order_relaxed);
}

static inline void fp_u32_store_relaxed(fp_atomic_u32_t *word, uint32_t value)
{
    FP_YIELD();
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static inline uint32_t fp_u32_load_acquire(const fp_atomic_u32_t *word)
{
    FP_YIELD();
    return atomic_load_explicit(word, memory_order_acquire);
}

static inline void fp_u32_store_release(fp_atomic_u32_t *word, uint32_t value)
{
    FP_YIELD();
    atomic_store_explicit(word, value, memory_order_release);
}

/* The four below return the value before. Adding wraps, so (uint32_t)-1 counts down. */
static inline uint32_t fp_u32_add_relaxed(fp_atomic_u32_t *word, uint32_t value)
{
    FP_YIELD();
    return atomic_fetch_add_explicit(word, value, memory_order_relaxed);
}

static inline uint32_t fp_u32_add_release(fp_atomic_u32_t *word, uint32_t value)
{
    FP_YIELD();
    return atomic_fetch_add_explicit(word, value, memory_order_release);
}

static inline uint32_t fp_u32_add_acq_rel(fp_atomic_u32_t *word, uint32_t value)
{
    FP_YIELD();
    return atomic_fetch_add_explicit(word, value, memory_order_acq_rel);
}

static inline uint32_t fp_u32_or_acquire(fp_atomic_u32_t *word, uint32_t bits)
{
    FP_YIELD();
    return atomic_fetch_or_explicit(word, bits, memory_order_acquire);
}

static inline uint32_t fp_u32_exchange_acquire(fp_atomic_u32_t *word, uint32_t value)
{
    FP_YIELD();
    return atomic_exchange_explicit(word, value, memory_order_acquire);
}

static inline uint32_t fp_u32_exchange_release(fp_atomic_u32_t *word, uint32_t value)
{
    FP_YIELD();
    return atomic_exchange_explicit(word, value, memory_order_release);
}

/* Relaxed when it fails: the caller learns nothing but that it failed. */
static inline bool fp_u32_cas_acquire(fp_atomic_u32_t *word, uint32_t expected, uint32_t desired)
{
    FP_YIELD();
    return atomic_compare_exchange_strong_explicit(word, &expected, desired, memory_order_acquire,
                                                   memory_order_relaxed);
}

static inline bool fp_u32_cas_relaxed(fp_atomic_u32_t *word, uint32_t expected, uint32_t desired)
{
    FP_YIELD();
    return atomic_compare_exchange_strong_explicit(word, &expected, desired, memory_order_relaxed,
                                                   memory_order_relaxed);
}

static inline int64_t fp_i64_load_acquire(const fp_atomic_i64_t *number)
{
    FP_YIELD();
    return atomic_load_explicit(number, memory_order_acquire);
}

static inline void fp_i64_store_release(fp_atomic_i64_t *number, int64_t value)
{
    FP_YIELD();
    atomic_store_explicit(number, value, memory_order_release);
}

static inline bool fp_i64_cas_relaxed(fp_atomic_i64_t *number, int64_t expected, int64_t desired)
{
    FP_YIELD();
    return atomic_compare_exchange_strong_explicit(number, &expected, desired, memory_order_relaxed,
                                                   memory_order_relaxed);
}

static inline void fp_u64_init(fp_atomic_u64_t *counts, uint64_t value)
{
    atomic_init(counts, value);
}

static inline uint64_t fp_u64_load_relaxed(const fp_atomic_u64_t *counts)
{
    FP_YIELD();
    return atomic_load_explicit(counts, memory_order_relaxed);
}

static inline void fp_u64_store_relaxed(fp_atomic_u64_t *counts, uint64_t value)
{
    FP_YIELD();
    atomic_store_explicit(counts, value, memory_order_relaxed);
}

/* Returns the value before; wraps, so adding a negative difference takes away. */
static inline uint64_t fp_u64_add_acq_rel(fp_atomic_u64_t *counts, uint64_t difference)
{
    FP_YIELD();
    return atomic_fetch_add_explicit(counts, difference, memory_order_acq_rel);
}

/* Both leave in *expected what was there when they fail. */
static inline bool fp_u64_cas_relaxed(fp_atomic_u64_t *counts, uint64_t *expected, uint64_t desired)
{
    FP_YIELD();
    return atomic_compare_exchange_strong_explicit(counts, expected, desired, memory_order_relaxed,
                                                   memory_order_relaxed);
}

static inline bool fp_u64_cas_acq_rel(fp_atomic_u64_t *counts, uint64_t *expected, uint64_t desired)
{
    FP_YIELD();
    return atomic_compare_exchange_strong_explicit(counts, expected, desired, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

static inline void fp_size_init(fp_atomic_size_t *size, size_t value)
{
    atomic_init(size, value);
}

static inline size_t fp_size_load_relaxed(const fp_atomic_size_t *size)
{
    FP_YIELD();
    return atomic_load_explicit(size, memory_order_relaxed);
}

static inline void fp_size_store_relaxed(fp_atomic_size_t *size, size_t value)
{
    FP_YIELD();
    atomic_store_explicit(size, value, memory_order_relaxed);
}

/* Returns the value before; wraps, so adding (size_t)-1 counts down. */
static inline size_t fp_size_add_relaxed(fp_atomic_size_t *size, size_t value)
{
    FP_YIELD();
    return atomic_fetch_add_explicit(size, value, memory_order_relaxed);
}

static inline size_t fp_size_load_acquire(const fp_atomic_size_t *size)
{
    FP_YIELD();
    return atomic_load_explicit(size, memory_order_acquire);
}

static inline void fp_size_store_release(fp_atomic_size_t *size, size_t value)
{
    FP_YIELD();
    atomic_store_explicit(size, value, memory_order_release);
}

static inline size_t fp_size_exchange_acq_rel(fp_atomic_size_t *size, size_t value)
{
    FP_YIELD();
    return atomic_exchange_explicit(size, value, memory_order_acq_rel);
}

/* Sequentially consistent, for the one protocol that turns on two variables: the deque's ends (DESIGN.md, 8). */
static inline size_t fp_size_load_seq_cst(const fp_atomic_size_t *size)
{
    FP_YIELD();
    return atomic_load_explicit(size, memory_order_seq_cst);
}

static inline void fp_size_store_seq_cst(fp_atomic_size_t *size, size_t value)
{
    FP_YIELD();
    atomic_store_explicit(size, value, memory_order_seq_cst);
}

static inline bool fp_size_cas_seq_cst(fp_atomic_size_t *size, size_t expected, size_t desired)
{
    FP_YIELD();
    return atomic_compare_exchange_strong_explicit(size, &expected, desired, memory_order_seq_cst,
                                                   memory_order_relaxed);
}

#endif
