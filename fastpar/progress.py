"""What the user sees while a call runs: joblib's verbose lines, a bar, tqdm, or a function of the user's.

A `Reporter` belongs to one call and is told of it by the calling thread: `start`, any number of `update`s,
`finish`. It decides itself what is worth showing, so `update` may be called at every event: most calls cost a
comparison or a reading of the clock. Nothing here knows `Parallel`, waits, or starts a thread.
"""

from __future__ import annotations

import sys
from math import ceil, sqrt
from time import monotonic

from fastpar.logger import short_format_time

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Literal, TextIO

    Progress = bool | Literal["tqdm"] | Callable[[int, int | None, int], object] | None

REDRAW_S = 0.1  # the eye follows ten redraws a second, and a terminal keeps up with them
FIRST_LINE_S = 1.0  # where lines stay (files, notebooks): one after a second, and whenever the time has doubled,
MAX_LINES_APART_S = 60.0  # but once a minute at least
BAR_WIDTH = 30
DEFAULT_COLUMNS = 80


class Reporter:
    """Told of one call's progress. The base class shows nothing."""

    def start(self, n_total: int | None) -> None:
        """Hear that the call begins; `n_total` is None while the number of tasks is not known."""

    def update(self, n_done: int, n_total: int | None, n_failed: int = 0) -> None:
        """Hear how many tasks are done; counts never fall, and several tasks may have ended since the last."""

    def finish(self, n_done: int, n_total: int | None, n_failed: int = 0, *, completed: bool) -> None:
        """Hear that the call is over. Called once, whether it `completed`, failed or was abandoned."""


def parse_progress(progress: Any) -> Progress:
    """Return the `progress` argument, checked.

    Raises
    ------
    TypeError
        For what is neither a bool, None, "tqdm" nor callable.
    """
    is_name = isinstance(progress, str) and progress == "tqdm"  # an array has no answer to == alone
    if progress is None or isinstance(progress, bool) or is_name or callable(progress):
        return progress  # type: ignore[no-any-return]
    raise TypeError(f"progress must be True, False, 'tqdm' or a function f(done, total, failed), not {progress!r}")


def make_reporter(
    name: str, *, verbose: float = 0, progress: Progress = None, backend: str = "", n_workers: int = 1
) -> Reporter | None:
    """Return what reports on a call, or None when nobody wants to hear.

    Parameters
    ----------
    name : str
        What stands in front of joblib's lines, such as "Parallel(n_jobs=2)".
    verbose : float
        joblib's verbosity.
    progress : bool, "tqdm", callable or None
        Checked by `parse_progress`.
    backend, n_workers : str, int
        For joblib's first line; not printed for one worker.

    Raises
    ------
    ImportError
        When tqdm is wanted and missing.
    """
    reporters: list[Reporter] = []
    if verbose:
        reporters.append(Lines(name, verbose, backend, n_workers))
    if progress is True:
        reporters.append(Bar())
    elif progress == "tqdm":
        reporters.append(Tqdm())
    elif callable(progress):
        reporters.append(Callback(progress))
    if len(reporters) > 1:
        return Several(reporters)
    return reporters[0] if reporters else None


class Several(Reporter):
    """Passes everything on to others."""

    def __init__(self, reporters: Sequence[Reporter]) -> None:
        self._reporters = reporters

    def start(self, n_total: int | None) -> None:
        for reporter in self._reporters:
            reporter.start(n_total)

    def update(self, n_done: int, n_total: int | None, n_failed: int = 0) -> None:
        for reporter in self._reporters:
            reporter.update(n_done, n_total, n_failed)

    def finish(self, n_done: int, n_total: int | None, n_failed: int = 0, *, completed: bool) -> None:
        for reporter in self._reporters:
            reporter.finish(n_done, n_total, n_failed, completed=completed)


class Lines(Reporter):
    """joblib's lines for `verbose`, to stderr below 50 and to stdout from there on.

    Up to 10, lines get rarer as the work goes on, at the counts where joblib prints them in a serial run; above
    10, there is one at each update. Where joblib writes the remaining time only once it has read all tasks, here
    it is written as soon as the total is known.

    Parameters
    ----------
    name, verbose, backend, n_workers
        As for `make_reporter`.
    stream : file or None
        Where to write, instead of stderr or stdout as they are at that moment.
    clock : callable
        Seconds.
    """

    def __init__(
        self,
        name: str,
        verbose: float,
        backend: str,
        n_workers: int,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._name = name
        self._verbose = verbose
        self._header = f"Using backend {backend} with {n_workers} concurrent workers." if n_workers > 1 else ""
        self._stream = stream
        self._clock = clock
        self._begin = clock()
        self._next = self._next_after(0)
        self._width = 3

    def start(self, n_total: int | None) -> None:
        self._begin = self._clock()
        if n_total:
            self._width = len(str(n_total))
        if self._header:
            self._print(self._header)

    def update(self, n_done: int, n_total: int | None, n_failed: int = 0) -> None:
        if n_done < self._next or n_done == n_total:  # the last one is for `finish`
            return
        self._next = self._next_after(n_done)
        elapsed = self._clock() - self._begin
        width = self._width
        if n_total is None:
            padding = " " * (len("out of ") + width - len("tasks"))
            self._print(f"Done {n_done:{width}d} tasks {padding}| elapsed: {short_format_time(elapsed)}")
            return
        remaining = elapsed / n_done * (n_total - n_done)
        self._print(
            f"Done {n_done:{width}d} out of {n_total:{width}d} | elapsed: {short_format_time(elapsed)} "
            f"remaining: {short_format_time(remaining)}"
        )

    def finish(self, n_done: int, n_total: int | None, n_failed: int = 0, *, completed: bool) -> None:
        if completed:
            elapsed = short_format_time(self._clock() - self._begin)
            width = self._width
            self._print(f"Done {n_done:{width}d} out of {n_done:{width}d} | elapsed: {elapsed} finished")

    def _next_after(self, n_done: int) -> int:
        """Return the count at which the next line is due: where (count + 1) / scale passes a square."""
        if self._verbose > 10:
            return n_done + 1
        scale = 0.5 * (11 - self._verbose) ** 2
        root = int(sqrt((n_done + 1) / scale)) + 1
        return max(n_done + 1, ceil(scale * root * root) - 1)

    def _print(self, text: str) -> None:
        stream = self._stream or (sys.stderr if self._verbose < 50 else sys.stdout)
        if stream is not None:  # programs without a console have none
            stream.write(f"[{self._name}]: {text}\n")


class Bar(Reporter):
    """One line with a bar, the rate and the remaining time, on stderr.

    A terminal shows it in place, redrawn at most ten times a second. Elsewhere lines stay, so they are sparse:
    after a second, whenever the time has doubled, once a minute, and at the end.

    Parameters
    ----------
    stream : file or None
        Where to write, instead of stderr as it is when the call starts.
    clock : callable
        Seconds.
    """

    def __init__(self, *, stream: TextIO | None = None, clock: Callable[[], float] = monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._begin = self._due = clock()
        self._in_place = False
        self._n_drawn = 0

    def start(self, n_total: int | None) -> None:
        self._stream = self._stream or sys.stderr
        self._begin = now = self._clock()
        self._in_place = self._stream is not None and self._stream.isatty()
        self._due = now + (REDRAW_S if self._in_place else FIRST_LINE_S)
        if self._in_place:
            self._draw(bar_line(0, n_total, 0, 0.0, self._columns()))

    def update(self, n_done: int, n_total: int | None, n_failed: int = 0) -> None:
        now = self._clock()
        if now < self._due:
            return
        elapsed = now - self._begin
        self._due = now + (REDRAW_S if self._in_place else min(elapsed, MAX_LINES_APART_S))
        self._draw(bar_line(n_done, n_total, n_failed, elapsed, self._columns()))

    def finish(self, n_done: int, n_total: int | None, n_failed: int = 0, *, completed: bool) -> None:
        total = n_done if completed else n_total
        elapsed = self._clock() - self._begin
        self._draw(bar_line(n_done, total, n_failed, elapsed, self._columns(), over=True))
        if self._in_place:
            self._write("\n")

    def _draw(self, line: str) -> None:
        if not self._in_place:
            self._write(f"{line}\n")
            return
        self._write("\r" + line.ljust(self._n_drawn))  # the spaces cover what is left of a longer line
        self._n_drawn = len(line)

    def _write(self, text: str) -> None:
        if self._stream is not None:
            self._stream.write(text)
            self._stream.flush()

    def _columns(self) -> int:
        if not self._in_place or self._stream is None:
            return DEFAULT_COLUMNS
        import os

        try:
            return os.get_terminal_size(self._stream.fileno()).columns or DEFAULT_COLUMNS
        except (OSError, ValueError):  # a terminal that tells no size, or a stream without a descriptor
            return DEFAULT_COLUMNS


def bar_line(
    n_done: int, n_total: int | None, n_failed: int, elapsed: float, columns: int, *, over: bool = False
) -> str:
    """Return the text of a bar, shorter than `columns`.

    Examples
    --------
    >>> bar_line(25, 100, 0, 5.0, 80)
    ' 25% [#######                       ] 25/100, 5.0/s, 15.0s left'
    >>> bar_line(25, None, 1, 5.0, 80)
    '25 done, 1 failed, 5.0/s, 5.0s'
    """
    counts = f"{n_done} done" if n_total is None else f"{n_done}/{n_total}"
    parts = [counts]
    if n_failed:
        parts.append(f"{n_failed} failed")
    if n_done and elapsed > 0:
        parts.append(_rate(n_done / elapsed))
    parts.append(_time_part(n_done, n_total, elapsed, over=over))
    text = ", ".join(part for part in parts if part)
    if n_total is not None:
        share = n_done / n_total if n_total else 1.0
        width = max(0, min(BAR_WIDTH, columns - len(text) - len("100% [] ") - 1))
        text = f"{int(share * 100):3d}% [{'#' * int(share * width):{width}}] {text}"
    return text[: columns - 1]


def _time_part(n_done: int, n_total: int | None, elapsed: float, *, over: bool) -> str:
    if over:
        return f"took {_duration(elapsed)}"
    if n_total is None:
        return _duration(elapsed)
    return f"{_duration(elapsed / n_done * (n_total - n_done))} left" if n_done else ""


def _rate(per_second: float) -> str:
    if per_second >= 10:
        return f"{per_second:.0f}/s"
    return f"{per_second:.1f}/s" if per_second >= 1 else f"{1 / per_second:.1f} s each"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, whole = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{whole:02d}" if hours else f"{minutes}:{whole:02d}"


class Tqdm(Reporter):
    """A bar of tqdm, in the notebook's form inside a notebook.

    Raises
    ------
    ImportError
        When tqdm is not installed.
    """

    def __init__(self) -> None:
        try:
            from tqdm.auto import tqdm  # type: ignore[import-untyped]
        except ImportError as error:
            raise ImportError(
                "progress='tqdm' needs the package tqdm: pip install tqdm; progress=True needs nothing"
            ) from error
        self._tqdm: Callable[..., Any] = tqdm
        self._bar: Any = None

    def start(self, n_total: int | None) -> None:
        self._bar = self._tqdm(total=n_total)

    def update(self, n_done: int, n_total: int | None, n_failed: int = 0) -> None:
        if self._bar.total != n_total:
            self._bar.total = n_total
        self._bar.update(n_done - self._bar.n)

    def finish(self, n_done: int, n_total: int | None, n_failed: int = 0, *, completed: bool) -> None:
        self.update(n_done, n_done if completed else n_total, n_failed)
        self._bar.close()


class Callback(Reporter):
    """Calls `function(done, total, failed)` at the start, and whenever one of the three has changed.

    An exception of the function ends the call, like one of a task.
    """

    def __init__(self, function: Callable[[int, int | None, int], object]) -> None:
        self._function = function
        self._last: tuple[int, int | None, int] | None = None

    def start(self, n_total: int | None) -> None:
        self.update(0, n_total)

    def update(self, n_done: int, n_total: int | None, n_failed: int = 0) -> None:
        if (n_done, n_total, n_failed) != self._last:
            self._last = n_done, n_total, n_failed
            self._function(n_done, n_total, n_failed)

    def finish(self, n_done: int, n_total: int | None, n_failed: int = 0, *, completed: bool) -> None:
        self.update(n_done, n_done if completed else n_total, n_failed)
