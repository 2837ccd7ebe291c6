"""One call of a `Parallel` object: what was begun for it, and its one end."""

from __future__ import annotations

import sys

from fastpar._core.dispatch import Counts
from fastpar.errors import user_traceback
from fastpar.progress import make_reporter

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import Any

    from fastpar.engines.base import Session
    from fastpar.parallel import Parallel
    from fastpar.progress import Reporter


class Call:
    """A call, from its claim on the object to its end.

    The calling thread alone changes it; any thread may read the counters. `end` may be called again: whoever sees an
    error, a Ctrl-C in the middle of `end` included, calls it.

    Attributes
    ----------
    is_over : bool
        Whether the object is free for another call. True before the claim.
    session : Session or None
        The engine's part, while the call goes on.
    reporter : Reporter or None
        Who is told of its progress.
    watch : callable or None
        What to call when tasks have been completed.
    n_serial, n_failed : int
        Tasks completed by a call without a session, and failed in any.
    advice : str or None
        What the session had to say at the end.
    """

    __slots__ = (
        "_counts",
        "_parallel",
        "advice",
        "is_over",
        "n_failed",
        "n_serial",
        "reporter",
        "session",
        "watch",
    )

    def __init__(self, parallel: Parallel | None) -> None:
        self._parallel: Any = parallel  # None once the call is over
        self._counts: Counts | None = None
        self.is_over = True
        self.session: Session | None = None
        self.reporter: Reporter | None = None
        self.watch: Callable[[], object] | None = None
        self.n_serial = self.n_failed = 0
        self.advice: str | None = None

    @property
    def counts(self) -> Counts:
        """How far it is, or was when it ended."""
        session = self.session
        if session is not None:
            return session.run.counts
        n = self.n_serial
        return self._counts or Counts(n, n, n, n, self.n_failed)

    @property
    def n_total(self) -> int | None:
        """How many tasks there are, None while that is not known."""
        session = self.session
        if session is not None and session.run.n_total >= 0:
            return session.run.n_total
        n_tasks: int | None = self._parallel.n_tasks
        return n_tasks

    def start_reporting(self, backend: str, n_workers: int) -> None:
        """Begin to tell whoever `verbose` and `progress` name, and a `print_progress` that the user has replaced."""
        parallel = self._parallel
        if parallel.verbose or parallel.progress:
            self.reporter = make_reporter(
                repr(parallel),
                verbose=parallel.verbose,
                progress=parallel.progress,
                backend=backend,
                n_workers=n_workers,
            )
        if self.reporter is not None:
            self.reporter.start(parallel.n_tasks)
        if self.reporter is not None or parallel._shows_own_progress():
            self.watch = parallel.print_progress

    def pass_on(self, results: Iterator[Any]) -> Generator[Any, None, None]:
        """The results as a generator with which the call ends; under way when this returns, so it can be closed."""
        passed = self._passed(results)
        next(passed)
        return passed

    def _passed(self, results: Iterator[Any]) -> Generator[Any, None, None]:
        try:
            yield None
            yield from results
            self.end(completed=True)
        except BaseException as error:  # noqa: BLE001 -- passed on
            self.end(completed=False)
            raise error.with_traceback(user_traceback(error))  # noqa: B904 -- the same error, without our frames

    def note(self, n_completed: int, n_failed: int) -> None:
        """Hear from the serial loop how far it is."""
        has_more = n_completed > self.n_serial  # not at the start, nor when a task has just ended the call
        self.n_serial, self.n_failed = n_completed, n_failed
        if self.watch is not None and has_more:
            self.watch()

    def end(self, *, completed: bool) -> None:
        """Undo what was begun, and free the object: also where the backend's own end raises."""
        if self.is_over:
            return
        n_total = self.n_total
        try:
            self._clean_up()
        finally:
            if not completed:
                self.is_over = True
        self.is_over = True  # not before: a Ctrl-C until here has `end` called again
        if self.reporter is not None:
            self.reporter.finish(self.counts.n_completed, n_total, self.n_failed, completed=completed)
        if self.advice is not None:
            print(f"[{self._parallel!r}]: {self.advice}", file=sys.stderr)  # noqa: T201 -- part of what verbose shows
        self._parallel = self.reporter = self.watch = None  # they lead back to us

    def _clean_up(self) -> None:
        session = self.session
        if session is not None:
            session.run.cancel()
            self.advice = session.advice() if self._parallel.verbose else None
            self._counts = session.run.counts
            self.n_failed = self._counts.n_failed + (session.run.failure is not None)
            session.close()
            self.session = None  # after the counts: other threads may be reading
        self._parallel._release_backend()


NO_CALL = Call(None)  #: what an object that was never called has for its latest call
