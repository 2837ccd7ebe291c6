"""Compatibility table, part 3: backends as third parties write them, run unchanged on joblib and on fastpar.

Each is made by a function of the library, since its base class comes from there, and keeps a log of what is called.
"""

import contextlib
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from operator import neg

import pytest
from rows import Table, check, raised

table = Table()


# ------------------------------------------------------------------------------------------- the backends


def logging_backend(lib):
    """What the backends below share: a log of the calls that say when a call begins and ends."""

    class LoggingBackend(lib.parallel.ParallelBackendBase):
        def __init__(self, log=None, **options):
            super().__init__(**options)
            self.log = [] if log is None else log

        def effective_n_jobs(self, n_jobs):
            return 1 if n_jobs == 1 else 2

        def configure(self, n_jobs=1, parallel=None, prefer=None, require=None, **options):
            self.parallel = parallel
            self.log.append("configure")
            self.options = options
            self.open_pool()
            return self.effective_n_jobs(n_jobs)

        def start_call(self):
            self.log.append("start")

        def stop_call(self):
            self.log.append("stop")

        def terminate(self):
            self.log.append("terminate")
            self.close_pool()

        def abort_everything(self, ensure_ready=True):
            self.log.append(("abort", ensure_ready))

    return LoggingBackend


def callback_backend(lib):
    """Submits to an executor and takes results in the callback: the kind that joblib asks for since 1.3."""

    class CallbackBackend(logging_backend(lib)):
        supports_retrieve_callback = True

        def open_pool(self):
            self.pool = ThreadPoolExecutor(2)

        def close_pool(self):
            self.pool.shutdown()

        def submit(self, func, callback=None):
            future = self.pool.submit(func)
            future.add_done_callback(callback)
            return future

        def retrieve_result_callback(self, out):
            return out.result()

    return CallbackBackend


def pool_backend(lib):
    """The older kind: `apply_async`, whose handle has `get`. A task that raises is not reported by the callback."""

    class PoolBackend(logging_backend(lib)):
        def open_pool(self):
            self.pool = ThreadPool(2)

        def close_pool(self):
            self.pool.terminate()
            self.pool.join()

        def apply_async(self, func, callback=None):
            return self.pool.apply_async(func, callback=callback)

    return PoolBackend


def immediate_backend(lib):
    """Runs every batch at once in `submit`, and calls back before it returns: dask's and Spark's test doubles."""

    class Immediate:
        def __init__(self, func):
            self.results = func()

        def get(self, timeout=None):
            return self.results

    class ImmediateBackend(logging_backend(lib)):
        def open_pool(self):
            pass

        close_pool = open_pool

        def apply_async(self, func, callback=None):
            handle = Immediate(func)
            callback(handle)
            return handle

    return ImmediateBackend


def stoppable(lib, go):
    """The callback kind; abort_everything sets the event that its tasks wait for."""

    class Stoppable(callback_backend(lib)):
        def abort_everything(self, ensure_ready=True):
            super().abort_everything(ensure_ready)
            go.set()

    return Stoppable


KINDS = {"callback": callback_backend, "pool": pool_backend, "immediate": immediate_backend}
pytestmark = pytest.mark.filterwarnings("ignore:`apply_async` is deprecated:DeprecationWarning")


def negatives(lib, backend, n=6, **options):
    return lib.Parallel(n_jobs=2, backend=backend, **options)(lib.delayed(neg)(i) for i in range(n))


def each_kind(row):
    """The row for each kind of backend."""
    return lambda lib: {name: row(lib, make(lib)) for name, make in KINDS.items()}


def for_each_kind(value):
    return dict.fromkeys(KINDS, value)


# ------------------------------------------------------------------------------------------------- the rows


def add_for_each_kind(expected):
    def add(row):
        run = each_kind(row)
        run.__name__ = row.__name__
        return table.same(for_each_kind(expected))(run)

    return add


@add_for_each_kind([[0, -1, -2, -3, -4, -5]] * 5)
def results(lib, backend):
    forms = ({}, {"batch_size": 4}, {"pre_dispatch": "all"}, {"pre_dispatch": 1}, {"batch_size": 100})
    return [negatives(lib, backend(), **form) for form in forms]


@add_for_each_kind(["configure", "start", "stop", "terminate"])
def calls_of_the_backend(lib, backend):
    log = []
    negatives(lib, backend(log))
    return log


@add_for_each_kind(["configure", "start", "stop", "start", "stop", "terminate"])
def calls_of_the_backend_within_with(lib, backend):
    log = []
    with lib.Parallel(n_jobs=2, backend=backend(log)) as parallel:
        for _ in range(2):
            parallel(lib.delayed(neg)(i) for i in range(4))
    return log


def fail_at_1(i):
    return 1 // (i - 1)


@add_for_each_kind(("ZeroDivisionError", ["configure", "start", ("abort", False), "stop", "terminate"]))
def calls_of_the_backend_on_an_error(lib, backend):
    log = []
    error = raised(
        lambda: lib.Parallel(n_jobs=2, backend=backend(log))(lib.delayed(fail_at_1)(i) for i in range(4)),
        ZeroDivisionError,
    )
    return error, log


@add_for_each_kind(["configure", "start", ("abort", True), "stop", "start", "stop", "terminate"])
def calls_of_the_backend_on_an_error_within_with(lib, backend):
    log = []
    with lib.Parallel(n_jobs=2, backend=backend(log)) as parallel:
        raised(lambda: parallel(lib.delayed(fail_at_1)(i) for i in range(4)), ZeroDivisionError)
        parallel(lib.delayed(neg)(i) for i in range(2))
    return log


@add_for_each_kind("KeyError")
def error_of_the_iterable(lib, backend):
    def source():
        yield lib.delayed(neg)(1)
        raise KeyError("source")

    return raised(lambda: lib.Parallel(n_jobs=2, backend=backend())(source()), KeyError)


@add_for_each_kind((True, 2, {"shards": 3, "max_nbytes": 100}))
def what_configure_is_given(lib, backend):
    backend = backend()
    parallel = lib.Parallel(n_jobs=2, backend=backend, shards=3, max_nbytes=100)
    parallel(lib.delayed(neg)(i) for i in range(2))
    given = {name: backend.options[name] for name in ("shards", "max_nbytes")}
    return backend.parallel is parallel, backend.parallel.n_jobs, given


@add_for_each_kind(["start", "enter", "exit", "stop"])
def retrieval_context(lib, backend):
    class WithContext(backend):
        @contextlib.contextmanager
        def retrieval_context(self):
            self.log.append("enter")
            yield
            self.log.append("exit")

    log = []
    negatives(lib, WithContext(log))
    return log[1:-1]


@table.same(([0, -1, -2, -3, -4, -5], {0, -1, -2, -3, -4, -5}))
def generators(lib):
    backend = callback_backend(lib)
    ordered = list(negatives(lib, backend(), return_as="generator"))
    return ordered, set(negatives(lib, backend(), return_as="generator_unordered"))


@table.same("ValueError")
def generators_where_they_are_not_supported(lib):
    return raised(lambda: negatives(lib, pool_backend(lib)(), return_as="generator"), ValueError)


@table.same((0, ["configure", "start", ("abort", False), "stop", "terminate"]))
def generator_closed_early(lib):
    import warnings

    log, go = [], threading.Event()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joblib says how many results are lost
        parallel = lib.Parallel(n_jobs=2, backend=stoppable(lib, go)(log), batch_size=1, return_as="generator")
        results = parallel([lib.delayed(neg)(0), *(lib.delayed(go.wait)(10) for _ in range(9))])
        first = next(results)
        results.close()
    return first, log


@table.same(("TimeoutError", [("abort", False), "stop", "terminate"]))
def timeout(lib):
    import multiprocessing

    log, go = [], threading.Event()

    def run():
        lib.Parallel(n_jobs=2, backend=stoppable(lib, go)(log), timeout=0.03)(
            lib.delayed(go.wait)(10) for _ in range(2)
        )

    return raised(run, multiprocessing.TimeoutError), log[2:]


@table.same(([0, -1, -2, -3, -4, -5], "ThreadingBackend", ["configure"]))
def fall_back_to_another_backend(lib):
    class Picky(callback_backend(lib)):
        def configure(self, n_jobs=1, parallel=None, **options):
            self.log.append("configure")
            raise lib.parallel.FallbackToBackend(lib.parallel.ThreadingBackend(nesting_level=0))

    log = []
    parallel = lib.Parallel(n_jobs=2, backend=Picky(log))
    results = parallel(lib.delayed(neg)(i) for i in range(6))
    return results, type(parallel._backend).__name__, log


@table.same([2, 2, 2, 2])
def batch_sizes_of_the_backend(lib):
    class Sized(immediate_backend(lib)):
        def compute_batch_size(self):
            return 2

        def batch_completed(self, batch_size, duration):
            assert duration > 0
            self.log.append(batch_size)

    log = []
    parallel = lib.Parallel(n_jobs=2, backend=Sized(log), pre_dispatch="all")
    parallel(lib.delayed(neg)(i) for i in range(8))
    return sorted((entry for entry in log if isinstance(entry, int)), reverse=True)


@table.same((True, 1))
def auto_batching_mixin(lib):
    class Auto(lib.parallel.AutoBatchingMixin, immediate_backend(lib)):
        pass

    backend = Auto()
    backend.parallel = lib.Parallel(n_jobs=1)
    backend.compute_batch_size()
    for _ in range(3):
        backend.batch_completed(1, 1e-4)
    grown = backend.compute_batch_size() > 1
    backend.reset_batch_stats()
    return grown, backend.compute_batch_size()


@table.same(([0, -1, -2, -3, -4, -5], True, -1))
def registered_by_name(lib):
    backend = callback_backend(lib)
    lib.register_parallel_backend("third-party", backend)
    try:
        with lib.parallel_backend("third-party") as (active, n_jobs):
            results = lib.Parallel()(lib.delayed(neg)(i) for i in range(6))
    finally:
        del lib.parallel.BACKENDS["third-party"]
    return results, isinstance(active, backend), n_jobs


@table.same([3])
def parameters_of_the_constructor(lib):
    class Sharded(callback_backend(lib)):
        def __init__(self, shards=1, **options):
            super().__init__(**options)
            self.shards = shards

    lib.register_parallel_backend("sharded", Sharded)
    try:
        with lib.parallel_config("sharded", shards=3):
            return [lib.parallel.get_active_backend()[0].shards]
    finally:
        del lib.parallel.BACKENDS["sharded"]


@table.same([0, 10, "r", None, 2])
def what_a_strict_configure_is_given(lib):
    seen = []

    class Strict(callback_backend(lib)):
        def configure(self, n_jobs=1, parallel=None, prefer=None, require=None, *, verbose, mmap_mode, **options):
            seen.extend([verbose, mmap_mode, require, n_jobs])
            return super().configure(n_jobs, parallel, **options)

    lib.Parallel(n_jobs=2, backend=Strict())(lib.delayed(neg)(i) for i in range(2))
    with contextlib.redirect_stdout(io.StringIO()):
        lib.Parallel(n_jobs=2, backend=Strict(), verbose=60)(lib.delayed(neg)(i) for i in range(2))
    return [seen[0], seen[4], *seen[5:]]


@table.same(["one", "one"])
def nested_backend_of_the_backend(lib):
    class Nesting(callback_backend(lib)):
        def get_nested_backend(self):
            inner = lib.parallel.SequentialBackend(nesting_level=1)
            inner.mark = "one"
            return inner, None

    def look(_):
        return lib.parallel.get_active_backend()[0].mark

    return lib.Parallel(n_jobs=2, backend=Nesting())(lib.delayed(look)(i) for i in range(2))


@table.same(([-1], []))
def one_worker_runs_in_the_calling_thread(lib):
    log = []
    caller = threading.get_ident()
    backend = callback_backend(lib)(log)
    idents = lib.Parallel(n_jobs=1, backend=backend)([lib.delayed(threading.get_ident)()])
    backend.close_pool()
    return [neg(i == caller) for i in idents], [entry for entry in log if entry in ("start", "stop")]


@table.same(["TypeError"])
def backend_without_its_methods(lib):
    class Incomplete(lib.parallel.ParallelBackendBase):
        pass

    return [raised(Incomplete, TypeError)]


# -------------------------------------------------------------------------------------------- differences


@table.differs(
    joblib=(False, [False]),
    fastpar=(True, [False]),
    why="waking a worker takes longer than ten tiny tasks; thread-locals and locks of the caller's are the tasks' too",
)
def tiny_tasks_on_threads_may_run_in_the_calling_thread(lib):
    """In a list; never in a generator, or with a time limit."""
    caller = threading.get_ident()
    found = lib.Parallel(2, "threading")(lib.delayed(threading.get_ident)() for _ in range(5000))
    limited = lib.Parallel(2, "threading", timeout=100)(lib.delayed(threading.get_ident)() for _ in range(500))
    return caller in found, [caller in limited]


@table.differs(
    joblib="TypeError",
    fastpar=None,
    why="joblib's own documentation promises factories without arguments, and Spark's is one",
)
def factory_without_arguments(lib):
    backend = callback_backend(lib)

    def factory():
        return backend()

    lib.register_parallel_backend("bare", factory)
    try:
        return raised(lambda: lib.Parallel(n_jobs=2, backend="bare"), TypeError)
    finally:
        del lib.parallel.BACKENDS["bare"]


@table.differs(
    joblib=False,
    fastpar=True,
    why="sources may hold connections and thread-local state: they are read where Parallel was called",
)
def source_is_read_in_the_calling_thread(lib):
    readers = set()

    def source():
        for i in range(50):
            readers.add(threading.get_ident())
            yield lib.delayed(neg)(i)

    lib.Parallel(n_jobs=2, backend=callback_backend(lib)(), batch_size=1)(source())
    return readers == {threading.get_ident()}


@table.differs(
    joblib="RuntimeError",
    fastpar="BackendUnavailableError",
    why="one type for every backend that cannot be used here",
)
def backend_without_workers(lib):
    import fastpar.errors

    class Empty(immediate_backend(lib)):
        def effective_n_jobs(self, n_jobs):
            return 0

    return raised(lambda: negatives(lib, Empty()), RuntimeError, fastpar.errors.BackendUnavailableError)


@table.tests()
def test_backends(row, library, expected):
    check(row, library, expected)
