"""What tasks of one function took, remembered between calls: a start for the batch size (D-074).

Owner: the pool. Any thread may ask and tell; whole entries are replaced, so the worst that two calls can do is to
forget one.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from typing import Any

#: What is remembered of a function's tasks counts as so many of them, and of so many functions.
MAX_REMEMBERED = 64
MAX_FUNCTIONS = 64


class TaskTimes:
    """See the module's docstring. Keys are what `key_of` gives."""

    def __init__(self) -> None:
        self._times: dict[Any, tuple[int, int, int]] = {}

    def recall(self, key: Any) -> tuple[int, int, int] | None:
        """How many tasks, their time in nanoseconds, and that of the longest; None for a function not seen before."""
        return self._times.get(key)

    def note(self, key: Any, n_tasks: int, total_ns: int) -> None:
        """A call has ended, in which tasks of this function took so long."""
        if not n_tasks or key is None:
            return
        n = min(n_tasks, MAX_REMEMBERED)
        self._times[key] = n, n * total_ns // n_tasks, total_ns // n_tasks
        for oldest in list(self._times)[:-MAX_FUNCTIONS]:
            self._times.pop(oldest, None)


def key_of(task: Any) -> Any:
    """What tasks of one kind have in common: the code that they run, or the callable. None where it cannot be kept."""
    try:
        function = task[0]
        key = getattr(function, "__code__", None)
    except Exception:  # noqa: BLE001 -- no task, or whatever a callable of the user's raises when asked
        return None
    if key is not None:
        return key
    return function if type(function) in (type(len), type) else None
