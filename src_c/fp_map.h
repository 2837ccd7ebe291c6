/* A C function applied to every element, or every row, of strided arrays: the body of a loop, as fp_parallel_for_chunks
 * takes it. The caller has seen to it that pointers, shapes and strides describe memory that is there, that types are
 * what the kernel takes, and that what is written overlaps nothing else.
 */
#ifndef FP_MAP_H
#define FP_MAP_H

#define FP_CORE
#include "fastpar.h"

enum { FP_MAP_MAX_INPUTS = 4, FP_MAP_MAX_DIMS = 64 };

/* What the kernel looks like; T is double or float. Each may take a `void *data` at the end. */
typedef enum fp_map_kind {
    FP_MAP_ELEMENTS,   /* T (T, ...), 1 to 4 of them */
    FP_MAP_ROW_TO_ONE, /* int (T *row, intptr_t n, T *out, void *data), as scipy.ndimage.generic_filter has it */
    FP_MAP_ROW_TO_ROW, /* int (T *row, intptr_t n, T *out, intptr_t n_out, void *data), as generic_filter1d has it */
} fp_map_kind;

typedef struct fp_strided {
    char *first;
    int64_t strides[FP_MAP_MAX_DIMS]; /* in bytes */
} fp_strided;

typedef struct fp_map {
    void (*kernel)(void);
    void *data;
    bool takes_data, is_float;
    fp_map_kind kind;
    int n_inputs;
    int n_dims;                      /* of the loop: without the row's own */
    int64_t shape[FP_MAP_MAX_DIMS];
    int64_t n_in, n_out;             /* length of the rows, which are contiguous */
    fp_strided out, inputs[FP_MAP_MAX_INPUTS];
} fp_map;

/* Drops dimensions of length 1 and joins those that lie in memory as one: most arrays become a single row of elements.
 * Returns the number of elements, or of rows. */
int64_t fp_map_simplify(fp_map *map);

/* An fp_chunk_fn whose context is the fp_map; returns a row kernel's status where it is not 0. */
int fp_map_run(fp_chunk *chunk, void *map);

#endif
