"""The stress programs at the scale of a test run, and calls that are large, deep or many."""

import gc
import os
import random
import sys
import threading
from pathlib import Path

import pytest
import stress_parallel

from fastpar import Parallel, cpu_count, delayed


@pytest.mark.slow
def test_16_threads_make_200_mixed_calls_each(rng):
    seed = rng.randrange(2**32)
    failures = stress_parallel.run(seed, n_threads=16, n_iterations=200)
    assert not failures, f"seed {seed}: {failures}"


def test_every_kind_of_call_alone(rng):
    for kind in stress_parallel.KINDS:
        call = stress_parallel.Call(kind, 50, rng.randrange(50), n_jobs=2, batch_size="auto", pre_dispatch="2 * n_jobs")
        stress_parallel.KINDS[kind](call)


@pytest.mark.slow
def test_the_program_runs_alone_and_fails_when_a_call_does(python):
    program = str(Path(stress_parallel.__file__))
    done = python.run(program, "--seed", "1", "--threads", "2", "--iterations", "5")
    assert (done.returncode, done.stderr) == (0, "")
    assert "10 calls as they should be" in done.stdout
    sabotage = (
        "import sys, runpy, fastpar; fastpar.Parallel.__call__ = lambda self, tasks: [];"
        f"sys.argv = [{program!r}, '--seed', '1']; runpy.run_path({program!r}, run_name='__main__')"
    )
    assert python.run("-c", sabotage).returncode == 1


@pytest.mark.parametrize("return_as", ["list", "generator", "generator_unordered"])
@pytest.mark.slow
def test_100_000_tasks(return_as):
    parallel = Parallel(n_jobs=2, return_as=return_as, backend="threading")
    results = parallel(delayed(abs)(-place) for place in range(100_000))
    assert sorted(results) == list(range(100_000))


@pytest.mark.slow
def test_3_nested_levels_ask_for_few_threads():
    """Explicit numbers hold at the top; below, calls share the CPUs that are left, at least one each."""
    n_top, most = 4, []

    def leaf(x):
        most.append(len(os.listdir("/proc/self/task")))
        return x

    def branch(level, x):
        if level == 0:
            return leaf(x)
        branches = (delayed(branch)(level - 1, x + place) for place in range(4))
        return sum(Parallel(n_jobs=-1, backend="threading")(branches))

    def serial(level, x):
        return x if level == 0 else sum(serial(level - 1, x + place) for place in range(4))

    n_before = len(os.listdir("/proc/self/task"))
    results = Parallel(n_jobs=n_top, backend="threading")(delayed(branch)(2, x) for x in range(16))
    assert results == [serial(2, x) for x in range(16)]
    assert max(most) - n_before <= n_top + cpu_count() + 2


def test_1_000_short_lived_objects_leave_no_garbage():
    gc.collect()
    gc.disable()
    try:
        for place in range(1000):
            assert Parallel(n_jobs=2, backend="threading")([delayed(abs)(-place)]) == [place]
        assert sum(isinstance(thing, Parallel) for thing in gc.get_objects()) == 0
    finally:
        gc.enable()


def test_the_pool_does_not_grow_with_the_number_of_calls():
    n_before, most = threading.active_count(), 0
    for _ in range(1000):
        Parallel(n_jobs=3, backend="threading")(delayed(abs)(x) for x in range(20))
        most = max(most, threading.active_count())
    assert most <= n_before + 2 * 3  # a worker may be on its way home while the next call needs one


@pytest.mark.slow
def test_threads_that_start_a_call_and_end_at_once():
    """A caller's thread is gone long before the workers that served it."""
    results = []

    def call(x):
        results.append(Parallel(n_jobs=2, backend="threading")(delayed(abs)(-x - y) for y in range(3)))

    for wave in range(20):
        threads = [threading.Thread(target=call, args=(10 * wave + i,)) for i in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == [[x, x + 1, x + 2] for x in range(200)]


def test_switching_threads_as_often_as_possible_changes_nothing(rng):
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        failures = stress_parallel.run(rng.randrange(2**32), n_threads=4, n_iterations=10)
    finally:
        sys.setswitchinterval(interval)
    assert not failures


def test_the_calls_are_the_same_for_the_same_seed():
    draw = stress_parallel.Call.draw
    assert [draw(random.Random(7)) for _ in range(3)] == [draw(random.Random(7)) for _ in range(3)]
