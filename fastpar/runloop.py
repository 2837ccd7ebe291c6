"""From a session to its results: a list, or a generator.

The calling thread runs this loop: it lets the session read the source and wait, looks after time limits and progress,
and raises what has to be raised. It knows neither how tasks are executed nor what `Parallel` looks like.
"""

from __future__ import annotations

from fastpar.errors import add_task_note, timeout_error

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from fastpar._core.dispatch import Run
    from fastpar.engines.base import Session

MISSING = object()


def collect(session: Session, limit_ns: int | None, watch: Callable[[], object] | None) -> list[Any]:
    """Run to the end; the results in the order of the tasks.

    Parameters
    ----------
    session : Session
        Of a run that keeps a list; closed on return.
    limit_ns : int or None
        How long the oldest missing result may stay missing, in nanoseconds.
    watch : callable or None
        Called when tasks have been completed.
    """
    run = session.run
    run.reports = watch is not None
    try:
        while run.is_open:
            if limit_ns is None:
                _step(session, -1)
            else:
                _step_within(session, limit_ns, run.oldest_missing[1])
            if watch is not None:
                watch()
        _raise_failure(run)
        return run.results()
    finally:
        run.cancel()
        session.close()


def stream(session: Session, limit_ns: int | None, watch: Callable[[], object] | None) -> Iterator[Any]:
    """Results one by one; closing the generator cancels the rest.

    The first item is None and comes when tasks are on their way: a generator that was never started could not be
    closed. Parameters are those of `collect`.
    """
    run = session.run
    run.reports = watch is not None
    try:
        _step(session, 0)
        yield None
        while True:
            result = run.pop(MISSING)
            if result is not MISSING:
                if run.is_hungry:
                    _step(session, 0)
                yield result
                continue
            _raise_failure(run)
            if not run.is_open and not run.has_next:  # in this order: what comes between the two looks is not lost
                return
            if limit_ns is None:
                _step(session, -1)
            else:
                _step_within(session, limit_ns, 0)
            if watch is not None:
                watch()
    finally:
        run.cancel()
        session.close()


def _step(session: Session, timeout_ns: int) -> bool:
    try:
        return session.step(timeout_ns)
    except Exception:  # the source's: it arrives as it is, once the tasks that run have ended
        session.run.cancel()
        session.run.wait()
        raise


def _step_within(session: Session, limit_ns: int, waited_ns: int) -> None:
    """Step, and raise if what is waited for does not come within the limit."""
    run = session.run
    n_completed = run.counts.n_completed
    if _step(session, max(0, limit_ns - waited_ns)) or run.counts.n_completed > n_completed or not run.is_open:
        return
    counts = run.counts
    raise timeout_error(
        f"no result for {limit_ns / 1e9:g} s while task {run.oldest_missing[0]} was waited for: raise timeout=, or "
        f"find out what keeps the task ({counts.n_completed} of {counts.n_pulled} tasks read so far are done)"
    )


def _raise_failure(run: Run) -> None:
    failure = run.failure
    if failure is None:
        return
    error, index, task = failure
    if task is not None:
        add_task_note(error, index, task)
    raise error
