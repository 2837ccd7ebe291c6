/* The one way into a loop, for the public functions of fp_for.c and for what is built on them. */
#ifndef FP_FOR_H
#define FP_FOR_H

#include "fp_loop.h"

/* `key`: whose duration is remembered, unless the options name another. */
fp_outcome fp_for_run(fp_pool *pool, int64_t n, fp_chunk_fn body, void *context, const void *key,
                      const fp_options *options, fp_failure *failure);

/* What fp_thread_limit() is where no thread has set it, from now on; 0: the CPUs. For whoever shares the machine's CPUs out,
 * and knows of control groups. */
void fp_set_process_limit(uint32_t n_threads);

#endif
