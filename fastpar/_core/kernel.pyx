"""Kernels as Python objects, and the loops over them: the address is looked up once, the GIL released once a loop.

Owns: `Kernel`, and how each kind of signature becomes the body of a loop. Not its job: reading signatures and finding
the function in what a user has (`fastpar.kernels`), and whether arrays fit (`fastpar._core.buffers`). A loop may be
called from any thread; the arrays it works on are held by their buffers until it ends.
"""

from cpython.buffer cimport Py_buffer
from cpython.exc cimport PyErr_Clear, PyErr_ExceptionMatches, PyErr_Occurred
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.tuple cimport PyTuple_GET_SIZE
from libc.stdint cimport int64_t, uint32_t, uintptr_t
from libc.string cimport memset

cimport fastpar._core.threads as threads
from fastpar._core.buffers cimport Held, check_overlap, check_row, check_shape, shape_of
from fastpar._core.pool cimport (
    FP_AUTO,
    FP_DONE,
    FP_DYNAMIC,
    FP_FAILED,
    FP_GUIDED,
    FP_STATIC,
    chunk_kernel,
    fp_chunk,
    fp_failure,
    fp_options,
    fp_outcome,
    fp_reduction,
    fp_schedule,
    index_kernel,
    parallel_for,
    parallel_for_chunks,
    parallel_reduce,
    poll_signals,
    raise_outcome,
)
from fastpar._core.tasks cimport Batch

cdef extern from *:
    """
    #define FP_CORE
    """

cdef extern from "fp_map.h" nogil:
    enum: FP_MAP_MAX_DIMS
    ctypedef enum fp_map_kind:
        FP_MAP_ELEMENTS
        FP_MAP_ROW_TO_ONE
        FP_MAP_ROW_TO_ROW
    ctypedef struct fp_strided:
        char *first
        int64_t *strides
    ctypedef struct fp_map:
        void (*kernel)() noexcept
        void *data
        bint takes_data
        bint is_float
        fp_map_kind kind
        int n_inputs
        int n_dims
        int64_t *shape
        int64_t n_in
        int64_t n_out
        fp_strided out
        fp_strided *inputs
    int64_t fp_map_simplify(fp_map *map) noexcept
    int fp_map_run(void *chunk, void *map) noexcept

cdef dict SCHEDULES = {"auto": FP_AUTO, "static": FP_STATIC, "dynamic": FP_DYNAMIC, "guided": FP_GUIDED}


cdef class Kernel:
    """A compiled function that loops may call without the GIL; made by `fastpar.kernel`. Calling it calls the function."""

    def __init__(self, uintptr_t address, str signature, str code, uintptr_t data, owner, make_callable):
        self.address = <void *>address
        self.data = <void *>data
        self.signature = signature
        self.code = code
        self.owner = owner
        self._make_callable = make_callable

    @property
    def address(self):
        """Where the function is."""
        return <uintptr_t>self.address

    @property
    def data_address(self):
        """What its ``void *data`` is given where a call names none; 0 for none."""
        return <uintptr_t>self.data

    def __call__(self, *args):
        if self._function is None:
            self._function = self._make_callable(self)
        try:
            result = self._function(*args)
        except SystemError as error:
            if error.__cause__ is None:
                raise
            raise error.__cause__ from None  # Python found a result, and an exception of the kernel's beside it
        raise_outcome(FP_DONE, NULL)  # or we do: who calls from C code does not look
        return result

    def __repr__(self):
        return f"<fastpar.kernel {self.signature}>"

    def __reduce__(self):
        raise TypeError("a kernel is an address in this process: send the object that it was made from instead")


cdef class Loop:
    """How a loop is to run: threads, schedule, grain."""

    def __init__(self, uint32_t n_threads, str schedule, int64_t grain):
        if schedule not in SCHEDULES:
            raise ValueError(f"schedule={schedule!r}: it is one of {', '.join(map(repr, SCHEDULES))}")
        memset(&self.options, 0, sizeof(fp_options))
        self.options.n_threads = n_threads
        self.options.schedule = SCHEDULES[schedule]
        self.options.grain = grain
        self.options.poll = poll_signals

    cdef int finish(self, int outcome, int64_t index, int code) except -1:
        cdef fp_failure failure
        failure.index = index
        failure.code = code
        return raise_outcome(<fp_outcome>outcome, &failure)


# ------------------------------------------------------------------------------------------------- ranges

ctypedef int (*lone_index_kernel)(int64_t index) noexcept nogil
ctypedef int (*range_kernel)(int64_t begin, int64_t end, void *data) noexcept nogil

cdef struct Body:
    void *function
    void *data


cdef int run_lone_index(int64_t index, void *context) noexcept nogil:
    return (<lone_index_kernel>(<Body *>context).function)(index)


cdef int run_range(fp_chunk *chunk, void *context) noexcept nogil:
    cdef Body *body = <Body *>context
    return (<range_kernel>body.function)(chunk.begin, chunk.end, body.data)


def run_for(Kernel kernel, int64_t n, uintptr_t data, Loop loop):
    """`fastpar.kernels.parallel_for`, arguments checked."""
    cdef Body body
    cdef fp_failure failure
    cdef fp_outcome outcome
    cdef str code = kernel.code
    body.function = kernel.address
    body.data = <void *>data if data else kernel.data
    loop.options.key = kernel.address
    if code == "i(lP)":
        with nogil:
            outcome = parallel_for(n, <index_kernel>body.function, body.data, &loop.options, &failure)
    elif code == "i(l)":
        with nogil:
            outcome = parallel_for(n, run_lone_index, &body, &loop.options, &failure)
    else:
        with nogil:
            outcome = parallel_for_chunks(n, run_range, &body, &loop.options, &failure)
    loop.finish(outcome, failure.index, failure.code)


# ------------------------------------------------------------------------------------------------- reductions

ctypedef double (*term_kernel)(int64_t index, void *data) noexcept nogil
ctypedef double (*lone_term_kernel)(int64_t index) noexcept nogil
ctypedef double (*partial_kernel)(int64_t begin, int64_t end, void *data) noexcept nogil
ctypedef double (*combine_function)(double left, double right) noexcept nogil

cdef struct Folding:
    void *function
    void *data
    combine_function combine
    double initial
    int kind  # the place of the kernel's code in FOLDS


cdef double add(double left, double right) noexcept nogil:
    return left + right


cdef double multiply(double left, double right) noexcept nogil:
    return left * right


cdef double smaller(double left, double right) noexcept nogil:
    return left if left < right or left != left else right  # a NaN stays, as in NumPy


cdef double larger(double left, double right) noexcept nogil:
    return left if left > right or left != left else right


cdef tuple FOLDS = ("d(lP)", "d(l)", "d(llP)")


cdef void fold_init(void *accumulator, void *context) noexcept nogil:
    (<double *>accumulator)[0] = (<Folding *>context).initial


cdef void fold_merge(void *left, const void *right, void *context) noexcept nogil:
    cdef Folding *folding = <Folding *>context
    (<double *>left)[0] = folding.combine((<double *>left)[0], (<const double *>right)[0])


cdef int fold_add(void *accumulator, int64_t begin, int64_t end, void *context) noexcept nogil:
    cdef Folding *folding = <Folding *>context
    cdef double value = (<double *>accumulator)[0]
    cdef int64_t i
    if folding.kind == 2:
        value = folding.combine(value, (<partial_kernel>folding.function)(begin, end, folding.data))
    elif folding.kind == 1:
        for i in range(begin, end):
            value = folding.combine(value, (<lone_term_kernel>folding.function)(i))
    else:
        for i in range(begin, end):
            value = folding.combine(value, (<term_kernel>folding.function)(i, folding.data))
    (<double *>accumulator)[0] = value
    return 0


#: What each operation starts from.
INITIAL = {"sum": 0.0, "prod": 1.0, "min": float("inf"), "max": float("-inf")}


def run_reduce(Kernel kernel, int64_t n, uintptr_t data, str op, int64_t block, Loop loop):
    """`fastpar.kernels.parallel_reduce`, arguments checked."""
    cdef Folding folding
    cdef fp_reduction reduction
    cdef fp_failure failure
    cdef fp_outcome outcome
    cdef double result
    folding.function = kernel.address
    folding.data = <void *>data if data else kernel.data
    folding.combine = add if op == "sum" else multiply if op == "prod" else smaller if op == "min" else larger
    folding.initial = INITIAL[op]
    folding.kind = FOLDS.index(kernel.code)
    memset(&reduction, 0, sizeof(reduction))
    reduction.n_bytes = sizeof(double)
    reduction.init = fold_init
    reduction.add = fold_add
    reduction.merge = fold_merge
    reduction.block = block
    loop.options.key = kernel.address
    with nogil:
        outcome = parallel_reduce(n, &reduction, &folding, &result, &loop.options, &failure)
    loop.finish(outcome, failure.index, failure.code)
    return result


# ------------------------------------------------------------------------------------------------- arrays

cdef void describe(fp_strided *strided, const Py_buffer *buffer, int n_dims) noexcept:
    cdef int dim
    strided.first = <char *>buffer.buf
    for dim in range(n_dims):
        strided.strides[dim] = buffer.strides[dim]


def run_map(Kernel kernel, tuple arrays, out, uintptr_t data, Loop loop):
    """`fastpar.kernels.kernel_map`: the output."""
    cdef fp_map map
    cdef Held held = Held()
    cdef Py_buffer *first
    cdef Py_buffer *buffer
    cdef fp_outcome outcome
    cdef fp_failure failure
    cdef int64_t n
    cdef int i, n_needed
    cdef str format = "f" if "f" in kernel.code or "F" in kernel.code else "d"
    map.kernel = <void (*)() noexcept nogil>kernel.address
    map.data = <void *>data if data else kernel.data
    map.takes_data = kernel.code.endswith("P)")
    map.is_float = format == "f"
    map.n_inputs = len(arrays)
    map.kind = FP_MAP_ELEMENTS if kernel.code[0] != "i" else (
        FP_MAP_ROW_TO_ONE if len(kernel.code) == 7 else FP_MAP_ROW_TO_ROW
    )
    first = held.hold(arrays[0], False, format, "array 1")
    if map.kind != FP_MAP_ELEMENTS:
        check_row(first, "the array")
    map.n_dims = first.ndim - (map.kind != FP_MAP_ELEMENTS)
    if map.n_dims > FP_MAP_MAX_DIMS:
        raise ValueError(f"{map.n_dims} dimensions are more than {FP_MAP_MAX_DIMS}")
    if out is None:
        out = _empty(first, map.n_dims if map.kind == FP_MAP_ROW_TO_ONE else first.ndim, format)
    for i in range(map.n_dims):
        map.shape[i] = first.shape[i]
    describe(&map.inputs[0], first, map.n_dims)
    for i in range(1, map.n_inputs):
        buffer = held.hold(arrays[i], False, format, f"array {i + 1}")
        check_shape(buffer, first, map.n_dims, f"array {i + 1}")
        describe(&map.inputs[i], buffer, map.n_dims)
    buffer = held.hold(out, True, format, "out")
    n_needed = map.n_dims + (map.kind == FP_MAP_ROW_TO_ROW)
    if buffer.ndim != n_needed:
        raise ValueError(f"out has {buffer.ndim} dimensions where {n_needed} are needed")
    check_shape(buffer, first, map.n_dims, "out")
    if map.kind == FP_MAP_ROW_TO_ROW:
        check_row(buffer, "out")
    map.n_in = first.shape[map.n_dims] if map.kind != FP_MAP_ELEMENTS else 0
    map.n_out = buffer.shape[map.n_dims] if map.kind == FP_MAP_ROW_TO_ROW else 0
    describe(&map.out, buffer, map.n_dims)
    for i in range(map.n_inputs):
        check_overlap(buffer, &held.buffers[i], out, arrays[i])
    n = fp_map_simplify(&map)
    loop.options.key = kernel.address
    with nogil:
        outcome = parallel_for_chunks(n, <chunk_kernel>fp_map_run, &map, &loop.options, &failure)
    loop.finish(outcome, failure.index, failure.code)  # first: an exception that a kernel left is raised as it is
    held.release()
    return out


cdef object _empty(const Py_buffer *like, int n_dims, str format):
    import numpy as np

    return np.empty(shape_of(like)[:n_dims], format)


# ------------------------------------------------------------------------------------------------- tasks of Parallel


cdef Py_ssize_t gather(Batch batch, Py_ssize_t first, Py_ssize_t n_most, Py_ssize_t n_args, double *values) except -1:
    """The arguments of up to `n_most` tasks from `first` on that are alike, one row each with room for the result; how many."""
    cdef object kernel = batch.task(first)[0]
    cdef Py_ssize_t i, n = 0
    cdef tuple task, args
    for n in range(n_most):
        task = batch.task(first + n)
        args = task[1]
        if task[0] is not kernel or len(<dict>task[2]) > 0 or PyTuple_GET_SIZE(args) != n_args:
            return n
        for i in range(n_args):
            if type(args[i]) is not float and type(args[i]) is not int:
                return n  # the ordinary call knows what to do, or what to say
            values[i + 1] = args[i]
        values += n_args + 1
    return n_most


cdef Py_ssize_t run_gathered(
    Batch batch, Py_ssize_t first, Py_ssize_t n, Kernel kernel, Py_ssize_t n_args, double *values
) except -1:
    """How many were run. If one raised, those before it: the ordinary call, which is next, says whose exception it was."""
    cdef Py_ssize_t i
    cdef fp_map map
    cdef fp_chunk chunk
    map.kernel = <void (*)() noexcept nogil>kernel.address
    map.data = kernel.data
    map.takes_data = kernel.code.endswith("P)")
    map.is_float = False
    map.kind = FP_MAP_ELEMENTS
    map.n_inputs = n_args
    map.n_dims = 1
    map.shape[0] = n
    map.out.first = <char *>values
    map.out.strides[0] = (n_args + 1) * sizeof(double)
    for i in range(n_args):
        map.inputs[i].first = <char *>(values + i + 1)
        map.inputs[i].strides[0] = map.out.strides[0]
    memset(&chunk, 0, sizeof(chunk))
    chunk.end = n
    with nogil:
        fp_map_run(<void *>&chunk, &map)
    if PyErr_Occurred():
        if not PyErr_ExceptionMatches(Exception):
            return -1  # KeyboardInterrupt above all, which would not come a second time
        PyErr_Clear()
        n = first_minus_1(values, n, n_args + 1)
    for i in range(n):
        batch.set_result(first + i, values[i * (n_args + 1)])
    return n


cdef Py_ssize_t first_minus_1(const double *values, Py_ssize_t n, Py_ssize_t step) noexcept:
    """The first task that may have raised: -1 is what Cython's functions return then. If none did, the first of all."""
    cdef Py_ssize_t i
    for i in range(n):
        if values[i * step] == -1:
            return i
    return 0


cdef Py_ssize_t run_tasks(Batch batch, Py_ssize_t first, Py_ssize_t n_most) except -1:
    """See threads.pxd. Kernels of doubles alone; the others' calls release the GIL one by one."""
    cdef Kernel kernel = batch.task(first)[0]
    cdef Py_ssize_t n_args = len(kernel.code) - 3 - kernel.code.endswith("P)")
    cdef Py_ssize_t n = min(n_most, batch.n - first)
    cdef double *values
    if kernel.code[0] != "d" or not 1 <= n_args <= 4 or kernel.code.count("d") != n_args + 1:
        return 0
    values = <double *>PyMem_RawMalloc(n * (n_args + 1) * sizeof(double))
    if values == NULL:
        return 0
    try:
        n = gather(batch, first, n, n_args, values)
        return run_gathered(batch, first, n, kernel, n_args, values) if n > 0 else 0
    finally:
        PyMem_RawFree(values)


threads.kernel_type = Kernel
threads.run_kernels = run_tasks
