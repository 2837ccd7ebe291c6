"""Calls from many threads, workers killed at random: results are right, or an error says why they are not there."""

import os
import random
import signal
import threading
import time
from contextlib import suppress

import numpy as np
import pytest

from fastpar import Parallel, delayed
from fastpar.errors import TerminatedWorkerError


def echo(value, pids, i):
    return value if pids is None else (value, os.getpid(), i)[0]


def head(array, i):
    return float(array[i]), array[: i + 1].copy()


def fail_if(i, culprit):
    if i == culprit:
        raise LookupError(i)
    return i


def results_in_order(rng, n, options):
    return Parallel(**options)(delayed(echo)(i, None, i) for i in range(n)) == list(range(n))


def arrays_both_ways(rng, n, options):
    found = Parallel(**options)(delayed(head)(np.full(5_000, float(i)), i % 7) for i in range(n))
    return all(got == i and (part == i).all() for i, (got, part) in enumerate(found))


def one_array_for_all(rng, n, options):
    """The same array in every task, changed between two calls of this thread."""
    array = np.zeros(20_000)
    for value in (1.0, 2.0):
        array[:] = value
        if any(got != value for got, _ in Parallel(**options)(delayed(head)(array, 0) for _ in range(n))):
            return False
    return True


def a_closure_and_a_generator(rng, n, options):
    offset = rng.random()
    results = Parallel(**options, return_as="generator")(delayed(lambda i: i + offset)(i) for i in range(n))
    return list(results) == [i + offset for i in range(n)]


def a_generator_that_is_closed(rng, n, options):
    results = Parallel(**options, return_as="generator_unordered")(delayed(echo)(i, None, i) for i in range(n))
    taken = [next(results) for _ in range(rng.randrange(n))]
    results.close()
    return len(set(taken)) == len(taken)


def large_results(rng, n, options):
    found = Parallel(**options)(delayed(np.full)(200_000, i) for i in range(n % 10))
    return all((array == i).all() for i, array in enumerate(found))


def failures_in_place(rng, n, options):
    """A worker that was killed is a failure too."""
    culprit = rng.randrange(n)
    found = Parallel(**options, on_error="return")(delayed(fail_if)(i, culprit) for i in range(n))
    places = [got if type(got) is int else got.index for got in found]
    return places == list(range(n)) and type(found[culprit]) is not int


def retries(rng, n, options):
    return Parallel(**options, retries=5)(delayed(echo)(i, None, i) for i in range(n)) == list(range(n))


KINDS = [
    results_in_order, arrays_both_ways, one_array_for_all, a_closure_and_a_generator, a_generator_that_is_closed,
    large_results, failures_in_place, retries,
]  # fmt: skip


def call(rng):
    """One call of a random kind; whether its results were right."""
    options = {
        "n_jobs": rng.randrange(2, 4),
        "backend": "processes",
        "batch_size": rng.choice(["auto", 1, 5]),
        "max_nbytes": rng.choice([10_000, None]),
    }
    return rng.choice(KINDS)(rng, rng.randrange(1, 120), options)


def workers_of_this_process():
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
                with open(f"/proc/{parent}/stat") as file:
                    grandparent = int(file.read().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            if grandparent == os.getpid():
                found.append(int(entry))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kills", [False, True])
def test_calls_in_threads(rng, kills):
    deadline = time.monotonic() + float(os.environ.get("FASTPAR_STRESS_S", "4"))
    seeds = [rng.random() for _ in range(8)]
    wrong, n_lost = [], [0]

    def work(seed):
        own = random.Random(seed)
        while time.monotonic() < deadline and not wrong:
            try:
                if not call(own):
                    wrong.append("a wrong result")
            except TerminatedWorkerError:
                n_lost[0] += 1
            except BaseException as error:  # it has to reach the test
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in seeds]
    for thread in threads:
        thread.start()
    while kills and time.monotonic() < deadline:
        for pid in workers_of_this_process():
            if rng.random() < 0.1:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        threads[0].join(0.05)
    for thread in threads:
        thread.join()
    assert not wrong, wrong
    assert kills or n_lost[0] == 0
