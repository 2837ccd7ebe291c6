"""The limits: the least code that does a piece of work in parallel, without a library or care for errors."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


@contextmanager
def answering_forks(function: Callable[[Any], Any]) -> Iterator[Callable[[list[Any], int], list[Any]]]:
    """Forks that call a function for whatever comes through a pipe.

    Yields
    ------
    callable
        Given arguments and how many go into a message: each fork gets a message, then each is asked for its answer.
    """
    pids, pipes = [], []
    for _ in range(N_JOBS):
        (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            for pipe in pipes:  # else the forks before this one would not see them end
                os.close(pipe[0].fileno())
            os.close(ours_out)
            _answer(function, open(theirs_in, "rb"), open(theirs_out, "wb"))  # noqa: SIM115 -- ends with the process
        os.close(theirs_in)
        os.close(theirs_out)
        pids.append(pid)
        pipes.append((open(ours_out, "wb"), open(ours_in, "rb")))  # noqa: SIM115 -- closed below

    def ask(arguments: list[Any], size: int) -> list[Any]:
        messages = [arguments[start : start + size] for start in range(0, len(arguments), size)]
        results = []
        for start in range(0, len(messages), N_JOBS):
            asked = list(zip(pipes, messages[start : start + N_JOBS], strict=False))
            for (out, _), message in asked:
                pickle.dump(message, out, 5)
                out.flush()
            for (_, answers), _ in asked:
                results += pickle.load(answers)
        return results

    try:
        yield ask
    finally:
        for pid, (out, answers) in zip(pids, pipes, strict=True):
            out.close()
            answers.close()
            os.waitpid(pid, 0)


def _answer(function: Callable[[Any], Any], questions: Any, answers: Any) -> None:
    """The life of such a fork; does not return."""
    try:
        while True:
            pickle.dump([function(argument) for argument in pickle.load(questions)], answers, 5)
            answers.flush()
    except EOFError:
        os._exit(0)
    finally:
        os._exit(1)
