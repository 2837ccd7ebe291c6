"""Calls on worker processes: results, arrays, leases, settings, life cycle."""

import copy
import functools
import gc
import importlib
import logging
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import types
import warnings
from functools import partial
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from waiting import is_gone, wait_until

import fastpar
from fastpar import Parallel, cpu, delayed
from fastpar.engines.processes import packing, protocol
from fastpar.engines.processes.engine import POOL


def parallel(n_jobs=2, **options):
    return Parallel(n_jobs, "processes", **options)


def square(x):
    return x * x


def test_the_calling_thread_sleeps_while_tasks_take_their_time():
    parallel()(delayed(abs)(i) for i in range(4))
    before = time.thread_time()
    parallel(4)(delayed(time.sleep)(0.2) for _ in range(4))  # fewer CPUs than workers or more: some may be idle
    parallel()(delayed(time.sleep)(0.2) for _ in range(1))
    assert time.thread_time() - before < 0.1


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 1_000])
@pytest.mark.parametrize("batch_size", ["auto", 1, 7])
def test_results_are_those_of_the_serial_loop(n, batch_size):
    assert parallel(batch_size=batch_size)(delayed(square)(i) for i in range(n)) == [i * i for i in range(n)]


def test_lambdas_closures_methods_and_mixed_tasks():
    offset = 3
    tasks = [delayed(lambda x: x + offset)(1), delayed(str.upper)("a"), delayed(dict)(a=1), delayed([3, 1].index)(1)]
    assert parallel()(tasks) == [4, "A", {"a": 1}, 1]


def test_generators_ordered_and_not():
    assert list(parallel(return_as="generator")(delayed(square)(i) for i in range(50))) == [i * i for i in range(50)]
    found = parallel(return_as="generator_unordered")(delayed(square)(i) for i in range(50))
    assert sorted(found) == [i * i for i in range(50)]


def test_a_generator_that_is_closed_early_cancels():
    results = parallel(return_as="generator")(delayed(time.sleep)(30) for _ in range(4))
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 5
    assert parallel()([delayed(square)(2), delayed(square)(3)]) == [4, 9]


@pytest.mark.parametrize("method", ["nursery", "spawn", "fork"])
@pytest.mark.parametrize("program", ["-c", "stdin", "script", "module", "package", "zip"])
def test_no_main_guard_is_needed(python, program, method):
    code = (
        "from fastpar import Parallel, delayed\ndef f(x): return x + 1\n"
        f"print(Parallel(2, 'processes', start_method={method!r})(delayed(f)(x) for x in range(3)))\n"
    )
    (python.directory / "prog.py").write_text(code)
    if program == "zip":
        import zipfile

        with zipfile.ZipFile(python.directory / "app.zip", "w") as file:
            file.writestr("__main__.py", code.replace("def f(x): return x + 1", "from inside import f"))
            file.writestr("inside.py", "def f(x): return x + 1\n")
    if program == "package":
        (python.directory / "app").mkdir()
        (python.directory / "app" / "__init__.py").write_text("")
        (python.directory / "app" / "__main__.py").write_text(code)
    arguments = {"-c": ["-c", code], "stdin": ["-"], "script": ["prog.py"], "module": ["-m", "prog"]}
    arguments |= {"package": ["-m", "app"], "zip": ["app.zip"]}
    done = python.run(*arguments[program], stdin=code if program == "stdin" else None)
    assert (done.stdout, done.stderr) == ("[1, 2, 3]\n", "")


def test_a_module_that_calls_parallel_when_imported_is_no_process_bomb(python):
    (python.directory / "bomb.py").write_text(
        "from fastpar import Parallel, delayed\ndef f(x): return x\n"
        "print(Parallel(2, 'processes')(delayed(f)(x) for x in range(3)))\n"
    )
    done = python.run("-c", "import bomb")
    assert done.returncode == 1
    assert "if __name__ ==" in done.stderr


# ---- arrays


def look(array, i):
    return type(array).__name__, bool(array.flags.writeable), array.dtype.str, float(array.reshape(-1)[i])


@pytest.mark.parametrize("mode", ["r", "r+", "c", "w+", None])
def test_large_arguments_are_memory_mapped(mode):
    array = np.arange(200_000.0)
    found = parallel(max_nbytes=1_000, mmap_mode=mode)(delayed(look)(array, i) for i in range(5))
    kind = "ndarray" if mode is None else "memmap"
    assert found == [(kind, mode != "r", "<f8", float(i)) for i in range(5)]


def write_first(array):
    array[0] = -1
    return array[0]


def test_a_private_copy_is_each_tasks_own():
    array = np.arange(200_000.0)
    assert parallel(mmap_mode="c", max_nbytes=1)(delayed(write_first)(array) for _ in range(4)) == [-1] * 4
    assert array[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        parallel(max_nbytes=1)(delayed(write_first)(array) for _ in range(4))


def test_an_array_changed_between_calls_arrives_changed():
    array = np.zeros(300_000)
    with parallel() as calls:
        for value in range(4):
            array[:] = value
            assert set(calls(delayed(np.sum)(array) for _ in range(3))) == {300_000.0 * value}


def total(*arrays):
    return [float(np.sum(array)) for array in arrays]


def test_arrays_inside_containers_and_views_of_every_kind():
    base = np.arange(1_200_000.0).reshape(1_000, 1_200)
    views = [base, base.T, base[::2, ::3], base[::-1], np.asfortranarray(base), base[5:], base.astype(">f8")]
    expected = [float(view.sum()) for view in views]
    for nbytes in (1, 1_000_000, None):
        found = parallel(max_nbytes=nbytes)([delayed(total)(*views), delayed(lambda d: total(*d["x"]))({"x": views})])
        assert found == [expected, expected]


def test_results_are_writable_and_no_copies():
    results = parallel()(delayed(np.full)(300_000, float(i)) for i in range(6))
    for i, result in enumerate(results):
        assert result.flags.writeable
        assert (result == i).all()
        result[:] = -1
    again = parallel()(delayed(np.full)(300_000, float(i)) for i in range(6))
    assert all((result == i).all() for i, result in enumerate(again))
    assert all((result == -1).all() for result in results)


def test_memory_mapped_files_pass_by_name(tmp_path):
    file = np.memmap(tmp_path / "a", np.float64, "w+", shape=(100, 50))
    file[:] = np.arange(5_000.0).reshape(100, 50)
    file.flush()

    def where(array):
        return array.filename, float(array.sum())

    part = file[10:20]
    assert parallel()([delayed(where)(part)] * 2) == [(str(tmp_path / "a"), float(part.sum()))] * 2


def test_results_of_many_kinds():
    values = [None, 1, "a", b"b" * 100_000, bytearray(200_000), [np.zeros(3), {"a": np.arange(70_000)}],
              np.array(["x", None], object),
              np.zeros((0, 3)), np.array(5), np.zeros(3, [("a", "i4"), ("b", "f8")]), np.float32(2.5)]
    found = parallel()(delayed(lambda v: v)(value) for value in values)
    for got, wanted in zip(found, values, strict=True):
        np.testing.assert_equal(got, wanted)


def test_one_closure_is_sent_once_a_worker():
    ballast = [float(i) for i in range(100_000)]

    def pick(i):
        return ballast[i]

    assert parallel(batch_size=1)(delayed(pick)(i) for i in range(300)) == ballast[:300]


# ---- one batch ahead


def wait_for(path):
    wait_until(path.exists)


def test_what_waits_behind_a_long_task_is_taken_by_a_worker_that_has_nothing(tmp_path):
    paths = [tmp_path / str(i) for i in range(12)]
    touches = [delayed(Path.touch)(path) for path in paths]
    tasks = [delayed(wait_for)(paths[-1]), delayed(abs)(-1), *touches]  # the first ends when the last has begun
    assert parallel(batch_size=1)(tasks) == [None, 1, *[None] * 12]
    assert parallel(batch_size=1)(touches) == [None] * 12  # who was robbed of a batch knows its function all the same


def test_tasks_behind_one_that_kills_its_worker_are_not_blamed():
    def kill_if(i):
        if i % 10 == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return i

    found = parallel(batch_size=1, on_error="return")(delayed(kill_if)(i) for i in range(50))
    assert [i for i, result in enumerate(found) if result != i] == [3, 13, 23, 33, 43]


def test_a_call_that_ends_leaves_nothing_of_its_batches_to_the_next():
    with pytest.raises(ZeroDivisionError):
        parallel(batch_size=1)(delayed(divmod)(1, i) for i in range(20))
    results = parallel(batch_size=1, return_as="generator")(delayed(square)(i) for i in range(100))
    assert next(results) == 0
    results.close()
    assert parallel(batch_size=1)(delayed(square)(i) for i in range(20)) == [i * i for i in range(20)]


# ---- leases


def test_calls_in_several_threads_have_workers_of_their_own():
    found = {}
    barrier = threading.Barrier(3)

    def call(name):
        barrier.wait()
        for _ in range(5):
            found[name] = parallel()(delayed(square)(i) for i in range(200)) == [i * i for i in range(200)]

    threads = [threading.Thread(target=call, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {0: True, 1: True, 2: True}


def test_workers_outlive_calls():
    first = set(parallel(batch_size=1)(delayed(os.getpid)() for _ in range(8)))
    second = set(parallel(batch_size=1)(delayed(os.getpid)() for _ in range(8)))
    assert first & second
    assert len(set(parallel(4, batch_size=1)(delayed(slow_pid)() for _ in range(16)))) == 4


def slow_pid():
    time.sleep(0.01)
    return os.getpid()


def test_workers_end_when_they_have_been_idle():
    (pid,) = set(parallel(idle_worker_timeout=0.05)([delayed(os.getpid)()]))
    wait_until(lambda: is_gone(pid))
    assert parallel(idle_worker_timeout=0.05)([delayed(square)(3)]) == [9]


def test_workers_that_have_served_enough_are_replaced():
    pids = parallel(max_tasks_per_worker=2, batch_size=1)(delayed(os.getpid)() for _ in range(12))
    assert len(set(pids)) >= 6


@pytest.mark.parametrize("method", ["spawn", "fork", "nursery"])
def test_start_methods(method):
    state = ["set in the parent"]
    assert parallel(start_method=method)(delayed(square)(i) for i in range(5)) == [0, 1, 4, 9, 16]
    assert parallel(start_method=method)([delayed(len)(state)]) == [1]


@pytest.mark.parametrize("method", ["spawn", "fork", "nursery"])
def test_workers_are_interpreters_like_the_callers(python, method):
    code = f"""
import sys
from fastpar import Parallel, delayed
print(Parallel(2, start_method={method!r})([delayed(lambda: (sys.flags.optimize, sys.flags.no_user_site))()]))
"""
    done = python.run("-O", "-s", "-c", code)
    assert (done.stdout, done.stderr) == ("[(1, 1)]\n", "")


def test_workers_start_where_few_descriptors_are_left(python):
    code = """
import os, resource
from fastpar import Parallel, delayed
taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(30)]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
print(Parallel(2)(delayed(abs)(-x) for x in range(3)))
"""
    assert python.out(code) == "[0, 1, 2]\n"


def test_an_initializer_runs_once_in_each_worker(tmp_path):
    def begin(folder):
        (folder / str(os.getpid())).touch(exist_ok=False)

    pids = parallel(initializer=begin, initargs=(tmp_path,), batch_size=1)(delayed(os.getpid)() for _ in range(8))
    assert {int(path.name) for path in tmp_path.iterdir()} >= set(pids)


def test_an_initializer_that_fails_fails_the_call():
    def begin():
        raise RuntimeError("not today")

    for on_error in ("raise", "return"):
        with pytest.raises(RuntimeError, match="not today") as info:
            parallel(initializer=begin, on_error=on_error, retries=1)([delayed(square)(1), delayed(square)(2)])
        note = "in the initializer of a worker process: test_an_initializer_that_fails_fails_the_call.<locals>.begin()"
        assert info.value.__notes__ == [note]


def test_an_initializer_that_failed_is_tried_again_in_the_next_call(tmp_path):
    def begin():
        if not (tmp_path / "ready").exists():
            raise RuntimeError("not yet")

    call = parallel(initializer=begin)
    with pytest.raises(RuntimeError, match="not yet"):
        call([delayed(square)(1)] * 2)
    (tmp_path / "ready").touch()
    assert call([delayed(square)(3)] * 2) == [9, 9]


SCRIPT = """
import dataclasses, functools, multiprocessing, sys
from fastpar import Parallel, delayed

class Slotted:
    __slots__ = ("value",)
    def __init__(self, value):
        self.value = value

@dataclasses.dataclass(slots=True)
class Point:
    x: int

class Derived(Slotted):
    __slots__ = "more"

def make(i):
    derived = Derived(i)
    derived.more = 2 * i
    return Slotted(i), Point(i), derived

def misspell(slotted):
    try:
        slotted.vlaue = 1
    except AttributeError:
        return "refused"

@functools.lru_cache(maxsize=None)
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

def calls_it(n):
    return fib(n), fib.cache_info().hits > 0, fib.cache_parameters()["maxsize"], fib.__name__

def square(x):
    return x * x

def argv():
    return sys.argv

def child():
    print(Parallel(2)(delayed(square)(i) for i in range(3)))

if __name__ == "__main__":
    for slotted, point, derived in Parallel(2)(delayed(make)(i) for i in range(2)):
        assert type(slotted) is Slotted and type(point) is Point and type(derived) is Derived
        print(slotted.value, point, derived.value, derived.more)
    print(Parallel(2)([delayed(misspell)(Slotted(1))] * 2))
    print(Parallel(2)(delayed(fib)(i) for i in (10, 80)), Parallel(2)([delayed(calls_it)(20)] * 2)[0])
    assert Parallel(2)([delayed(argv)()] * 2) == [sys.argv] * 2
    for method in ("spawn", "forkserver"):
        process = multiprocessing.get_context(method).Process(target=child)
        process.start()
        process.join()
"""


def test_what_scripts_define(python, tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    done = python.run(str(path), "--alpha", "3")
    assert done.stderr == ""
    assert done.stdout == (
        "0 Point(x=0) 0 0\n1 Point(x=1) 1 2\n['refused', 'refused']\n"
        "[55, 23416728348467685] (6765, True, None, 'fib')\n[0, 1, 4]\n[0, 1, 4]\n"
    )


CLASSES = """
import abc, collections, dataclasses, enum, functools, typing, weakref
from fastpar import Parallel, delayed

class Row(typing.NamedTuple):
    x: int
    y: str = "y"
    def double(self):
        return self._replace(x=2 * self.x)
    @property
    def next(self):
        return self.x + 1

class SubRow(Row):
    __slots__ = ()

if hasattr(typing, "Self"):  # Python 3.11, which lets named tuples be generic
    T = typing.TypeVar("T")
    class GenericRow(typing.NamedTuple, typing.Generic[T]):
        x: T
    assert GenericRow[int](1) == (1,)
else:
    GenericRow = Row

Old = collections.namedtuple("Old", "a b", defaults=[2])

class Mixin:
    __slots__ = ()
    def five(self):
        return 5

class Color(Mixin, enum.Enum):
    RED = 1

class Flags(Mixin, enum.Flag):
    A = 1
    B = 2

@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    x: int = 1

class Abstract(abc.ABC):
    __slots__ = ("x", "__weakref__")
    @property
    @abc.abstractmethod
    def value(self): ...

class Concrete(Abstract):
    __slots__ = ("__value",)
    @property
    def value(self):
        return self.__value
    @value.setter
    def value(self, value):
        self.__value = value

class Lazy:
    @functools.cached_property
    def value(self):
        "Three."
        return 3

class Outer:
    class Inner(typing.NamedTuple):
        z: int = 1

def make():
    concrete, lazy = Concrete(), Lazy()
    concrete.value, concrete.x = 1, 2
    weakref.ref(concrete)
    assert lazy.value == 3 and vars(lazy) == {"value": 3} and Lazy.value.__doc__ == "Three."
    assert Row(2).double() == (4, "y") and Row(2).next == 3 and Row._field_defaults == {"y": "y"}
    assert Row.__annotations__ == {"x": int, "y": str} and repr(Row(1)) == "Row(x=1, y='y')"
    values = [Row(1), SubRow(1), GenericRow(1), Old(1), Color.RED, Flags.A | Flags.B, Frozen(3), concrete, lazy]
    values.append(Outer.Inner())
    dicts = [type(value).__name__ for value in values if hasattr(value, "__dict__")]
    return values, dicts, Color.RED.five()

here = make()
there, = Parallel(1, "processes", task_timeout=60)([delayed(make)()])
assert [type(value) for value in there[0]] == [type(value) for value in here[0]]
assert there[0][:7] == here[0][:7] and there[0][7].value == 1 and there[0][9] == Outer.Inner()
assert there[1:] == here[1:] == (["Color", "Flags", "Lazy"], 5), there
"""


def test_classes_that_scripts_define(python):
    done = python.run("-c", CLASSES)
    assert done.stderr == ""
    assert done.returncode == 0


def test_caches_of_local_functions():
    step = 5

    @functools.lru_cache(maxsize=1)
    def local(x):
        return x + step

    for cached in (local, functools.lru_cache(partial(pow, 2))):
        assert parallel()(delayed(cached)(i) for i in range(3)) == [cached(i) for i in range(3)]


@pytest.fixture
def by_value(tmp_path, monkeypatch):
    """A package with a module, changed since it was imported, and a module that no file has; not registered yet."""
    (tmp_path / "edited").mkdir()
    (tmp_path / "edited" / "__init__.py").touch()
    (tmp_path / "edited" / "part.py").write_text(
        "import functools\n\nSCALE = 1\n\n\ndef scale(x):\n    return x * SCALE\n\n\n"
        "@functools.lru_cache\ndef cached(x):\n    return x * SCALE\n\n\n"
        "class Scaler:\n    def __call__(self, x):\n        return x * SCALE\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    part = importlib.import_module("edited.part")
    part.SCALE = 10
    generated = types.ModuleType("generated")
    exec("def increase(x):\n    return x + 1", generated.__dict__)
    monkeypatch.setitem(sys.modules, "generated", generated)
    registered = [sys.modules["edited"], generated]
    yield registered, part, generated
    for module in registered:
        if module.__name__ in cloudpickle.list_registry_pickle_by_value():
            cloudpickle.unregister_pickle_by_value(module)
    for name in ("edited", "edited.part"):
        del sys.modules[name]


def test_modules_that_cloudpickle_sends_by_value(by_value):
    modules, part, generated = by_value
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    for function in (part.scale, part.cached, part.Scaler(), part.Scaler().__call__, partial(part.scale)):
        assert parallel()(delayed(function)(i) for i in range(3)) == [0, 10, 20]
        assert parallel()(delayed(map_it)(function, i) for i in range(3)) == [[0], [10], [20]]
    assert parallel()(delayed(generated.increase)(i) for i in range(3)) == [1, 2, 3]
    (scaler,) = set(map(type, parallel()([delayed(copy.copy)(part.Scaler())] * 2)))
    assert scaler is part.Scaler


def test_modules_go_by_name_again_when_cloudpickle_has_been_told_so(by_value):
    (edited, _), part, _ = by_value
    assert parallel()([delayed(part.scale)(1)] * 2) == [1, 1]
    cloudpickle.register_pickle_by_value(edited)
    assert parallel()([delayed(part.scale)(1)] * 2) == [10, 10]
    cloudpickle.unregister_pickle_by_value(edited)
    assert parallel()([delayed(part.scale)(1)] * 2) == [1, 1]


def map_it(function, x):
    return [function(x)]


def test_one_worker_process_where_a_task_may_have_to_be_killed():
    pids = Parallel(1, "processes", task_timeout=60)(delayed(os.getpid)() for _ in range(3))
    assert len(set(pids)) == 1
    assert pids[0] != os.getpid()
    with pytest.raises(TimeoutError, match="task_timeout"):
        Parallel(1, "processes", task_timeout=0.1)([delayed(time.sleep)(60)])


# ---- sources


def touch(path):
    path.touch()
    return path.name


@pytest.mark.parametrize("return_as", ["list", "generator", "generator_unordered"])
@pytest.mark.parametrize("options", [{"pre_dispatch": "all"}, {"pre_dispatch": "all", "batch_size": 1}, {}])
def test_tasks_begin_while_a_slow_source_is_read(tmp_path, return_as, options):
    def source():
        for i in range(40):
            if i == 20:
                wait_until((tmp_path / "0").exists, 10)
            time.sleep(0.001)
            yield delayed(touch)(tmp_path / str(i))

    parallel()(delayed(touch)(tmp_path / "x") for _ in range(100))  # its tasks are known to be tiny
    assert set(parallel(return_as=return_as, **options)(source())) == set(map(str, range(40)))


def talk_and_touch(path):
    for _ in range(5):
        logging.getLogger("a task").error("something")
    return touch(path)


@pytest.mark.parametrize("task", [touch, talk_and_touch])
def test_a_time_limit_is_not_for_the_source(tmp_path, task):
    """What came while the source was read is looked at before anybody complains that it has not come."""

    def source():
        for i in range(4):
            if i:
                wait_until((tmp_path / str(i - 1)).exists, 10)
            time.sleep(0.3)
            yield delayed(task)(tmp_path / str(i))

    parallel()([delayed(touch)(tmp_path / "x")] * 2)  # workers are there
    assert parallel(timeout=0.25)(source()) == ["0", "1", "2", "3"]


def meet(folder, i, n):
    (folder / str(i)).touch()
    wait_until(lambda: len(list(folder.iterdir())) >= n, 10)
    return i


@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
def test_tasks_expected_to_be_tiny_do_not_all_go_to_one_worker(tmp_path, return_as):
    (tmp_path / "0").touch()
    parallel()(delayed(meet)(tmp_path, 0, 1) for _ in range(200))
    assert sorted(parallel(4, return_as=return_as)(delayed(meet)(tmp_path, i, 4) for i in range(4))) == [0, 1, 2, 3]


# ---- forks within tasks


def fork(end):
    """Fork, and let the child go on to the end of the task; its status."""
    pid = os.fork()
    if pid == 0:
        return end()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def leave(status):
    raise SystemExit(status)


def bye():
    os._exit(4)


def fail():
    sys.excepthook = lambda *args: None
    raise ValueError


@pytest.mark.parametrize(
    ("end", "status"),
    [(int, 0), (fail, 1), (partial(leave, 3), 3), (partial(leave, ""), 1), (partial(leave, None), 0), (bye, 4)],
)
@pytest.mark.parametrize("batch_size", [1, 10])
@pytest.mark.parametrize("options", [{}, {"retries": 2, "on_error": "return"}])
def test_a_child_of_a_task_ends_where_the_task_does(end, status, batch_size, options):
    assert parallel(batch_size=batch_size, **options)(delayed(fork)(end) for _ in range(6)) == [status] * 6


def answer_unasked():
    frame = sys._getframe()
    while "channel" not in frame.f_locals:
        frame = frame.f_back
    body = pickle.dumps((["the results of nothing"], None))
    frame.f_locals["channel"].send(protocol.RESULTS, (999, 1, 0, 0, protocol.DONE, 0), body, may_wait=True)


def test_an_answer_that_nobody_asked_for_is_not_taken():
    assert parallel()(delayed(answer_unasked)() for _ in range(5)) == [None] * 5


# ---- life cycle


def test_shutdown_ends_what_no_call_is_using():
    first = set(parallel()(delayed(os.getpid)() for _ in range(4)))
    results = parallel(return_as="generator", batch_size=1, pre_dispatch=2)(delayed(square)(i) for i in range(20))
    assert next(results) == 0
    busy = set(POOL._all)
    parallel()(delayed(square)(i) for i in range(4))  # by workers of its own
    fastpar.shutdown()
    assert set(POOL._all) == busy, "those of the call that is under way stay with it"
    assert list(results) == [i * i for i in range(1, 20)]
    fastpar.shutdown()
    assert not POOL._all
    wait_until(lambda: all(is_gone(pid) for pid in first))
    again = set(parallel()(delayed(os.getpid)() for _ in range(4)))
    assert again.isdisjoint(first)


def test_a_forked_child_has_workers_of_its_own():
    parallel()([delayed(square)(2)] * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        right = parallel()(delayed(square)(i) for i in range(10)) == [i * i for i in range(10)]
        POOL.close()
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert parallel()([delayed(square)(3)] * 2) == [9, 9]


def in_a_fork(act):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        act()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_forked_child_has_results_of_its_own():
    """What it writes is not seen here; and what it lets go of is not taken for free, while we have it."""
    fulls = [parallel()(delayed(np.full)(300_000, float(i)) for i in range(4))]

    def let_go():
        fulls[0][0][:] = -1
        fulls.clear()
        gc.collect()

    in_a_fork(let_go)
    for value in range(3):
        parallel()(delayed(np.full)(300_000, -2.0) for _ in range(4))
        assert [set(result) for result in fulls[0]] == [{0.0}, {1.0}, {2.0}, {3.0}], value


def test_a_forked_child_keeps_what_its_parent_lets_go_of():
    results = parallel()(delayed(np.full)(300_000, float(i)) for i in range(2))
    ours, theirs = os.pipe()

    def look(results=results):
        os.read(ours, 1)
        os._exit(not all((result == i).all() for i, result in enumerate(results)))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        look()
    look = results = None
    for _ in range(3):
        parallel()(delayed(np.full)(300_000, -2.0) for _ in range(4))
    os.write(theirs, b"x")
    assert os.waitpid(pid, 0)[1] == 0
    os.close(ours)
    os.close(theirs)


PARENT = """
import os, sys, time, numpy as np
from fastpar import Parallel, delayed
def work(i, a):
    sys.stdout.write(f"{os.getpid()} {os.getppid()}\\n"); sys.stdout.flush()
    time.sleep(60)
Parallel(2, "processes")(delayed(work)(i, np.zeros(1_000_000)) for i in range(2))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_the_parent(python, number):
    program = python.start(PARENT)
    pids = [int(word) for _ in range(2) for word in program.stdout.readline().split()]
    program.send_signal(number)
    program.wait()
    program.communicate()
    wait_until(lambda: all(is_gone(pid) for pid in pids), 2.0)


def test_ctrl_c_ends_a_call_and_the_next_works(python):
    code = """
import os, signal, time
from fastpar import Parallel, delayed
def interrupt(parent):
    os.kill(parent, signal.SIGINT)
    time.sleep(30)
start = time.monotonic()
try:
    Parallel(2, "processes")([delayed(interrupt)(os.getpid()), *[delayed(time.sleep)(30)] * 3])
except KeyboardInterrupt:
    print("interrupted", time.monotonic() - start < 10)
print(Parallel(2, "processes")(delayed(abs)(-x) for x in (1, 2)))
"""
    assert python.out(code) == "interrupted True\n[1, 2]\n"


def test_an_interpreter_ends_with_tasks_running(python):
    code = """
import time
import types
from fastpar import Parallel, delayed
results = Parallel(2, "processes", return_as="generator")(delayed(time.sleep)(60) for _ in range(4))
print("done")
"""
    assert python.out(code, timeout_s=20) == "done\n"


def test_it_works_in_a_daemonic_process(python):
    code = """
import multiprocessing
from fastpar import Parallel, delayed
def inside():
    print(Parallel(2, "processes")(delayed(abs)(-x) for x in (1, 2)), flush=True)
if __name__ == "__main__":
    process = multiprocessing.get_context("fork").Process(target=inside, daemon=True)
    process.start(); process.join()
"""
    assert python.out(code) == "[1, 2]\n"


def test_a_source_that_raises_leaves_nothing_running():
    def tasks():
        yield delayed(time.sleep)(30)
        yield delayed(time.sleep)(30)
        raise ValueError("the source")

    start = time.monotonic()
    with pytest.raises(ValueError, match="the source"):
        parallel()(tasks())
    assert time.monotonic() - start < 5


# ---- good citizens


def test_workers_see_directory_path_and_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTPAR_TEST_VARIABLE", "here")
    monkeypatch.syspath_prepend(str(tmp_path))

    def look_around(name):
        return os.getcwd(), os.environ.get(name), sys.path[0]

    found = parallel()([delayed(look_around)("FASTPAR_TEST_VARIABLE")] * 2)
    assert found == [(str(tmp_path), "here", str(tmp_path))] * 2


def test_random_numbers_differ_between_workers_and_tasks():
    drawn = parallel(4, batch_size=1)(delayed(draw)() for _ in range(16) for draw in (random.random, np.random.rand))
    assert len(set(drawn)) == 32


def test_nested_calls_run_and_share_the_cpus():
    def outer(n):
        return sum(Parallel(2)(delayed(square)(i) for i in range(n)))

    assert parallel()(delayed(outer)(n) for n in range(6)) == [0, 0, 1, 5, 14, 30]


def test_calls_at_the_same_time_share_the_cpus(monkeypatch):
    """What tasks see of eight CPUs: alone, and while another call has as many workers."""
    monkeypatch.setattr(cpu, "cpu_count", lambda: 8)
    look = [delayed(cpu.budget)()] * 4
    assert parallel()(look) == [4] * 4
    other = parallel(return_as="generator")(look)
    assert parallel()(look) == [2] * 4
    assert parallel(6)(look) == [1] * 4
    assert list(other) == [4] * 4
    assert parallel()(look) == [4] * 4


def test_what_has_no_module_of_its_own_travels_by_value(python):
    code = """
from typing import TypeVar
from fastpar import Parallel, delayed
names = {}
exec("def made(x): return x + 1", names)
T = TypeVar("T")
parallel = Parallel(2, "processes")
print(names["made"].__module__, parallel(delayed(names["made"])(i) for i in range(3)))
print(parallel([delayed(max)([1, 2], key=names["made"]), delayed(type)(T)]) == [2, TypeVar])
"""
    assert python.out(code) == "None [1, 2, 3]\nTrue\n"


def test_a_backend_can_be_pickled_after_a_call():
    called = parallel()
    called(delayed(abs)(-i) for i in range(3))
    backend = pickle.loads(pickle.dumps(called._backend))
    assert Parallel(2, backend)(delayed(abs)(-i) for i in range(3)) == [0, 1, 2]


def test_a_call_may_end_while_its_thread_is_in_the_pool():
    """The collector may end a generator at any place where an object is made."""
    large = b"x" * (1 << 21)
    results = parallel(return_as="generator")(delayed(partial(len_of, large))() for _ in range(100))
    assert next(results) == len(large)
    warehouse = POOL.warehouse(None)
    with POOL._lock, warehouse._lock:
        results.close()
    assert len(POOL._idle) == len(POOL._all)
    warehouse.give(warehouse.hold(b"y"))
    assert not warehouse._given


def len_of(value):
    return len(value)


def test_inner_threads_are_limited():
    found = parallel(inner_max_num_threads=3)([delayed(os.getenv)("OMP_NUM_THREADS")] * 2)
    assert found == ["3", "3"]


def test_a_subprocess_of_a_task_keeps_nothing_alive():
    def start():
        return subprocess.run([sys.executable, "-c", "print(5)"], capture_output=True, text=True, check=True).stdout

    assert parallel()([delayed(start)()] * 2) == ["5\n"] * 2


def test_results_keep_few_descriptors(monkeypatch):
    monkeypatch.setattr(packing, "MAX_OPEN", 50)
    results = parallel()(delayed(np.zeros)(200_000) for _ in range(60))
    n_fds = len(os.listdir("/proc/self/fd"))
    more = parallel()(delayed(np.zeros)(200_000) for _ in range(60))
    assert len(os.listdir("/proc/self/fd")) <= n_fds + 2
    del results, more
    gc.collect()
