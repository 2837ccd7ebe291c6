from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar, final

P = ParamSpec("P")
R = TypeVar("R")

@final
class DelayedFunction(Generic[P, R]):
    __wrapped__: Callable[P, R]
    __name__: str
    __qualname__: str
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> tuple[Callable[P, R], tuple[Any, ...], dict[str, Any]]: ...

def delayed(function: Callable[P, R]) -> DelayedFunction[P, R]: ...
