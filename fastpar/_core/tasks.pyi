from collections.abc import Callable, Iterator
from typing import Any

Task = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]

class Batch:
    capacity: int
    n: int
    n_done: int
    n_delivered: int
    def __len__(self) -> int: ...
    def __getitem__(self, i: int) -> Task: ...
    def __iter__(self) -> Iterator[Task]: ...

def as_task(item: object, index: int) -> Task: ...
