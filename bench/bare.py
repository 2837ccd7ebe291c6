"""The limits: the least code that does a piece of work in parallel, without a library or care for errors."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from threading import Thread
from typing import Any

from bench.harness import N_JOBS

Task = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def halves_on_threads(tasks: list[Task]) -> list[Any]:
    """Run tasks on fresh threads, each with one contiguous share of them."""
    n = len(tasks)
    shares: list[list[Any]] = [[] for _ in range(N_JOBS)]

    def work(rank: int) -> None:
        mine = tasks[rank * n // N_JOBS : (rank + 1) * n // N_JOBS]
        shares[rank] = [function(*args, **kwargs) for function, args, kwargs in mine]

    threads = [Thread(target=work, args=(rank,)) for rank in range(N_JOBS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [result for share in shares for result in share]


def halves_on_forks(tasks: list[Task]) -> list[Any]:
    """Run tasks on fresh forks of this process, each with one contiguous share of them."""
    n = len(tasks)
    readers = []
    for rank in range(N_JOBS):
        reader, writer = os.pipe()
        if os.fork() == 0:
            mine = tasks[rank * n // N_JOBS : (rank + 1) * n // N_JOBS]
            with open(writer, "wb") as file:
                pickle.dump([function(*args, **kwargs) for function, args, kwargs in mine], file)
            os._exit(0)
        os.close(writer)
        readers.append(reader)
    shares = []
    for reader in readers:
        with open(reader, "rb") as file:
            shares.append(pickle.load(file))
        os.wait()
    return [result for share in shares for result in share]
