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


def call(rng):
    """One call of a random kind; whether its results were right."""
    n = rng.randrange(1, 120)
    batch_size = rng.choice(["auto", 1, 5])
    kind = rng.randrange(3)
    parallel = Parallel(rng.randrange(2, 4), "processes", batch_size=batch_size, max_nbytes=10_000)
    if kind == 0:
        return parallel(delayed(echo)(i, None, i) for i in range(n)) == list(range(n))
    if kind == 1:
        found = parallel(delayed(head)(np.full(5_000, float(i)), i % 7) for i in range(n))
        return all(got == i and (part == i).all() for i, (got, part) in enumerate(found))
    offset = rng.random()
    results = Parallel(2, "processes", return_as="generator")(delayed(lambda i: i + offset)(i) for i in range(n))
    return list(results) == [i + offset for i in range(n)]


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
