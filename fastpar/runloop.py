"""From a session to its results: a list, or a generator.

The calling thread runs this loop: it lets the session read the source and wait, looks after time limits and progress,
and raises what has to be raised. It knows neither how tasks are executed nor what `Parallel` looks like.
"""

from __future__ import annotations

from time import perf_counter_ns

from fastpar.errors import add_task_note, keep_results, timeout_error

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
        Of a run that keeps a list; closing it is the caller's affair.
    limit_ns : int or None
        How long the oldest missing result may stay missing, in nanoseconds.
    watch : callable or None
        Called when tasks have been completed.
    """
    run = session.run
    run.reports = watch is not None
    try:
        while run.is_open:
            _step(session, -1 if limit_ns is None else _time_left(run, limit_ns, run.oldest_missing[1]))
            if watch is not None:
                watch()
        _raise_failure(run)
    except BaseException as error:
        run.cancel()
        keep_results(error, run.finished_results())
        raise
    return run.results()


def stream(session: Session, limit_ns: int | None, watch: Callable[[], object] | None) -> Iterator[Any]:
    """Results one by one.

    The first item is None and comes when tasks are on their way. Parameters are those of `collect`; the time for a
    result counts from when it was asked for.
    """
    run = session.run
    run.reports = watch is not None
    room = run.room
    while run.counts.n_pulled < room and run.room > 0:  # the first window, whatever comes of it meanwhile
        _step(session, 0)
    yield None
    asked_ns = perf_counter_ns()
    while True:
        result = run.pop(MISSING)
        if result is not MISSING:
            if run.is_hungry:
                _step(session, 0)
            yield result
            asked_ns = perf_counter_ns() if limit_ns is not None else 0
            continue
        is_open = run.is_open  # the first of three looks: a failure or a result that comes between them is not lost
        _raise_failure(run)
        if not is_open and not run.has_next:
            return
        _step(session, -1 if limit_ns is None else _time_left(run, limit_ns, perf_counter_ns() - asked_ns))
        if watch is not None:
            watch()


def _step(session: Session, timeout_ns: int) -> None:
    run = session.run
    try:
        session.step(timeout_ns)
    except Exception:
        if run.is_source_broken and not run.is_inherited:  # it arrives as it is, once the tasks that run have ended
            run.cancel()
            run.wait()
        raise


def _time_left(run: Run, limit_ns: int, waited_ns: int) -> int:
    """What is left of the limit, at least 1 ns; raises when nothing is."""
    if waited_ns < limit_ns:
        return limit_ns - waited_ns
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
