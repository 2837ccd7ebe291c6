from collections.abc import Callable, Iterable
from typing import Any

SCHEME: int

def digest(
    obj: Any,
    hash_name: str,
    describe: Callable[[Any], tuple[str, tuple[Any, ...], Iterable[Any] | None]],
    digest_chunks: Callable[[memoryview, int, Callable[[Any], bytes]], list[bytes]],
) -> str: ...
