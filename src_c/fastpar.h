/* fastpar in C: parallel loops over compiled code, on one pool of threads, without OpenMP.
 *
 * A loop runs in the calling thread, which needs no GIL, and the threads of the pool join while there is something to
 * share. Any thread may call, inside a loop too (loops nest), and several at once. In the child of a fork the pool starts
 * empty; a child forked inside a kernel must not return into it. Kernels must not jump out or end the thread, and must not
 * raise, in Cython: be `noexcept`. Threads of the pool are unknown to Python, so an exception raised there would be lost.
 *
 * An extension module needs no library and no link step: it calls through the function table of the installed fastpar.
 *
 *     #include <Python.h>
 *     #include <fastpar.h>                     // after Python.h; include directory: fastpar.get_include()
 *     if (fp_import() < 0) return NULL;        // in the module's init function, with the GIL
 *     fp_parallel_for(NULL, n, kernel, context, NULL, NULL);
 */
#ifndef FASTPAR_H
#define FASTPAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Threads. NULL as a pool always means the one that this process shares. */
typedef struct fp_pool fp_pool;

/* How a loop ended. */
typedef enum fp_outcome {
    FP_DONE,      /* every index was handled */
    FP_FAILED,    /* a kernel returned something else than 0: the rest was dropped, fp_failure says where */
    FP_STOPPED,   /* the stop token or `poll` asked for it: the rest was dropped */
    FP_EXHAUSTED, /* no memory for scratch or accumulators; nothing, or not everything, was handled */
    FP_INVALID,   /* an argument is wrong; nothing was done */
} fp_outcome;

/* Which pieces a loop is cut into; each is run by one thread. A long one is handed to its kernel in slices of about 20 us,
 * so that a failure elsewhere, a stop token and `poll` are heeded in time. */
typedef enum fp_schedule {
    FP_AUTO,    /* pieces of about 20 us, measured as the loop runs, smaller towards its end */
    FP_STATIC,  /* one piece a thread, all of a size */
    FP_DYNAMIC, /* pieces of `grain` indices */
    FP_GUIDED,  /* a quarter of what a thread has left, at least `grain` indices */
} fp_schedule;

/* Asks loops to stop, from any thread, any number of times. Zero it before its first use, and to use it again. */
typedef struct fp_stop {
    uint32_t word;
} fp_stop;

/* Memory that each taking-part thread has for itself during a loop: aligned to 64 bytes, not zeroed, used again later.
 *
 * After the loop, also one that failed, the calling thread merges and frees what was initialised, thread by thread. The
 * calling thread's own comes first, the rest in the order in which threads joined: which index met which scratch is
 * chance. fp_parallel_reduce is for results that must not depend on it.
 */
typedef struct fp_scratch {
    size_t n_bytes;
    void (*init)(void *scratch, void *context);  /* by the thread itself, before its first piece; may be NULL */
    void (*merge)(void *scratch, void *context); /* may be NULL */
    void (*free)(void *scratch, void *context);  /* releases what init acquired, not the memory; may be NULL */
} fp_scratch;

/* All zero is the default of everything; so is a NULL for the whole. */
typedef struct fp_options {
    uint32_t n_threads;     /* at most so many work on this loop, the caller included; 0: fp_thread_limit() */
    fp_schedule schedule;
    int64_t grain;          /* least number of indices that a kernel is called with, but at the end; 0: 1 */
    fp_stop *stop;          /* looked at between pieces */
    int (*poll)(void *);    /* called by the calling thread about every 50 ms; not 0 stops the loop */
    void *poll_context;
    const fp_scratch *scratch;
    const void *key;        /* whose duration is remembered for the next loop; NULL: the kernel's */
} fp_options;

/* The failure with the lowest index among those that happened before the loop stopped. */
typedef struct fp_failure {
    int64_t index;
    int code;
} fp_failure;

/* A piece of a loop. A kernel that fails may move `begin` to the index where it did. */
typedef struct fp_chunk {
    int64_t begin, end;
    void *scratch;   /* this thread's, or NULL */
    uint32_t member; /* which thread of the loop: 0 for the caller, then in order of joining */
} fp_chunk;

typedef struct fp_block {
    int64_t row_begin, row_end, column_begin, column_end;
    void *scratch;
    uint32_t member;
} fp_block;

/* Kernels: 0 to go on, anything else stops the loop within a piece of each thread. */
typedef int (*fp_index_fn)(int64_t index, void *context);
typedef int (*fp_chunk_fn)(fp_chunk *chunk, void *context);
typedef int (*fp_block_fn)(const fp_block *block, void *context);

/* An accumulator of `n_bytes`: what an empty range gives, one more range, and two neighbours put together. */
typedef struct fp_reduction {
    size_t n_bytes;
    void (*init)(void *accumulator, void *context);                             /* may be NULL: zeroes */
    int (*add)(void *accumulator, int64_t begin, int64_t end, void *context);   /* a kernel */
    void (*merge)(void *left, const void *right, void *context);                /* left = left + right, in this order */
    void (*free)(void *accumulator, void *context);                             /* may be NULL */
    int64_t block;                                                              /* indices in an add; 0: n / 1024 */
} fp_reduction;

/* The functions: the core's own, and, for everybody else, the same names through the table below. */
#ifdef FP_CORE

/* Serial equivalent:
 *
 *     for (int64_t i = 0; i < n; i++)
 *         if (kernel(i, context)) return FP_FAILED;
 *
 * `failure` may be NULL. n may be 0; below 0 is FP_INVALID. What kernels wrote is visible to the caller afterwards.
 */
fp_outcome fp_parallel_for(fp_pool *pool, int64_t n, fp_index_fn kernel, void *context, const fp_options *options,
                           fp_failure *failure);

/* The same in pieces, for kernels that have their own inner loop. */
fp_outcome fp_parallel_for_chunks(fp_pool *pool, int64_t n, fp_chunk_fn kernel, void *context, const fp_options *options,
                                  fp_failure *failure);

/* All blocks of a table of rows x columns, row by row; blocks at the edges are smaller. `failure->index` and the grain
 * count blocks. */
fp_outcome fp_parallel_for_blocks(fp_pool *pool, int64_t n_rows, int64_t n_columns, int64_t block_rows,
                                  int64_t block_columns, fp_block_fn kernel, void *context, const fp_options *options,
                                  fp_failure *failure);

/* Serial equivalent: add over each block of indices into an accumulator of its own, then merge neighbours, pair by pair.
 *
 * The blocks and the tree of merges depend on n and `block` alone, so the result is bitwise the same with any number of
 * threads and any schedule. `result` is initialised, and the caller's to free, also after a failure. The schedule's
 * grain counts blocks.
 */
fp_outcome fp_parallel_reduce(fp_pool *pool, int64_t n, const fp_reduction *reduction, void *context, void *result,
                              const fp_options *options, fp_failure *failure);

/* Makes the loops that were given this token stop. */
void fp_stop_request(fp_stop *stop);
bool fp_stop_requested(const fp_stop *stop);

/* Inside a kernel: has the loop been told to stop? For kernels whose single pieces take long. */
bool fp_is_stopping(void);

/* How many threads a loop without a number of its own may use, in this thread; a kernel inherits its loop's. In a worker of
 * fastpar's Parallel that is the worker's share of the CPUs, elsewhere the CPUs that this process may use, to which setting
 * 0 goes back. Returns what was set before. */
uint32_t fp_thread_limit(void);
uint32_t fp_set_thread_limit(uint32_t n_threads);

/* A pool of its own, of up to n_threads threads beside those that call; they start when they are needed. NULL: no memory.
 * When it is freed, or put to rest, no loop may run on it. At rest it has no threads, until it is used again. */
fp_pool *fp_pool_new(uint32_t n_threads);
void fp_pool_free(fp_pool *pool);
void fp_pool_rest(fp_pool *pool);
uint32_t fp_pool_n_threads(const fp_pool *pool);

#endif

/* What the capsule holds. A module compiled for version N works with every fastpar of version N or later: entries are
 * only added, at the end. */
#define FP_VERSION 1
#define FP_CAPSULE "fastpar._core.pool._c_api"

typedef struct fp_table {
    uint32_t version;
    fp_outcome (*parallel_for)(fp_pool *, int64_t, fp_index_fn, void *, const fp_options *, fp_failure *);
    fp_outcome (*parallel_for_chunks)(fp_pool *, int64_t, fp_chunk_fn, void *, const fp_options *, fp_failure *);
    fp_outcome (*parallel_for_blocks)(fp_pool *, int64_t, int64_t, int64_t, int64_t, fp_block_fn, void *,
                                      const fp_options *, fp_failure *);
    fp_outcome (*parallel_reduce)(fp_pool *, int64_t, const fp_reduction *, void *, void *, const fp_options *,
                                  fp_failure *);
    void (*stop_request)(fp_stop *);
    bool (*stop_requested)(const fp_stop *);
    bool (*is_stopping)(void);
    uint32_t (*thread_limit)(void);
    uint32_t (*set_thread_limit)(uint32_t);
    fp_pool *(*pool_new)(uint32_t);
    void (*pool_free)(fp_pool *);
    void (*pool_rest)(fp_pool *);
    uint32_t (*pool_n_threads)(const fp_pool *);
} fp_table;

#ifndef FP_CORE

#define fp_parallel_for (fp_api->parallel_for)
#define fp_parallel_for_chunks (fp_api->parallel_for_chunks)
#define fp_parallel_for_blocks (fp_api->parallel_for_blocks)
#define fp_parallel_reduce (fp_api->parallel_reduce)
#define fp_stop_request (fp_api->stop_request)
#define fp_stop_requested (fp_api->stop_requested)
#define fp_is_stopping (fp_api->is_stopping)
#define fp_thread_limit (fp_api->thread_limit)
#define fp_set_thread_limit (fp_api->set_thread_limit)
#define fp_pool_new (fp_api->pool_new)
#define fp_pool_free (fp_api->pool_free)
#define fp_pool_rest (fp_api->pool_rest)
#define fp_pool_n_threads (fp_api->pool_n_threads)

/* One in each file that includes this; fp_import sets it. */
#ifdef __GNUC__
__attribute__((unused))
#endif
static const fp_table *fp_api;

#ifdef Py_PYTHON_H

/* Needs the GIL. -1 with a Python exception set: fastpar is missing, or older than this header. */
static inline int fp_import(void)
{
    PyObject *module = PyImport_ImportModule("fastpar._core.pool"); /* PyCapsule_Import finds what is imported */
    if (module == NULL)
        return -1;
    Py_DECREF(module);
    const fp_table *table = (const fp_table *)PyCapsule_Import(FP_CAPSULE, 0);
    if (table == NULL)
        return -1;
    if (table->version < FP_VERSION) {
        PyErr_Format(PyExc_ImportError, "compiled for version %d of fastpar's C API, but the installed fastpar has version %d",
                     FP_VERSION, (int)table->version);
        return -1;
    }
    fp_api = table;
    return 0;
}

#endif
#endif

#ifdef __cplusplus
}
#endif

#endif
