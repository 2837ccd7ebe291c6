/* Reductions whose result does not depend on who computed what: blocks of indices in a fixed binary tree.
 *
 * The tree over the blocks 0 ... n_blocks - 1: node k of level l stands for the blocks from k << l up to, not including,
 * (k + 1) << l. Of two neighbours whichever is finished last puts both together, always the left one first, and goes on
 * as their parent; the one finished first only leaves its accumulator at the parent. So nobody waits, and hardly more
 * accumulators exist than threads times levels.
 */
#include "fp_for.h"

#include "fp_check.h"

#include <stdlib.h>
#include <string.h>

enum { N_BLOCKS = 1024 };

/* A free accumulator is a link of the list of them. */
struct accumulator {
    struct accumulator *next;
};

struct reducing {
    const fp_reduction *reduction;
    void *context;
    int64_t n, block, n_blocks;
    fp_atomic_size_t *waiting; /* for each inner node: 0, or the accumulator of the neighbour that was finished first */
    size_t n_bytes;            /* of an accumulator, in whole cache lines */
    void *total;               /* by whoever finishes the root; read when all have left the loop */
    fp_atomic_u32_t is_exhausted; /* 1 once an accumulator could not be had */
    fp_mutex lock;
    struct accumulator *unused; /* under lock */
};

static void *accumulator_take(struct reducing *reducing)
{
    fp_mutex_lock(&reducing->lock);
    struct accumulator *accumulator = reducing->unused;
    if (accumulator != NULL)
        reducing->unused = accumulator->next;
    fp_mutex_unlock(&reducing->lock);
    if (accumulator == NULL)
        accumulator = fp_check_fails() ? NULL : aligned_alloc(FP_CACHE_LINE, reducing->n_bytes);
    return accumulator;
}

static void accumulator_begin(const struct reducing *reducing, void *accumulator)
{
    if (reducing->reduction->init != NULL)
        reducing->reduction->init(accumulator, reducing->context);
    else
        memset(accumulator, 0, reducing->reduction->n_bytes);
}

static void accumulator_end(struct reducing *reducing, void *memory)
{
    if (reducing->reduction->free != NULL)
        reducing->reduction->free(memory, reducing->context);
    struct accumulator *accumulator = memory;
    fp_mutex_lock(&reducing->lock);
    accumulator->next = reducing->unused;
    reducing->unused = accumulator;
    fp_mutex_unlock(&reducing->lock);
}

/* Inner nodes by level: the first level above the leaves has (n + 1) / 2 of them, and so on. */
static int64_t nodes_above(int64_t n_nodes)
{
    return n_nodes / 2 + n_nodes % 2;
}

/* Brings the accumulator of a finished block as far up the tree as it can. */
static void carry_up(struct reducing *reducing, int64_t node, void *accumulator)
{
    fp_atomic_size_t *level = reducing->waiting;
    for (int64_t n_nodes = reducing->n_blocks; n_nodes > 1; n_nodes = nodes_above(n_nodes), node /= 2) {
        bool has_neighbour = (node ^ 1) < n_nodes;
        if (has_neighbour) {
            /* Pairs with itself: whoever comes second sees the neighbour's accumulator filled. */
            void *neighbour = (void *)fp_size_exchange_acq_rel(&level[node / 2], (size_t)accumulator);
            if (neighbour == NULL)
                return;
            void *left = node % 2 == 0 ? accumulator : neighbour, *right = node % 2 == 0 ? neighbour : accumulator;
            fp_size_store_relaxed(&level[node / 2], 0); /* ours alone: both have been here */
            reducing->reduction->merge(left, right, reducing->context);
            accumulator_end(reducing, right);
            accumulator = left;
        }
        level += nodes_above(n_nodes);
    }
    reducing->total = accumulator;
}

static int reduce_blocks(fp_chunk *chunk, void *context)
{
    struct reducing *reducing = context;
    int code = 0;
    for (; chunk->begin < chunk->end && code == 0; chunk->begin += code == 0) {
        void *accumulator = accumulator_take(reducing);
        if (accumulator == NULL) {
            fp_u32_store_relaxed(&reducing->is_exhausted, 1); /* relaxed: read when all have left the loop */
            return -1;
        }
        accumulator_begin(reducing, accumulator);
        int64_t begin = chunk->begin * reducing->block;
        int64_t end = chunk->begin + 1 < reducing->n_blocks ? begin + reducing->block : reducing->n;
        code = reducing->reduction->add(accumulator, begin, end, reducing->context);
        if (code == 0)
            carry_up(reducing, chunk->begin, accumulator);
        else
            accumulator_end(reducing, accumulator);
    }
    return code;
}

/* After the loop, also one that ended before time. */
static void release(struct reducing *reducing, size_t n_inner)
{
    if (reducing->total != NULL)
        accumulator_end(reducing, reducing->total);
    for (size_t i = 0; i < n_inner; i++) {
        void *left_behind = (void *)fp_size_load_relaxed(&reducing->waiting[i]);
        if (left_behind != NULL)
            accumulator_end(reducing, left_behind);
    }
    while (reducing->unused != NULL) {
        struct accumulator *next = reducing->unused->next;
        free(reducing->unused);
        reducing->unused = next;
    }
    free(reducing->waiting);
}

/* Inner nodes of the whole tree, at least one. */
static size_t count_inner(int64_t n_blocks)
{
    size_t n = 1;
    for (int64_t n_nodes = n_blocks; n_nodes > 1; n_nodes = nodes_above(n_nodes))
        n += (size_t)nodes_above(n_nodes);
    return n;
}

static fp_outcome reduce(fp_pool *pool, struct reducing *reducing, void *result, const fp_options *options,
                         fp_failure *failure)
{
    fp_failure first = {0, 0};
    fp_outcome outcome = fp_for_run(pool, reducing->n_blocks, reduce_blocks, reducing,
                                    (const void *)(uintptr_t)reducing->reduction->add, options, &first);
    if (fp_u32_load_relaxed(&reducing->is_exhausted) != 0)
        outcome = FP_EXHAUSTED;
    if (outcome == FP_FAILED && failure != NULL)
        *failure = (fp_failure){first.index * reducing->block, first.code};
    if (outcome == FP_DONE && reducing->total != NULL)
        reducing->reduction->merge(result, reducing->total, reducing->context);
    return outcome;
}

fp_outcome fp_parallel_reduce(fp_pool *pool, int64_t n, const fp_reduction *reduction, void *context, void *result,
                              const fp_options *options, fp_failure *failure)
{
    if (n < 0 || reduction->block < 0 || reduction->n_bytes == 0)
        return FP_INVALID;
    size_t least = reduction->n_bytes > sizeof(struct accumulator) ? reduction->n_bytes : sizeof(struct accumulator);
    int64_t block = reduction->block > 0 ? reduction->block : n / N_BLOCKS + (n % N_BLOCKS != 0);
    struct reducing reducing = {
        .reduction = reduction,
        .context = context,
        .n = n,
        .block = block > 0 ? block : 1,
        .n_bytes = (least + FP_CACHE_LINE - 1) / FP_CACHE_LINE * FP_CACHE_LINE,
    };
    reducing.n_blocks = n / reducing.block + (n % reducing.block != 0);
    fp_mutex_init(&reducing.lock);
    accumulator_begin(&reducing, result);
    size_t n_inner = count_inner(reducing.n_blocks);
    reducing.waiting = fp_check_fails() ? NULL : calloc(n_inner, sizeof *reducing.waiting);
    if (reducing.waiting == NULL)
        return FP_EXHAUSTED;
    fp_outcome outcome = reduce(pool, &reducing, result, options, failure);
    release(&reducing, n_inner);
    return outcome;
}
