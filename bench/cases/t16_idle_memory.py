"""T16: how much memory does an idle worker process that has imported NumPy have to itself?

The tasks are a call of `eval`, so that workers import nothing of this package.
"""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bench.harness import N_JOBS, Case, LeftOutError, Target, Timed

#: Imports NumPy, takes long enough for every worker to get one, and says who did it.
TASK = "(__import__('numpy'), __import__('time').sleep(0.2), __import__('os').getpid())[-1]"


def own_mb(pids: Iterable[int]) -> float:
    """Memory that no other process shares with them: the mean, in MB."""
    sizes = []
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except FileNotFoundError as error:
            raise LeftOutError("private memory is measured on Linux only") from error
        sizes.append(sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024 / 1e6)
    return sum(sizes) / len(sizes)


def told(function: Timed) -> tuple[float, object]:
    """A measure: the function says how much, and of how many workers."""
    megabytes, n_workers = function()  # type: ignore[misc]
    return megabytes, n_workers


case = Case(
    __name__,
    what="an idle worker with NumPy, memory of its own",
    unit="MB",
    size=N_JOBS,
    quick=N_JOBS,
    rounds=3,
    target=Target(6),
    measure=told,
    isolated=True,
)


@case.answer
def n_workers(n: int) -> int:
    return n


def look_at(pids: Iterable[int]) -> tuple[float, int]:
    """What the measure wants."""
    found = set(pids)
    return own_mb(found), len(found)


@case.limit
def bare_interpreter(n: int) -> Iterator[Timed]:
    """Python without NumPy or anything else."""

    def run() -> tuple[float, int]:
        children = [
            subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], stdin=-1, stdout=-1)
            for _ in range(n)
        ]
        for child in children:
            child.stdout.readline()  # type: ignore[union-attr]
        found = look_at(child.pid for child in children)
        for child in children:
            child.communicate(b"\n")
        return found

    yield run


@case.joblib
def joblib(n: int) -> Iterator[Timed]:
    from joblib import Parallel, delayed

    yield lambda: look_at(Parallel(n, batch_size=1)(delayed(eval)(TASK) for _ in range(n)))


@case.rival
def executor(n: int) -> Iterator[Timed]:
    with ProcessPoolExecutor(n) as pool:
        yield lambda: look_at(pool.map(eval, [TASK] * n))


@case.fastpar
def fastpar(n: int) -> Iterator[Timed]:
    import numpy  # noqa: F401 -- as in a program that uses it, whose workers then get it from the nursery

    from fastpar import Parallel, delayed

    yield lambda: look_at(Parallel(n, "processes", batch_size=1)(delayed(eval)(TASK) for _ in range(n)))
