"""Tasks that may fail: tried again, or their failure taken for a result.

`on_error="return"` and `retries=` change tasks, not engines: each becomes an `Attempt` at itself, which any engine
runs. Only the death of a worker is not caught by it; the process engine asks the `Attempt` what is to be done then.
"""

from __future__ import annotations

import os
from collections import namedtuple

from fastpar import config
from fastpar._core.tasks import as_task
from fastpar.errors import describe_call

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

#: What an `Attempt` that arrives in a worker process calls when its task is tried again: set by the worker.
on_retry: Callable[[], object] | None = None


class TaskFailure(namedtuple("TaskFailure", ["index", "error", "call", "n_attempts"])):
    """What stands in the place of a result with ``on_error="return"``.

    Attributes
    ----------
    index : int
        Place of the task in the iterable.
    error : BaseException
        What it raised, or an error of ours: a worker that died, a task that took too long.
    call : str
        Function and arguments, shortened.
    n_attempts : int
        How often it was tried.
    """

    __slots__ = ()

    def __reduce__(self) -> Any:
        from fastpar.engines.processes.reports import describe_error

        return _restore_failure, (self.index, describe_error(self.error), self.call, self.n_attempts)


def _restore_failure(index: int, description: Any, call: str, n_attempts: int) -> TaskFailure:
    """The record as it was: its error may be one that cannot be pickled."""
    from fastpar.engines.processes.reports import restore_error

    return TaskFailure(index, restore_error(description), call, n_attempts)


class Attempt:
    """Runs tasks of one call; see the module's docstring. It does not change, so it may be pickled and shared.

    What is no `Exception`, like `SystemExit` and `KeyboardInterrupt`, is no failure of a task: it ends the call.

    Parameters
    ----------
    returns_failures : bool
        A failure is a result.
    n_retries : int
        How often a failed task is tried again.
    n_failed : int
        How often the task has failed before, and its worker was lost.
    """

    __slots__ = ("_on_retry", "_pid", "n_failed", "n_retries", "returns_failures")

    def __init__(self, returns_failures: bool, n_retries: int, n_failed: int = 0) -> None:
        self.returns_failures = returns_failures
        self.n_retries = n_retries
        self.n_failed = n_failed
        self._on_retry: Callable[[], object] | None = None
        self._pid = os.getpid()

    def __reduce__(self) -> Any:
        return Attempt._received, (self.returns_failures, self.n_retries, self.n_failed)

    @staticmethod
    def _received(returns_failures: bool, n_retries: int, n_failed: int) -> Attempt:
        attempt = Attempt(returns_failures, n_retries, n_failed)
        attempt._on_retry = on_retry
        return attempt

    def __call__(self, index: int, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one task."""
        for n_left in range(self.n_retries - self.n_failed, -1, -1):
            try:
                return function(*args, **kwargs)
            except Exception as error:
                if os.getpid() != self._pid:  # in a child that the task forked: it is the task that failed here
                    raise
                if n_left:
                    if self._on_retry is not None:
                        self._on_retry()
                    continue
                if not self.returns_failures:
                    raise
                return self.failure((index, function, args, kwargs), error, self.n_retries + 1)
        raise AssertionError("a task is tried at least once")

    def after(self, n_failed: int) -> Attempt:
        """The attempt that follows when this one has failed so often, and its worker was lost."""
        return Attempt(self.returns_failures, self.n_retries, self.n_failed + n_failed)

    def failure(self, arguments: tuple[Any, ...], error: BaseException, n_attempts: int) -> TaskFailure:
        """The record of a failed task."""
        index, *call = arguments
        return TaskFailure(index, error, describe_call(*call), n_attempts)

    @staticmethod
    def _plain_task(task: tuple[Any, tuple[Any, ...], dict[str, Any]]) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """What `errors.plain_task` asks for."""
        _, function, args, kwargs = task[1]
        return function, args, kwargs

    def tasks(self, iterable: Iterable[Any]) -> Iterator[Any]:
        """The tasks of an iterable, each as an attempt at it."""
        for index, item in enumerate(iterable):
            yield self, (index, *as_task(item, index)), {}


def make_attempt(on_error: str, retries: int) -> Attempt | None:
    """What `Parallel(on_error=, retries=)` asks for; None where tasks run as they are.

    Raises
    ------
    ValueError, TypeError
        For another value of `on_error`, and for `retries` that are no number from 0 on.
    """
    if on_error not in ("raise", "return"):
        raise ValueError(f"on_error={on_error!r} is not valid, expected one of 'raise', 'return'")
    n_retries = config.parse_retries(retries)
    return Attempt(on_error == "return", n_retries) if n_retries or on_error == "return" else None
