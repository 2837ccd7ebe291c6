"""joblib's small logging helpers: `Logger`, `PrintTime` and the functions that format times and objects.

Kept for programs that derive from `Logger` or time their steps with `PrintTime`; fastpar's own messages go
through `logging` and `progress`. No state is shared; each object belongs to the thread that uses it.
`logging`, `pprint` and `shutil` are imported at the first use.
"""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from typing import Any

N_OLD_LOGS = 9  # PrintTime keeps joblib.log.1 to joblib.log.9


def format_time(t: float) -> str:
    """Return a duration in seconds and minutes.

    Parameters
    ----------
    t : float
        Seconds.

    Examples
    --------
    >>> format_time(12.34)
    '12.3s, 0.2min'
    """
    return f"{t:.1f}s, {t / 60.0:.1f}min"


def short_format_time(t: float) -> str:
    """Return a duration of constant width: seconds up to a minute, then minutes.

    Parameters
    ----------
    t : float
        Seconds.

    Examples
    --------
    >>> short_format_time(42), short_format_time(90)
    ('  42.0s', ' 1.5min')
    """
    return f"{t / 60.0:4.1f}min" if t > 60 else f" {t:5.1f}s"


def pformat(obj: object, indent: int = 0, depth: int = 3) -> str:
    """Return `obj` as text, with long arrays abridged.

    Parameters
    ----------
    obj : object
        What to show.
    indent : int
        Spaces added for each level.
    depth : int
        Levels shown; deeper ones are replaced by "...".

    Notes
    -----
    NumPy's print options are changed for the time of the call, for this thread only since NumPy 2.
    """
    import pprint

    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        return pprint.pformat(obj, indent=indent, depth=depth)
    with numpy.printoptions(precision=6, threshold=64, edgeitems=1):
        return pprint.pformat(obj, indent=indent, depth=depth)


class Logger:
    """Base class that gives its children `warn`, `info` and `debug`, with their own text in front.

    Parameters
    ----------
    depth : int
        Levels of nested objects that `format` shows.
    name : str or None
        The logger of `logging` to write to; "joblib" by default, so that filters written for joblib hold.
    """

    def __init__(self, depth: int = 3, name: str | None = None) -> None:
        self.depth = depth
        self._name = name or "joblib"

    def warn(self, msg: object) -> None:
        """Log `msg` as a warning."""
        import logging

        logging.getLogger(self._name).warning("[%s]: %s", self, msg)

    def info(self, msg: object) -> None:
        """Log `msg` for information, on the root logger as joblib does."""
        import logging

        logging.info("[%s]: %s", self, msg)

    def debug(self, msg: object) -> None:
        """Log `msg` for debugging."""
        import logging

        logging.getLogger(self._name).debug("[%s]: %s", self, msg)

    def format(self, obj: object, indent: int = 0) -> str:
        """Return `obj` as text: `pformat` with the depth of this object."""
        return pformat(obj, indent=indent, depth=self.depth)


class PrintTime:
    """Prints the time since the last call to stderr, and to a file when one is given.

    Parameters
    ----------
    logfile : path or None
        File to write; an existing one is kept as `logfile`.1, and so on up to .9.
    logdir : path or None
        Directory for a file named joblib.log, instead of `logfile`.

    Raises
    ------
    ValueError
        When both are given.

    Notes
    -----
    Several processes may write one file. A file that cannot be written costs a warning, not the computation.
    """

    def __init__(
        self, logfile: str | os.PathLike[str] | None = None, logdir: str | os.PathLike[str] | None = None
    ) -> None:
        if logfile is not None and logdir is not None:
            raise ValueError("PrintTime takes a logfile or a logdir, not both")
        self.last_time = self.start_time = time.time()
        self.logfile = os.path.join(logdir, "joblib.log") if logdir is not None else logfile
        if self.logfile is not None:
            self._begin_file(os.fspath(self.logfile))

    def __call__(self, msg: str = "", total: bool = False) -> None:
        """Print the seconds since the last call.

        Parameters
        ----------
        msg : str
            Text in front of the time.
        total : bool
            Count from the creation of this object, not from the last call.
        """
        now = time.time()
        if total:
            elapsed = now - self.start_time
            line = f"{msg}: {elapsed:.2f}s, {elapsed / 60:.1f} min"
        else:
            line = f"{msg}: {format_time(now - self.last_time)}"
        sys.stderr.write(f"{line}\n")
        if self.logfile is not None:
            self._write(os.fspath(self.logfile), "a", f"{line}\n")
        self.last_time = time.time()

    def _begin_file(self, path: str) -> None:
        os.makedirs(os.path.dirname(path) or os.curdir, exist_ok=True)
        if os.path.exists(path):
            self._keep_old(path)
        self._write(path, "w", f"\nLogging joblib python script\n\n---{time.ctime(self.last_time)}---\n")

    def _keep_old(self, path: str) -> None:
        """Shift the numbered files and copy the newest: a program that follows the file must not lose it."""
        import shutil

        try:
            for number in range(N_OLD_LOGS - 1, 0, -1):
                if os.path.exists(f"{path}.{number}"):
                    os.replace(f"{path}.{number}", f"{path}.{number + 1}")
            shutil.copy(path, f"{path}.1")
        except OSError as error:
            self._complain(path, error)

    def _write(self, path: str, mode: str, text: str) -> None:
        try:
            with open(path, mode, encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            self._complain(path, error)

    @staticmethod
    def _complain(path: str, error: OSError) -> None:
        import warnings

        warnings.warn(f"PrintTime could not write {path}: {error}", RuntimeWarning, stacklevel=4)
