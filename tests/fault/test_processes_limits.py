"""Worker processes where something runs out, or is not as they expect: an answer or an error, and never a hang."""

import gc
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

from fastpar import Parallel, delayed
from fastpar.engines.processes.engine import POOL
from fastpar.errors import TaskPicklingError, TerminatedWorkerError, WorkerStartError

BEGIN = """
import os, resource, signal, sys
import numpy as np
from fastpar import Parallel, delayed

def parallel(**options):
    return Parallel(2, "processes", **options)

def first(array):
    return float(array[0])
"""


def parallel(**options):
    return Parallel(2, "processes", **options)


def identity(value):
    return value


def assert_usable():
    assert parallel()(delayed(identity)(i) for i in range(20)) == list(range(20))


# ---- descriptors


def test_a_process_that_has_many_files_open(python):
    code = BEGIN + """
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
files = [os.open(os.devnull, os.O_RDONLY) for _ in range(500)]
print(parallel()(delayed(abs)(-i) for i in range(3)))
"""
    assert python.out(code) == "[0, 1, 2]\n"


def test_more_large_arguments_than_descriptors(python):
    code = BEGIN + """
resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
arrays = [np.full(2_000, float(i)) for i in range(1_000)]
for mode in ("r", "c", "r+"):
    assert parallel(max_nbytes=1_000, mmap_mode=mode)(delayed(first)(a) for a in arrays) == list(range(1_000))
"""
    assert python.out(code) == ""


def test_one_task_with_more_large_arrays_than_a_message_has_descriptors():
    arrays = [np.full(2_000, float(i)) for i in range(400)]

    def add(arrays):
        return sum(float(array[0]) for array in arrays)

    assert parallel(max_nbytes=1_000)([delayed(add)(arrays)] * 2) == [sum(range(400))] * 2


def test_more_shared_arrays_than_one_task_can_have():
    from fastpar.arrays import shared_empty

    arrays = [shared_empty(3) for _ in range(300)]
    with pytest.raises(ValueError, match="300 shared arrays"):
        parallel()([delayed(len)(arrays), delayed(len)([])])
    gc.collect()  # the traceback holds frames, and these the call
    assert parallel()(delayed(len)(arrays[i : i + 100]) for i in range(0, 300, 100)) == [100] * 3


@pytest.mark.slow
def test_many_large_results_that_are_kept(python):
    code = BEGIN + """
resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
results = parallel()(delayed(np.full)(5_000, i) for i in range(20_000))
assert all(int(result[-1]) == i for i, result in enumerate(results))
"""
    assert python.out(code) == ""


def test_results_that_cannot_be_received_end_the_call(python):
    """The parent has no descriptor left, and workers have: the call ends, and does not wait for what was lost."""
    code = BEGIN + """
def many(i):
    return [np.full(150_000, float(i)) for _ in range(20)]

assert parallel()(delayed(abs)(-i) for i in range(3)) == [0, 1, 2]
n = len(os.listdir("/proc/self/fd"))
before = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (n + 8, before[1]))
try:
    parallel()(delayed(many)(i) for i in range(2))
except OSError as error:
    print("ulimit" in str(error))
resource.setrlimit(resource.RLIMIT_NOFILE, before)
print(parallel()(delayed(abs)(-i) for i in range(3)))
"""
    assert python.out(code) == "True\n[0, 1, 2]\n"


# ---- memory


def result_beyond(i, n_bytes):
    """A result whose copy on the way back has no room: the worker may have a few MB more than it has."""
    import resource

    array = np.ones(n_bytes // 8)
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + n_bytes // 4, resource.RLIM_INFINITY))
    return array if i == 1 else i


def test_no_memory_to_send_a_result():
    tasks = [delayed(result_beyond)(i, 16_000_000) for i in range(4)]
    with pytest.raises(MemoryError) as caught:
        parallel(batch_size=4)(tasks)
    assert any("in task" in note for note in caught.value.__notes__)
    POOL.close()  # workers with little memory
    found = parallel(batch_size=1, max_tasks_per_worker=1, on_error="return")(tasks)
    assert [found[0], found[2], found[3]] == [0, 2, 3]
    assert isinstance(found[1].error, MemoryError)
    POOL.close()
    assert_usable()


def test_no_memory_in_a_task():
    def demand(i):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (1 << 33, resource.RLIM_INFINITY))
        return np.ones(1 << 32) if i == 1 else i

    with pytest.raises(MemoryError) as caught:
        parallel(batch_size=1)(delayed(demand)(i) for i in range(4))
    assert any("in task 1 of" in note for note in caught.value.__notes__)
    POOL.close()
    assert_usable()


# ---- workers that cannot begin


@pytest.mark.parametrize("start_method", ["nursery", "spawn"])
def test_an_initializer_that_ends_its_worker_ends_the_call(start_method):
    with pytest.raises(WorkerStartError, match="as soon as they are started"):
        parallel(initializer=os._exit, initargs=(1,), start_method=start_method)([delayed(identity)(1)] * 4)
    assert_usable()


@pytest.mark.parametrize("executable", ["/nonexistent", "/bin/false", ""])
def test_no_interpreter_to_start(monkeypatch, executable):
    POOL.close()
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(WorkerStartError):
        parallel()([delayed(identity)(1)] * 4)
    monkeypatch.undo()
    POOL.close()
    assert_usable()


def begin(array):
    os.environ["FASTPAR_TEST_GIVEN"] = str(array.sum())


def look():
    return float(os.environ["FASTPAR_TEST_GIVEN"])


def test_arguments_of_an_initializer_that_cannot_be_compared():
    for value in (1.0, 2.0):  # small, and too large for a message
        for n in (3, 100_000):
            options = {"initializer": begin, "initargs": (np.full(n, value),)}
            assert parallel(**options)([delayed(look)()] * 4) == [value * n] * 4
    n_processes = len(POOL._all)
    assert n_processes <= 2, "workers of an initializer that has been replaced stay"


def test_settings_that_are_larger_than_a_message(monkeypatch):
    monkeypatch.setenv("FASTPAR_TEST_LARGE", "x" * 100_000)
    assert parallel()([delayed(lambda: len(os.environ["FASTPAR_TEST_LARGE"]))()] * 3) == [100_000] * 3


def test_settings_that_name_the_callers_main_module(python):
    code = """
import warnings
from fastpar import Parallel, delayed
class Odd(UserWarning): pass
warnings.filterwarnings("error", category=Odd)
def warn(): warnings.warn("odd", Odd)
try:
    Parallel(2, "processes")(delayed(warn)() for _ in range(3))
except Odd as error:
    print("raised", error)
"""
    assert python.out(code) == "raised odd\n"


# ---- signals, and the nursery


def test_a_caller_that_blocks_signals_hears_of_deaths(python):
    code = BEGIN + """
from fastpar.errors import TerminatedWorkerError
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
for method in ("nursery", "spawn", "fork"):
    try:
        parallel(start_method=method)([delayed(os._exit)(3)] * 2)
    except TerminatedWorkerError as error:
        print(error.exitcode)
"""
    assert python.out(code) == "3\n" * 3


def test_a_nursery_that_dies_while_idle_is_replaced():
    assert_usable()
    os.kill(POOL._nursery.pid, signal.SIGKILL)
    assert_usable()


def kill_nursery(flag):
    if flag.exists():
        return "again"
    flag.touch()
    os.kill(os.getppid(), signal.SIGKILL)
    threading.Event().wait()
    return None


def test_a_nursery_that_dies_takes_its_workers_along(tmp_path):
    with pytest.raises(TerminatedWorkerError):
        parallel()([delayed(kill_nursery)(tmp_path / "one")] * 2)
    assert_usable()
    assert parallel(retries=1)([delayed(kill_nursery)(tmp_path / "two")]) == ["again"]


def test_idle_workers_that_all_die_at_once():
    for _ in range(5):
        pids = set(Parallel(6, "processes", batch_size=1)(delayed(os.getpid)() for _ in range(30)))
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert Parallel(6, "processes")(delayed(identity)(i) for i in range(20)) == list(range(20))


# ---- one bad task among good ones


class Raising:
    """Cannot be pickled, or cannot be made again, where its owner is not."""

    def __init__(self, in_pickle, home):
        self.in_pickle = in_pickle
        self.home = home

    def __reduce__(self):
        if self.in_pickle:
            raise RuntimeError("not to be pickled")
        return make_elsewhere, (self.home,)


def make_elsewhere(home):
    if os.getpid() == home:
        raise RuntimeError("not to be made here")
    return "made elsewhere"


def slow_result(i, in_pickle, home):
    time.sleep(0.06)  # so long that results of the same batch are sent one by one
    return Raising(in_pickle, home) if i == 1 else i


@pytest.mark.slow
@pytest.mark.parametrize("in_pickle", [True, False])
def test_a_bad_result_does_not_shift_those_of_its_batch(in_pickle):
    tasks = [delayed(slow_result)(i, in_pickle, os.getpid()) for i in range(8)]
    found = parallel(batch_size=4, on_error="return")(tasks)
    assert found[:1] + found[2:] == [0, 2, 3, 4, 5, 6, 7]
    assert found[1].index == 1
    assert isinstance(found[1].error, TaskPicklingError if in_pickle else RuntimeError)


def test_a_function_whose_first_task_cannot_be_sent():
    def last(*values):
        return values[-1]

    tasks = [delayed(last)(threading.Lock(), 0), *(delayed(last)(i) for i in range(1, 10))]
    found = parallel(on_error="return")(tasks)
    assert found[1:] == list(range(1, 10))
    assert isinstance(found[0].error, TaskPicklingError)


def test_a_shared_copy_is_not_what_workers_wrote():
    array = np.zeros(300_000)

    def write(array):
        array[0] = -1

    def look(array):
        return float(array[0])

    for _ in range(4):
        assert parallel()([delayed(look)(array)] * 2) == [0, 0]
        parallel(mmap_mode="r+")([delayed(write)(array)] * 2)
    assert array[0] == 0
