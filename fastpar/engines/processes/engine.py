"""The "processes" engine: worker processes that outlive calls, forked from a clean nursery.

Any thread may call `open`; each call leases workers of its own. A forked child starts with an empty pool.
"""

from __future__ import annotations

import atexit
import os

from fastpar.engines.base import Capabilities, Plan
from fastpar.engines.processes.options import Options, parse
from fastpar.engines.processes.pool import Pool
from fastpar.engines.processes.session import ProcessSession

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from typing import Any


class ProcessEngine:
    """See the module's docstring.

    Parameters
    ----------
    pool : Pool
        Where workers come from.
    options : Options
        What the user asks of them.
    """

    name = "processes"
    capabilities = Capabilities(
        shares_memory=False, kills_tasks=True, supports_timeout=True, limits_inner_threads=True
    )

    def __init__(self, pool: Pool, options: Options) -> None:
        self._pool = pool
        self._options = options

    def open(self, plan: Plan) -> ProcessSession:
        """Begin a call on worker processes."""
        return ProcessSession(self._pool, plan, self._options)


POOL = Pool()
os.register_at_fork(after_in_child=POOL.forget)
atexit.register(POOL.end)


def make_engine(given: dict[str, Any]) -> ProcessEngine:
    """The engine over this process's pool, with the options that `Parallel` was given."""
    return ProcessEngine(POOL, parse(given))
