from collections.abc import Callable, Iterator
from contextvars import Context
from threading import Lock
from typing import Any

from fastpar._core.dispatch import Crew, Run

def run_serial(source: Iterator[Any], results: list[Any]) -> None: ...

def call_if_free(lock: Lock, function: Callable[[], object]) -> bool: ...

class ThreadPool:
    @property
    def n_idle(self) -> int: ...
    def forget(self) -> None: ...
    def close(self) -> None: ...

class Team(Crew):
    def __init__(
        self,
        pool: ThreadPool,
        context: Context,
        n_workers: int,
        enter: Callable[[int], object],
        *,
        caller_helps: bool,
    ) -> None: ...
    def remember(self, run: Run) -> None: ...
    def step(self, run: Run, timeout_ns: int) -> bool: ...
