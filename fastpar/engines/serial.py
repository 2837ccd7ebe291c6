"""The serial loop: n_jobs=1. What every other engine has to agree with.

Tasks run in the calling thread, in order, each when its result is asked for; nested calls see the caller's settings
and all of its CPUs. The plain list has a compiled loop of its own (`_core.threads.run_serial`); this is the loop for
everything that wants to look between two tasks.
"""

from __future__ import annotations

from fastpar._core.tasks import as_task
from fastpar.errors import add_task_note

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any


def run_each(tasks: Iterable[Any], note: Callable[..., None], failure_type: type | None) -> Iterator[Any]:
    """Run tasks one by one as the results are asked for.

    Parameters
    ----------
    tasks : iterable
        Of ``(function, args, kwargs)``.
    note : callable
        Called with the numbers of completed and of failed tasks, before the first and after each.
    failure_type : type or None
        Results of this type count as failed.
    """
    n_failed = 0
    note(0, 0)
    for index, item in enumerate(tasks):
        function, args, kwargs = task = as_task(item, index)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            add_task_note(error, index, task)
            note(index, n_failed + 1)
            raise
        n_failed += type(result) is failure_type
        note(index + 1, n_failed)
        yield result
