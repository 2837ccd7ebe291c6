/* The public loops of fastpar.h: from a range, a schedule and a kernel to units, a pace and a body. */
#include "fp_for.h"

#include <string.h>

static const fp_options no_options;

/* What a loop of this thread may use; 0: what any thread may. */
static _Thread_local uint32_t thread_limit;

/* What a loop of any thread may use: the CPUs, once somebody has asked for it. Any thread may set it. */
static fp_atomic_u32_t process_limit;

/* ------------------------------------------------------------------------------------------------------ limits */

uint32_t fp_thread_limit(void)
{
    const struct fp_loop *outer = fp_loop_current();
    if (outer != NULL)
        return outer->n_threads;
    if (thread_limit > 0)
        return thread_limit;
    if (fp_u32_load_relaxed(&process_limit) == 0) /* relaxed, as all of it: a number on its own */
        fp_u32_cas_relaxed(&process_limit, 0, fp_os_n_cpus());
    return fp_u32_load_relaxed(&process_limit);
}

void fp_set_process_limit(uint32_t n_threads)
{
    fp_u32_store_relaxed(&process_limit, n_threads);
}

uint32_t fp_set_thread_limit(uint32_t n_threads)
{
    uint32_t before = thread_limit;
    thread_limit = n_threads;
    return before;
}

void fp_stop_request(fp_stop *stop)
{
    fp_u32_store_relaxed((fp_atomic_u32_t *)&stop->word, 1); /* relaxed: it orders nothing, loops look again and again */
}

bool fp_stop_requested(const fp_stop *stop)
{
    return fp_u32_load_relaxed((const fp_atomic_u32_t *)&stop->word) != 0;
}

bool fp_is_stopping(void)
{
    return fp_loop_is_stopping(fp_loop_current());
}

/* ---------------------------------------------------------------------------------------------------- schedules */

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t round_up(int64_t n, int64_t divisor)
{
    return n / divisor + (n % divisor != 0);
}

/* Units of `grain` indices, or more where there would be too many to count in 32 bits. */
static fp_units units_of(int64_t n, int64_t grain)
{
    const int64_t most = INT32_MAX;
    int64_t size = grain > 1 ? grain : 1;
    if (round_up(n, size) > most)
        size = round_up(n, most);
    return (fp_units){.n = n, .size = size, .n_longer = 0, .n_units = (uint32_t)round_up(n, size)};
}

/* As many units as there are members, as equal as they can be. */
static fp_units units_for(int64_t n, uint32_t n_members)
{
    uint32_t n_units = n < n_members ? (uint32_t)n : n_members;
    if (n_units == 0)
        return units_of(n, 1);
    return (fp_units){.n = n, .size = n / n_units, .n_longer = n % n_units, .n_units = n_units};
}

static void schedule(struct fp_loop *loop, int64_t n)
{
    const fp_options *options = loop->options;
    uint32_t n_threads = options->n_threads > 0 ? options->n_threads : fp_thread_limit();
    loop->n_threads = n_threads < FP_MAX_THREADS + 1 ? n_threads : FP_MAX_THREADS + 1;
    bool is_static = options->schedule == FP_STATIC;
    loop->units = is_static ? units_for(n, loop->n_threads) : units_of(n, options->grain);
    loop->grain = smaller(options->grain > 1 ? options->grain : 1, loop->units.size);
    loop->unit_grains = loop->units.size == loop->grain ? 1 : loop->units.size / loop->grain;
    loop->max_members = loop->units.n_units < loop->n_threads ? loop->units.n_units : loop->n_threads;
    loop->pace = options->schedule == FP_AUTO ? FP_PACE_TIMED
               : options->schedule == FP_GUIDED ? FP_PACE_FRACTION
               : is_static                      ? FP_PACE_SHARE
                                                : FP_PACE_UNIT;
}

fp_outcome fp_for_run(fp_pool *pool, int64_t n, fp_chunk_fn body, void *context, const void *key,
                      const fp_options *options, fp_failure *failure)
{
    struct fp_loop loop;
    memset(&loop, 0, sizeof loop);
    loop.options = options != NULL ? options : &no_options;
    if (n < 0 || loop.options->grain < 0 || (unsigned)loop.options->schedule > FP_GUIDED)
        return FP_INVALID;
    if (n == 0)
        return FP_DONE;
    loop.pool = pool != NULL ? pool : fp_pool_shared();
    loop.body = body;
    loop.context = context;
    loop.key = loop.options->key != NULL ? loop.options->key : key;
    schedule(&loop, n);
    if (loop.pool == NULL)
        loop.max_members = 1;
    fp_loop_run(&loop);
    if (failure != NULL && loop.outcome == FP_FAILED)
        *failure = loop.failure;
    return loop.outcome;
}

/* ----------------------------------------------------------------------------------------------- the public loops */

fp_outcome fp_parallel_for_chunks(fp_pool *pool, int64_t n, fp_chunk_fn kernel, void *context,
                                  const fp_options *options, fp_failure *failure)
{
    return fp_for_run(pool, n, kernel, context, (const void *)(uintptr_t)kernel, options, failure);
}

struct by_index {
    fp_index_fn kernel;
    void *context;
};

static int run_indices(fp_chunk *chunk, void *context)
{
    const struct by_index *by_index = context;
    int code = 0;
    for (int64_t i = chunk->begin; i < chunk->end; i++) {
        code = by_index->kernel(i, by_index->context);
        if (code != 0) {
            chunk->begin = i;
            break;
        }
    }
    return code;
}

fp_outcome fp_parallel_for(fp_pool *pool, int64_t n, fp_index_fn kernel, void *context, const fp_options *options,
                           fp_failure *failure)
{
    struct by_index by_index = {kernel, context};
    return fp_for_run(pool, n, run_indices, &by_index, (const void *)(uintptr_t)kernel, options, failure);
}

struct by_block {
    fp_block_fn kernel;
    void *context;
    int64_t n_rows, n_columns, block_rows, block_columns, n_across; /* blocks in a row of blocks */
};

static int run_blocks(fp_chunk *chunk, void *context)
{
    const struct by_block *by_block = context;
    int code = 0;
    for (; chunk->begin < chunk->end && code == 0; chunk->begin += code == 0) {
        int64_t row = chunk->begin / by_block->n_across * by_block->block_rows;
        int64_t column = chunk->begin % by_block->n_across * by_block->block_columns;
        fp_block block = {
            .row_begin = row,
            .row_end = row + smaller(by_block->block_rows, by_block->n_rows - row),
            .column_begin = column,
            .column_end = column + smaller(by_block->block_columns, by_block->n_columns - column),
            .scratch = chunk->scratch,
            .member = chunk->member,
        };
        code = by_block->kernel(&block, by_block->context);
    }
    return code;
}

fp_outcome fp_parallel_for_blocks(fp_pool *pool, int64_t n_rows, int64_t n_columns, int64_t block_rows,
                                  int64_t block_columns, fp_block_fn kernel, void *context, const fp_options *options,
                                  fp_failure *failure)
{
    if (n_rows < 0 || n_columns < 0 || block_rows < 1 || block_columns < 1)
        return FP_INVALID;
    struct by_block by_block = {
        kernel, context, n_rows, n_columns, block_rows, block_columns, round_up(n_columns, block_columns)};
    int64_t n_down = round_up(n_rows, block_rows);
    if (by_block.n_across > 0 && n_down > INT64_MAX / by_block.n_across)
        return FP_INVALID;
    return fp_for_run(pool, n_down * by_block.n_across, run_blocks, &by_block, (const void *)(uintptr_t)kernel, options,
                      failure);
}
