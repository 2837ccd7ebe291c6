"""`BatchedCalls`: tasks on their way to a worker that is not ours. A backend pickles it if it likes, and calls it."""

from __future__ import annotations

from fastpar import config
from fastpar.errors import add_task_note

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


class BatchedCalls:
    """Several tasks as one callable without arguments, which returns the list of their results.

    *Serial equivalent*: ``[f(*args, **kwargs) for f, args, kwargs in items]``, with `parallel_config` around it.

    Parameters
    ----------
    iterator_slice : iterable
        Of tasks ``(function, args, kwargs)``.
    backend_and_jobs : tuple or ParallelBackendBase
        Backend and n_jobs for calls made inside the tasks; of old, the backend alone.
    reducer_callback, pickle_cache : optional
        Of joblib's own pickling; accepted, and not used.
    first_index : int, optional
        Where in the user's iterable the tasks begin, for the notes on their exceptions.

    Attributes
    ----------
    items : list
        The tasks.

    Notes
    -----
    joblib's contract. May be called in any thread or process that has fastpar, and again.
    """

    def __init__(
        self,
        iterator_slice: Iterable[Any],
        backend_and_jobs: Any,
        reducer_callback: Any = None,
        pickle_cache: Any = None,
        *,
        first_index: int | None = None,
    ) -> None:
        self.items = list(iterator_slice)
        nested: tuple[Any, Any] = backend_and_jobs if isinstance(backend_and_jobs, tuple) else (backend_and_jobs, None)
        self._backend, self._n_jobs = nested
        self._first_index = first_index

    def __call__(self) -> Any:
        """Run the tasks, one after the other."""
        token = config.activate(config.current()._replace(backend=self._backend, n_jobs=self._n_jobs))
        try:
            return self._run()
        finally:
            config.restore(token)

    def _run(self) -> Any:
        results: list[Any] = []
        try:
            for function, args, kwargs in self.items:
                results.append(function(*args, **kwargs))  # its length says which task raised
        except BaseException as error:
            self._note_task(error, len(results))
            raise
        return results

    def _note_task(self, error: BaseException, place: int) -> None:
        """Name the task that raised. A lone one is named by the caller, who knows it without asking."""
        if self._first_index is not None and len(self.items) > 1:
            add_task_note(error, self._first_index + place, self.items[place])

    def __len__(self) -> int:
        return len(self.items)
