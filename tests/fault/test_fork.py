"""os.fork in a program that uses threads: the child begins anew, and a call of the parent's is not continued in it."""

import pytest

pytestmark = pytest.mark.slow

#: Forks in an interpreter of its own, since pytest's has BLAS threads; the child's status is the program's.
PREAMBLE = """
import os, sys, threading, traceback
from fastpar import Parallel, delayed
from fastpar.errors import ForkedRunError

def numbers(n_jobs=2, **settings):
    return Parallel(n_jobs=n_jobs, backend="threading", **settings)(delayed(abs)(-x) for x in range(50))

def in_child(function):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status

def works():
    assert list(numbers()) == list(range(50))
"""


def test_with_idle_workers(python):
    python.out(PREAMBLE + "works(); in_child(works); works()")


def test_again_and_again_and_in_grandchildren(python):
    python.out(PREAMBLE + "works(); [in_child(lambda: (works(), in_child(works))) for _ in range(5)]; works()")


def test_while_tasks_run(python):
    python.out(
        PREAMBLE
        + """
running, gate = threading.Barrier(3), threading.Event()
def task():
    running.wait()
    gate.wait()
    return 1
results = Parallel(n_jobs=2, return_as="generator", timeout=100, backend="threading")([delayed(task)()] * 2)
running.wait()
in_child(works)
gate.set()
assert list(results) == [1, 1]
works()
"""
    )


@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
def test_a_generator_is_not_continued_in_the_child(python, return_as):
    python.out(
        PREAMBLE
        + f"""
gate = threading.Event()
parallel = Parallel(n_jobs=2, return_as={return_as!r}, timeout=100, backend="threading")
results = parallel(delayed(gate.wait)() for _ in range(10))
def child():
    try:
        next(results)
    except ForkedRunError as error:
        assert "start a new call in the child" in str(error)
    else:
        raise AssertionError("continued")
    works()
in_child(child)
gate.set()
assert list(results) == [True] * 10
"""
    )


@pytest.mark.parametrize("end", ["next(results)", "results.close()", "del results", "pass"])
def test_worker_processes_are_the_parents(python, end):
    """What they have been offered the child does not take back from them."""
    python.out(
        PREAMBLE
        + f"""
import time
parallel = Parallel(n_jobs=2, return_as="generator", timeout=100, batch_size=1, pre_dispatch="all")
results = parallel(delayed(time.sleep)(0.05) for _ in range(10))
def child():
    global results
    try:
        {end}
    except ForkedRunError:
        pass
    assert Parallel(n_jobs=2, timeout=100)(delayed(abs)(-x) for x in range(50)) == list(range(50))
in_child(child)
assert list(results) == [None] * 10
"""
    )


@pytest.mark.parametrize("backend", ["threading", "processes"])
def test_from_inside_the_source(python, backend):
    python.out(
        PREAMBLE
        + f"""
parent = os.getpid()
def source():
    for x in range(8):
        if x == 5 and os.fork() == 0:
            os.close(reads)
        yield delayed(abs)(-x)
reads, writes = os.pipe()
try:
    results = Parallel(2, {backend!r}, timeout=100)(source())
except ForkedRunError as error:
    assert os.getpid() != parent and error.__context__ is None, error
    works()
    os.write(writes, b"the child works")
if os.getpid() != parent:
    os._exit(0)
os.close(writes)
assert results == list(range(8))
assert os.read(reads, 100) == b"the child works"
"""
    )


@pytest.mark.parametrize("end", ["results.close()", "del results", "pass"])
def test_a_generator_may_be_closed_or_forgotten_in_the_child(python, end):
    python.out(
        PREAMBLE
        + f"""
gate = threading.Event()
parallel = Parallel(n_jobs=2, return_as="generator", timeout=100, backend="threading")
results = parallel(delayed(gate.wait)() for _ in range(10))
def child():
    global results
    {end}
    works()
in_child(child)
gate.set()
assert list(results) == [True] * 10
"""
    )


def test_from_inside_a_task(python):
    python.out(
        PREAMBLE
        + """
def task():
    in_child(works)
    return 1
assert Parallel(n_jobs=2, backend="threading")([delayed(task)()] * 4) == [1] * 4
"""
    )


def test_while_other_threads_make_calls(python):
    """A fork copies every lock as it is at that moment."""
    python.out(
        PREAMBLE
        + """
stop = threading.Event()
def calls():
    while not stop.is_set():
        works()
threads = [threading.Thread(target=calls) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(50):
    in_child(works)
stop.set()
for thread in threads:
    thread.join()
""",
        env={"PYTHONWARNINGS": "ignore::DeprecationWarning"},
    )


def test_multiprocessing_with_fork_uses_threads_in_its_workers(python):
    python.out(
        PREAMBLE
        + """
import multiprocessing
def task(x):
    return numbers()[x]
if __name__ == "__main__":
    works()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(task, range(10)) == list(range(10))
"""
    )
