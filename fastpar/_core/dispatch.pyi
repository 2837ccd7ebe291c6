from collections.abc import Iterator
from typing import Any, NamedTuple

from fastpar._core.batching import BatchSizer
from fastpar._core.slots import Slots
from fastpar._core.tasks import Task

PHASES: tuple[str, ...]

class Counts(NamedTuple):
    n_pulled: int
    n_completed: int
    n_consumed: int
    n_batches: int

def n_live() -> int: ...

class Crew: ...

class Run:
    n_workers: int
    reports: bool
    def __init__(
        self,
        source: Iterator[Any],
        slots: Slots,
        n_workers: int,
        n_total: int,
        pre_dispatch: int,
        sizer: BatchSizer,
        crew: Crew,
        *,
        times_tasks: bool = False,
        n_seats: int | None = None,
    ) -> None: ...
    @property
    def phase(self) -> str: ...
    @property
    def is_open(self) -> bool: ...
    @property
    def is_hungry(self) -> bool: ...
    @property
    def counts(self) -> Counts: ...
    @property
    def has_next(self) -> bool: ...
    @property
    def n_total(self) -> int: ...
    @property
    def worker_times_ns(self) -> tuple[int, int]: ...
    @property
    def elapsed_ns(self) -> int: ...
    @property
    def failure(self) -> tuple[BaseException, int, Task | None] | None: ...
    @property
    def oldest_missing(self) -> tuple[int, int]: ...
    def pull(self) -> None: ...
    def wait(self, timeout_ns: int = -1) -> bool: ...
    def pop(self, default: Any) -> Any: ...
    def results(self) -> list[Any]: ...
    def cancel(self) -> None: ...
