/* The Mandelbrot set, block by block: blocks inside the set take a hundred times as long as others, and nobody has to say
 * how to share them out. */
#include <Python.h>

#include <fastpar.h>

typedef struct image {
    uint16_t *pixels;
    int64_t n_rows, n_columns;
    int max_turns;
} image;

static uint16_t escape_time(double re, double im, int max_turns)
{
    double x = 0, y = 0;
    int turns = 0;
    for (; turns < max_turns && x * x + y * y <= 4; turns++) {
        double next = x * x - y * y + re;
        y = 2 * x * y + im;
        x = next;
    }
    return (uint16_t)turns;
}

static int draw(const fp_block *block, void *context)
{
    const image *image = context;
    for (int64_t row = block->row_begin; row < block->row_end; row++)
        for (int64_t column = block->column_begin; column < block->column_end; column++)
            image->pixels[row * image->n_columns + column] =
                escape_time(-2.0 + 3.0 * (double)column / (double)image->n_columns,
                            -1.5 + 3.0 * (double)row / (double)image->n_rows, image->max_turns);
    return 0;
}

/* Called by the thread that waits, now and then, so that Ctrl-C works. */
static int poll_signals(void *context)
{
    (void)context;
    PyGILState_STATE state = PyGILState_Ensure();
    int result = PyErr_CheckSignals();
    PyGILState_Release(state);
    return result;
}

static PyObject *render(PyObject *self, PyObject *args)
{
    image image;
    long long n_rows, n_columns;
    unsigned int n_threads;
    (void)self;
    if (!PyArg_ParseTuple(args, "LLiI", &n_rows, &n_columns, &image.max_turns, &n_threads))
        return NULL;
    image.n_rows = n_rows;
    image.n_columns = n_columns;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(n_rows * n_columns) * 2);
    if (bytes == NULL)
        return NULL;
    image.pixels = (uint16_t *)PyBytes_AS_STRING(bytes);
    fp_options options = {.n_threads = n_threads, .poll = poll_signals};
    fp_outcome outcome;
    Py_BEGIN_ALLOW_THREADS
    outcome = fp_parallel_for_blocks(NULL, n_rows, n_columns, 16, 64, draw, &image, &options, NULL);
    Py_END_ALLOW_THREADS
    if (outcome == FP_DONE)
        return bytes;
    Py_DECREF(bytes);
    if (!PyErr_Occurred())
        PyErr_Format(PyExc_RuntimeError, "the loop ended with outcome %d", (int)outcome);
    return NULL;
}

static PyMethodDef methods[] = {
    {"render", render, METH_VARARGS, "render(n_rows, n_columns, max_turns, n_threads): 16-bit pixels, row by row."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "mandelbrot", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_mandelbrot(void)
{
    if (fp_import() < 0)
        return NULL;
    PyObject *mandelbrot = PyModule_Create(&module);
#ifdef Py_GIL_DISABLED
    if (mandelbrot != NULL)
        PyUnstable_Module_SetGIL(mandelbrot, Py_MOD_GIL_NOT_USED);
#endif
    return mandelbrot;
}
