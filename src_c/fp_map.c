/* See fp_map.h. */
#include "fp_map.h"

static int64_t *stride_of(fp_map *map, int array, int dim)
{
    return array == 0 ? &map->out.strides[dim] : &map->inputs[array - 1].strides[dim];
}

static void copy_dim(fp_map *map, int to, int from)
{
    map->shape[to] = map->shape[from];
    for (int array = 0; array <= map->n_inputs; array++)
        *stride_of(map, array, to) = *stride_of(map, array, from);
}

/* Whether one step in `outer` is as far as a whole walk along `inner`, in every array. */
static bool are_joinable(fp_map *map, int outer, int inner)
{
    for (int array = 0; array <= map->n_inputs; array++)
        if (*stride_of(map, array, outer) != map->shape[inner] * *stride_of(map, array, inner))
            return false;
    return true;
}

int64_t fp_map_simplify(fp_map *map)
{
    int64_t n = 1;
    int last = -1; /* of the dimensions that are kept */
    for (int dim = 0; dim < map->n_dims; dim++) {
        n *= map->shape[dim];
        if (map->shape[dim] == 1)
            continue;
        if (last >= 0 && are_joinable(map, last, dim)) {
            int64_t joined = map->shape[last] * map->shape[dim];
            copy_dim(map, last, dim);
            map->shape[last] = joined;
        } else {
            copy_dim(map, ++last, dim);
        }
    }
    map->n_dims = last + 1;
    return n;
}

/* Where element `index` in C order lies; the arrays advance by their last stride until the end of its row. */
static int64_t locate(const fp_map *map, int64_t index, char *pointers[])
{
    int64_t n_left = 1;
    pointers[0] = map->out.first;
    for (int i = 0; i < map->n_inputs; i++)
        pointers[i + 1] = map->inputs[i].first;
    for (int dim = map->n_dims - 1; dim >= 0; dim--) {
        int64_t at = index % map->shape[dim];
        index /= map->shape[dim];
        if (dim == map->n_dims - 1)
            n_left = map->shape[dim] - at;
        pointers[0] += at * map->out.strides[dim];
        for (int i = 0; i < map->n_inputs; i++)
            pointers[i + 1] += at * map->inputs[i].strides[dim];
    }
    return n_left;
}

/* One loop for each number of inputs, with and without data, for both types. All that it needs is in locals: for all
 * the compiler knows, the kernel may write to the map. */
#define INPUT(i) const char *in##i = p[i]; const int64_t step##i = s[i];
#define INPUTS_1 INPUT(1)
#define INPUTS_2 INPUTS_1 INPUT(2)
#define INPUTS_3 INPUTS_2 INPUT(3)
#define INPUTS_4 INPUTS_3 INPUT(4)
#define STEP_1 in1 += step1
#define STEP_2 STEP_1, in2 += step2
#define STEP_3 STEP_2, in3 += step3
#define STEP_4 STEP_3, in4 += step4
#define IN(T, i) (*(const T *)in##i)
#define EACH(T, N_INPUTS, PARAMETERS, ARGUMENTS)                                                                       \
    {                                                                                                                  \
        T(*const kernel) PARAMETERS = (T(*) PARAMETERS)map->kernel;                                                    \
        INPUTS_##N_INPUTS                                                                                              \
        for (; n > 0; n--, out += out_step, STEP_##N_INPUTS)                                                           \
            *(T *)out = kernel ARGUMENTS;                                                                              \
        break;                                                                                                         \
    }
#define ELEMENTS(T)                                                                                                    \
    static void elements_##T(const fp_map *map, char *const p[], const int64_t s[], int64_t n)                         \
    {                                                                                                                  \
        char *out = p[0];                                                                                              \
        const int64_t out_step = s[0];                                                                                 \
        void *const data = map->data;                                                                                  \
        switch (map->n_inputs * 2 + map->takes_data) {                                                                 \
        case 2: EACH(T, 1, (T), (IN(T, 1)))                                                                            \
        case 3: EACH(T, 1, (T, void *), (IN(T, 1), data))                                                              \
        case 4: EACH(T, 2, (T, T), (IN(T, 1), IN(T, 2)))                                                               \
        case 5: EACH(T, 2, (T, T, void *), (IN(T, 1), IN(T, 2), data))                                                 \
        case 6: EACH(T, 3, (T, T, T), (IN(T, 1), IN(T, 2), IN(T, 3)))                                                  \
        case 7: EACH(T, 3, (T, T, T, void *), (IN(T, 1), IN(T, 2), IN(T, 3), data))                                    \
        case 8: EACH(T, 4, (T, T, T, T), (IN(T, 1), IN(T, 2), IN(T, 3), IN(T, 4)))                                     \
        default: EACH(T, 4, (T, T, T, T, void *), (IN(T, 1), IN(T, 2), IN(T, 3), IN(T, 4), data))                      \
        }                                                                                                              \
    }

ELEMENTS(double)
ELEMENTS(float)

/* Data pointers of all types are passed alike, so a row of floats takes the same call as one of doubles. */
static int row(const fp_map *map, char *const p[])
{
    if (map->kind == FP_MAP_ROW_TO_ONE)
        return ((int (*)(void *, intptr_t, void *, void *))map->kernel)(p[1], map->n_in, p[0], map->data);
    return ((int (*)(void *, intptr_t, void *, intptr_t, void *))map->kernel)(p[1], map->n_in, p[0], map->n_out, map->data);
}

static int64_t last_stride(const fp_map *map, const fp_strided *array)
{
    return map->n_dims > 0 ? array->strides[map->n_dims - 1] : 0;
}

int fp_map_run(fp_chunk *chunk, void *context)
{
    const fp_map *map = context;
    char *pointers[FP_MAP_MAX_INPUTS + 1];
    int64_t strides[FP_MAP_MAX_INPUTS + 1] = {last_stride(map, &map->out)};
    for (int i = 0; i < map->n_inputs; i++)
        strides[i + 1] = last_stride(map, &map->inputs[i]);
    while (chunk->begin < chunk->end) {
        int64_t n = locate(map, chunk->begin, pointers);
        if (n > chunk->end - chunk->begin)
            n = chunk->end - chunk->begin;
        if (map->kind != FP_MAP_ELEMENTS) {
            int code = row(map, pointers);
            if (code != 0)
                return code;
            n = 1;
        } else if (map->is_float) {
            elements_float(map, pointers, strides, n);
        } else {
            elements_double(map, pointers, strides, n);
        }
        chunk->begin += n;
    }
    return 0;
}
