"""Limits on the threads of native libraries: with pools made for the test, then with real ones."""

import gc
import os
import subprocess
import sys
import threading
from importlib.util import find_spec

import numpy as np
import pytest

from fastpar.engines import _native_pools, inner_threads
from fastpar.engines._native_pools import Finder, Found, NativePool
from fastpar.engines.inner_threads import InnerLimit, Ledger, limit


class ProcessWide(NativePool):
    """A library with one number for the process; counts how often it is set."""

    def __init__(self, n_threads):
        self.n_threads = n_threads
        self.n_sets = 0
        super().__init__("process-wide", lambda: self.n_threads, self.change, per_thread=False)

    def change(self, n_threads):
        self.n_threads = n_threads
        self.n_sets += 1


class PerThread(NativePool):
    """A library that keeps a number for each thread, `default` in a new one."""

    def __init__(self, default):
        self.local = threading.local()
        super().__init__(
            "per thread",
            lambda: getattr(self.local, "n", default),
            lambda n: setattr(self.local, "n", n),
            per_thread=True,
        )


def in_thread(function):
    """Run `function` in a thread of its own and return its result; an error in there is one here."""
    outcome = []

    def run():
        try:
            outcome.append((True, function()))
        except Exception as error:
            outcome.append((False, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    ((worked, result),) = outcome
    if not worked:
        raise result
    return result


@pytest.fixture
def ledger():
    return Ledger()


def limiter(ledger, *pools):
    found = Found(
        tuple(pool for pool in pools if not pool.per_thread), tuple(pool for pool in pools if pool.per_thread)
    )
    return lambda n: InnerLimit(n, found, ledger)


class TestProcessWide:
    def test_lowered_and_restored(self, ledger):
        pool = ProcessWide(8)
        run = limiter(ledger, pool)(2)
        assert pool.n_threads == 2
        run.release()
        assert pool.n_threads == 8

    def test_never_raised(self, ledger):
        pool = ProcessWide(2)
        run = limiter(ledger, pool)(8)
        run.release()
        assert (pool.n_threads, pool.n_sets) == (2, 0)

    def test_the_tightest_of_several_runs_wins_in_any_order_of_ending(self, ledger):
        pool = ProcessWide(8)
        start = limiter(ledger, pool)
        first, second, third = start(4), start(1), start(2)
        assert pool.n_threads == 1
        second.release()
        assert pool.n_threads == 2
        first.release()
        assert pool.n_threads == 2
        third.release()
        assert pool.n_threads == 8

    def test_release_again_does_nothing(self, ledger):
        pool = ProcessWide(8)
        start = limiter(ledger, pool)
        first, second = start(4), start(2)
        first.release()
        first.release()
        assert pool.n_threads == 2
        second.release()
        second.release()
        assert (pool.n_threads, pool.n_sets) == (8, 3)

    def test_release_from_another_thread(self, ledger):
        pool = ProcessWide(8)
        run = limiter(ledger, pool)(1)
        in_thread(run.release)
        assert pool.n_threads == 8

    def test_what_others_set_meanwhile_stays(self, ledger):
        pool = ProcessWide(8)
        run = limiter(ledger, pool)(2)
        pool.change(5)
        run.release()
        assert pool.n_threads == 5

    def test_what_others_set_between_two_runs_comes_back(self, ledger):
        pool = ProcessWide(8)
        start = limiter(ledger, pool)
        first = start(2)
        pool.change(5)
        second = start(3)
        assert pool.n_threads == 2
        first.release()
        second.release()
        assert pool.n_threads == 5

    def test_a_pool_that_appears_during_another_run(self, ledger):
        old, new = ProcessWide(8), ProcessWide(8)
        first = limiter(ledger, old)(1)
        second = limiter(ledger, old, new)(4)
        assert (old.n_threads, new.n_threads) == (1, 1)
        first.release()
        assert (old.n_threads, new.n_threads) == (4, 4)
        second.release()
        assert (old.n_threads, new.n_threads) == (8, 8)

    def test_a_library_that_refuses_leaves_no_limit_behind(self, ledger):
        pool, refusing = ProcessWide(8), ProcessWide(8)
        refusing.set = None
        with pytest.raises(TypeError):
            limiter(ledger, pool, refusing)(1)
        assert pool.n_threads == 8
        run = limiter(ledger, pool)(2)
        assert pool.n_threads == 2
        run.release()
        assert pool.n_threads == 8

    def test_released_by_the_garbage_collector_while_the_lock_is_held(self, ledger):
        """A collection inside the locked part frees a generator, whose end releases its run: no deadlock."""
        pool = ProcessWide(8)
        start = limiter(ledger, pool)

        def abandoned():
            run = start(1)
            try:
                yield
            finally:
                run.release()

        generator = abandoned()
        next(generator)
        cycle = [generator]
        cycle.append(cycle)
        del generator, cycle  # 1: only a collection can end the generator now
        read = pool.get
        pool.get = lambda: (gc.collect(), read())[1]  # 2: and one happens whenever the lock is held
        run = start(4)
        assert pool.n_threads == 4  # 3: the thread that held the lock did the release
        run.release()
        assert pool.n_threads == 8

    def test_released_while_another_thread_holds_the_lock(self, ledger):
        pool = ProcessWide(8)
        start = limiter(ledger, pool)
        first = start(1)
        read = pool.get

        def get():
            pool.get = read  # once
            in_thread(first.release)  # returns at once, though the lock is held here
            return read()

        pool.get = get
        second = start(4)
        assert pool.n_threads == 4
        second.release()
        assert pool.n_threads == 8

    def test_many_threads(self, ledger):
        pool = ProcessWide(64)
        start = limiter(ledger, pool)
        begin = threading.Barrier(4)

        def runs(seed):
            begin.wait()
            for step in range(50):
                run = start(1 + (seed + step) % 7)
                assert pool.n_threads <= 7
                run.release()

        threads = [threading.Thread(target=in_thread, args=[lambda i=i: runs(i)]) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert pool.n_threads == 64
        assert not ledger._runs
        assert not ledger._released

    def test_a_forked_child_starts_without_runs(self, ledger):
        pool = ProcessWide(8)
        start = limiter(ledger, pool)
        start(1)
        ledger._lock.acquire()  # as a thread of the parent might have held it
        ledger.forget()
        run = start(4)
        assert pool.n_threads == 4
        run.release()
        assert pool.n_threads == 8


class TestPerThread:
    def test_only_threads_that_enter_are_limited(self, ledger):
        pool = PerThread(8)
        run = limiter(ledger, pool)(2)

        def worker():
            before = pool.get()
            run.enter_worker()
            return before, pool.get()

        assert in_thread(worker) == (8, 2)
        assert pool.get() == 8

    def test_the_next_run_sets_what_it_needs(self, ledger):
        pool = PerThread(8)
        start = limiter(ledger, pool)
        runs = [start(1), start(4), start(100)]

        def worker():
            numbers = []
            for run in runs:
                run.enter_worker()
                numbers.append(pool.get())
            return numbers

        assert in_thread(worker) == [1, 4, 8]

    def test_a_limit_around_the_call_holds_in_its_tasks(self, ledger):
        pool = PerThread(8)

        def caller():
            pool.set(3)
            run = limiter(ledger, pool)(4)
            return in_thread(lambda: (run.enter_worker(), pool.get())[1])

        assert in_thread(caller) == 3

    def test_entering_again_sets_nothing(self, ledger):
        pool = PerThread(8)
        run = limiter(ledger, pool)(2)
        run.enter_worker()
        pool.set = None
        run.enter_worker()


class TestFinder:
    def test_nothing_with_threads_is_loaded(self, monkeypatch):
        monkeypatch.setattr(_native_pools, "loaded_libraries", frozenset)
        monkeypatch.setitem(sys.modules, "threadpoolctl", None)  # importing it would fail
        assert Finder().find() == Found((), ())

    def test_looks_again_only_after_an_import_or_a_while(self, monkeypatch):
        looks = []
        now = 100.0
        monkeypatch.setattr(_native_pools, "monotonic", lambda: now)
        monkeypatch.setattr(_native_pools, "loaded_libraries", lambda: looks.append(now) or frozenset())
        finder = Finder()
        finder.find()
        finder.find()
        assert len(looks) == 1
        monkeypatch.setitem(sys.modules, "fastpar_test_of_an_import", None)
        finder.find()
        finder.find()
        assert len(looks) == 2
        now += _native_pools.KEEP_S
        finder.find()
        finder.find()
        assert len(looks) == 3

    def test_a_pool_stays_the_same_object(self):
        finder = Finder()
        before = finder.find()
        assert before.process_wide or before.per_thread  # NumPy is loaded
        finder._expires = 0.0
        finder._libraries = None
        assert finder.find() == before

    def test_systems_that_do_not_list_their_mappings(self, monkeypatch):
        monkeypatch.setattr(_native_pools, "loaded_libraries", lambda: None)
        assert Finder().find() != Found((), ())

    def test_numba_counts_once_it_has_started_its_threads(self, monkeypatch):
        module = type(sys)("numba")
        module.get_num_threads, module.set_num_threads = (lambda: 4), (lambda n: None)
        monkeypatch.setitem(sys.modules, "numba", module)
        finder = Finder()
        assert "numba" not in [pool.name for pool in finder.find().per_thread]
        monkeypatch.setitem(sys.modules, _native_pools.NUMBA_LAYERS[0], module)
        assert "numba" in [pool.name for pool in finder.find().per_thread]

    def test_our_names_cover_those_of_threadpoolctl(self):
        threadpoolctl = pytest.importorskip("threadpoolctl")
        known = tuple(name.decode().lstrip("/") for name in _native_pools.NAMES)
        on_windows = ("vcomp", "mkl_rt", "openblas")
        for controller in threadpoolctl.LibController.__subclasses__():
            for prefix in controller.filename_prefixes:
                assert prefix.startswith((*known, *on_windows))

    def test_paths(self):
        maps = b"7f00 r-xp 00 0:1 12 /a/libgomp-1.so\n7f01 r--p 00 0:1 12 /a/libgomp-1.so\n7f02 /b/libm.so\n"
        assert set(_native_pools._paths_with(b"/libgomp", maps)) == {b" /a/libgomp-1.so"}


class FakeLibrary:
    """What threadpoolctl says of a library, with functions of the given names."""

    def __init__(self, internal_api, *names, prefix="lib", threading_layer="pthreads"):
        self.internal_api = internal_api
        self.prefix = prefix
        self.threading_layer = threading_layer
        self.filepath = "/lib.so"
        self.dynlib = type("Library", (), dict.fromkeys(names, lambda *n: names))()
        self.get_num_threads = self.set_num_threads = lambda *n: "threadpoolctl"


@pytest.mark.parametrize(
    ("library", "per_thread", "own"),
    [
        (FakeLibrary("openblas", "openblas_get_num_threads", "openblas_set_num_threads"), False, True),
        (FakeLibrary("openblas", "openblas_get_num_threads64_", "openblas_set_num_threads64_"), False, True),
        (FakeLibrary("openblas", "oddly_named"), False, False),
        (
            FakeLibrary("openblas", "omp_get_max_threads", "omp_set_num_threads", threading_layer="openmp"),
            True,
            True,
        ),
        (FakeLibrary("openmp", "omp_get_max_threads", "omp_set_num_threads"), True, True),
        (FakeLibrary("openmp", "omp_get_max_threads", "omp_set_num_threads", prefix="vcomp"), False, True),
        (FakeLibrary("mkl", "MKL_Get_Max_Threads", "MKL_Set_Num_Threads_Local"), True, True),
        (FakeLibrary("mkl", "MKL_Get_Max_Threads", "MKL_Set_Num_Threads"), False, False),
        (FakeLibrary("blis", "bli_thread_get_num_threads", "bli_thread_set_num_threads"), False, True),
        (FakeLibrary("registered by somebody"), False, False),
    ],
)
def test_bind(library, per_thread, own):
    pool = _native_pools._bind(library)
    assert pool.per_thread is per_thread
    assert (pool.get() != "threadpoolctl") is own
    assert (pool.set(1) != "threadpoolctl") is own


#: A program of its own: scikit-learn leaves threads behind.
SCIKIT_LEARN = """
import threading
import sklearn.cluster
from sklearn.utils._openmp_helpers import _openmp_effective_n_threads as n_openmp_threads
from threadpoolctl import ThreadpoolController
from fastpar.engines.inner_threads import limit

libraries = ThreadpoolController().select(user_api="blas").lib_controllers
before = [library.num_threads for library in libraries]
default = n_openmp_threads()
seen = []

def worker():
    seen.append(n_openmp_threads())
    run.enter_worker()
    seen.extend([n_openmp_threads(), *(library.num_threads for library in libraries)])

run = limit(1)
thread = threading.Thread(target=worker)
thread.start()
thread.join()
assert seen == [default, 1] + [1] * len(libraries), seen
assert n_openmp_threads() == default
run.release()
assert [library.num_threads for library in libraries] == before
print("held and came back")
"""


def openblas_of_numpy():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    blas = threadpoolctl.ThreadpoolController().select(user_api="blas")
    if not any(library.num_threads > 1 for library in blas.lib_controllers):
        pytest.skip("NumPy's BLAS has one thread here")
    return blas.lib_controllers


class TestRealLibraries:
    def test_numpy(self):
        libraries = openblas_of_numpy()
        before = [library.num_threads for library in libraries]
        run = limit(1)
        try:
            assert in_thread(lambda: [library.num_threads for library in libraries]) == [1] * len(before)
        finally:
            run.release()
        assert [library.num_threads for library in libraries] == before

    def test_threadpoolctl_in_another_thread_does_not_stop_us(self):
        """Since 3.8 a thread that has set OpenBLAS keeps others from setting it through threadpoolctl."""
        libraries = openblas_of_numpy()
        before = [library.num_threads for library in libraries]
        leave, entered = threading.Event(), threading.Event()

        def owner():
            for library in libraries:
                library.set_num_threads(library.num_threads)
            entered.set()
            leave.wait()

        thread = threading.Thread(target=owner)
        thread.start()
        entered.wait()
        run = limit(1)
        inside = [library.num_threads for library in libraries]
        run.release()
        leave.set()
        thread.join()
        assert inside == [1] * len(before)
        assert [library.num_threads for library in libraries] == before

    @pytest.mark.slow
    def test_scikit_learn(self, python):
        """Its libgomp keeps a number for each thread, and SciPy brings a second OpenBLAS."""
        if find_spec("sklearn") is None:  # importing it here would leave its threads here
            pytest.skip("scikit-learn is not installed")
        assert python.out(SCIKIT_LEARN) == "held and came back\n"

    @pytest.mark.skipif(sys.platform == "win32", reason="no fork")
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork with threads: what is tested
    def test_fork_during_a_run(self):
        run = limit(1)
        child = os.fork()
        if child == 0:
            inner_threads.limit(1).release()
            os._exit(3 if inner_threads._ledger._runs else 0)
        run.release()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    def test_numpy_computes_the_same(self):
        matrix = np.arange(100.0).reshape(10, 10)
        expected = matrix @ matrix
        run = limit(1)
        try:
            assert (in_thread(lambda: matrix @ matrix) == expected).all()
        finally:
            run.release()


def test_a_program_without_native_threads_does_not_pay():
    probe = (
        "import sys; from fastpar.engines.inner_threads import limit; limit(1).release(); "
        "print('threadpoolctl' in sys.modules, 'ctypes' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]
