"""What is compiled. Nothing is loaded here: each user imports the modules that it needs."""

from __future__ import annotations

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: Called with the module of the native pool when that is loaded, which most programs never do. `fastpar.cpu`, which is
#: above this package, puts a function here that gives the pool its share of the CPUs.
when_pool_is_loaded: Callable[[Any], None] | None = None
