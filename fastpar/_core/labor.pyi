from typing import Any

from fastpar._core.segments import Board

class Labor:
    n_done: int
    results: list[Any]
    total_ns: int
    longest_ns: int
    error: BaseException | None
    def __init__(
        self,
        board: Board,
        number: int,
        n: int,
        budget_ns: int,
        function: Any,
        columns: tuple[tuple[Any, ...], ...] | None,
        tasks: list[Any] | None,
    ) -> None: ...
    def work(self) -> bool: ...

def die_with_parent() -> None: ...
