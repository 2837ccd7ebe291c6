from collections.abc import Callable, Iterator
from contextvars import Context
from typing import Any

from fastpar._core.dispatch import Crew, Run

def run_serial(source: Iterator[Any]) -> list[Any]: ...

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
