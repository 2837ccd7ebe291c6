"""A user's program that type checkers must accept, and whose types they must get right. Not run by pytest."""

from collections.abc import Iterator
from typing import Any

from fastpar import Parallel, cpu_count, delayed, effective_n_jobs, parallel_backend, parallel_config


def double(x: int, *, offset: int = 0) -> int:
    return 2 * x + offset


def tasks() -> Iterator[tuple[Any, ...]]:
    for x in range(10):
        yield delayed(double)(x, offset=1)


def main() -> int:
    results: list[int] = Parallel(n_jobs=2)(delayed(double)(x) for x in range(10))
    with Parallel(n_jobs=-1, backend="threading", verbose=0, batch_size=2, pre_dispatch="3 * n_jobs") as parallel:
        results += parallel(tasks())
    total = 0
    result: int
    for result in Parallel(n_jobs=2, return_as="generator", timeout=10.0, progress=None)(tasks()):
        total += result
    with parallel_config(backend="threading", n_jobs=2), parallel_backend("threading", n_jobs=effective_n_jobs(-1)):
        total += sum(Parallel(prefer="threads", require="sharedmem")(tasks()))
    n_cpus: int = cpu_count()
    limits: tuple[Any, ...] = cpu_count(explain=True).limits
    answer: int = total + sum(results) + n_cpus + len(limits) + parallel.n_completed_tasks
    return answer
