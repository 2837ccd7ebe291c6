"""The worker's half of `notes`: what tasks log, warn of and print, written down for the caller."""

from __future__ import annotations

import sys
import warnings
from _thread import RLock
from contextlib import suppress

from fastpar._core.segments import IDLE
from fastpar.engines.processes import protocol
from fastpar.engines.processes.notes import NOBODY, LoggerRule, Wanted, heeded
from fastpar.engines.processes.packing import Stock, pack
from fastpar.engines.processes.pickling import dumps
from fastpar.engines.processes.reports import describe_error

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from typing import Any, TextIO

    from fastpar._core.channel import Channel
    from fastpar._core.segments import Board

#: Text that does not end a line is sent when there is so much of it; else with the results.
MAX_PENDING = 1 << 13

#: A logger that nobody has set up.
PLAIN = LoggerRule(0, None, True, False)


class Scribe:
    """Writes notes for the caller. Any thread of a task may enter.

    Parameters
    ----------
    channel : Channel
        Where they go.
    board : Board
        Which tells the running task.
    """

    def __init__(self, channel: Channel, board: Board) -> None:
        self._channel = channel
        self._board = board
        self._last_resort = NOBODY
        for stream in (sys.__stdout__, sys.__stderr__):
            with suppress(AttributeError):  # there is none
                stream.reconfigure(line_buffering=True, write_through=False)  # type: ignore[union-attr] # whole lines, at once

    def heed(self, wanted: Wanted) -> None:
        """Do as the caller wants from now on."""
        for name in ("stdout", "stderr"):
            original = getattr(sys, f"__{name}__")
            setattr(sys, name, Tube(self, name, original) if name in wanted.streams else original)
        warnings.showwarning = self._note_warning
        if wanted.loggers is not None:
            self._heed_loggers(wanted)

    def _heed_loggers(self, wanted: Wanted) -> None:
        import logging

        def call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
            self._handle(logger, record)

        logging.Logger.callHandlers = call_handlers  # type: ignore[method-assign, assignment]
        logging.disable(wanted.disabled_level)
        self._last_resort = wanted.last_resort
        for name, rule in {**dict.fromkeys(heeded, PLAIN), **wanted.loggers}.items():
            logger = logging.getLogger(name)
            logger.setLevel(rule.level)
            logger.propagate, logger.disabled = rule.propagate, rule.disabled
        heeded.clear()
        heeded.update(wanted.loggers)

    def begin_call(self) -> None:
        """What was said once is said again: the caller knows what it has heard."""
        with warnings.catch_warnings():  # which has the registries of all modules looked at anew
            pass

    def _handle(self, logger: Any, record: Any) -> None:
        """Of each logger on the way up, the caller's handlers; where it has none, those that are here."""
        is_wanted = is_found = False
        each = logger
        while each is not None:
            rule = heeded.get(each.name)
            if rule is not None and rule.threshold is not None:
                is_found = True
                is_wanted = is_wanted or record.levelno >= rule.threshold
            else:
                for handler in each.handlers:
                    is_found = True
                    if record.levelno >= handler.level:
                        handler.handle(record)
            each = each.parent if each.propagate else None
        if is_wanted or (not is_found and record.levelno >= self._last_resort):
            self.send("record", _attributes(record))

    def _note_warning(
        self, message: Any, category: Any, filename: str, lineno: int, file: TextIO | None = None, line: Any = None
    ) -> None:
        """In place of `warnings.showwarning`."""
        if file is not None:
            file.write(warnings.formatwarning(message, category, filename, lineno, line))
            return
        self.send("warning", (message, category, filename, lineno, _module_at(filename, lineno)))

    def send(self, kind: str, content: Any) -> None:
        """Send a note. One that cannot be pickled arrives as text."""
        try:
            pickled, buffers = dumps((kind, content))
        except Exception:  # noqa: BLE001 -- whatever the user's classes raise when pickled
            pickled, buffers = dumps((kind, _without_objects(kind, content)))
        parcel = pack(pickled, buffers, Stock(0))
        place, batch = self._board.place, self._board.batch
        numbers = (batch, max(place, IDLE), parcel.is_packed)
        with suppress(ConnectionError):  # nobody is there; the main thread notices
            self._channel.send(protocol.NOTE, numbers, parcel.body, parcel.fds, may_wait=True)

    def flush(self) -> None:
        """Let out what the streams hold back."""
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError, ValueError):  # a task has closed or replaced it
                stream.flush()


def _attributes(record: Any) -> dict[str, Any]:
    """What makes up a record, in a form that can be sent: text for a traceback."""
    attributes = dict(vars(record))
    if record.exc_info and record.exc_info[1] is not None:
        import logging

        attributes["exc_text"] = record.exc_text or logging.Formatter().formatException(record.exc_info)
        attributes["exc_info"] = describe_error(record.exc_info[1])
    else:
        attributes["exc_info"] = None
    return attributes


def _without_objects(kind: str, content: Any) -> Any:
    """The same note of text and numbers only."""
    if kind == "record":
        message = content["msg"] if not content["args"] else str(content["msg"]) % content["args"]
        plain = {name: value if _is_plain(value) else repr(value) for name, value in content.items()}
        return {**plain, "msg": str(message), "args": None, "exc_info": content["exc_info"]}
    message, category, *place = content
    known = next(each for each in category.__mro__ if each.__module__ == "builtins")
    return (str(message), known, *place)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))


def _module_at(filename: str, lineno: int) -> str | None:
    """The name of the module whose code is running there; None if that has no frame."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_lineno == lineno and frame.f_code.co_filename == filename:
            name = frame.f_globals.get("__name__")
            return name if isinstance(name, str) else None
        frame = frame.f_back  # type: ignore[assignment]
    return None


class Tube:
    """A text stream in a worker whose other end is the caller's stream.

    Text is sent by the line. What asks for a descriptor, or for the bytes below, gets those of the worker.

    Parameters
    ----------
    scribe : Scribe
    name : {"stdout", "stderr"}
    original : file or None
        What the worker began with.
    """

    encoding = "utf-8"
    errors = "strict"
    newlines = None
    closed = False
    line_buffering = True

    def __init__(self, scribe: Scribe, name: str, original: Any) -> None:
        self._scribe = scribe
        self._original = original
        self._lock = RLock()  # a signal handler or a __del__ may print while this thread is in here
        self._pending: list[str] = []
        self._n_pending = 0
        self.name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)  # fileno, buffer, ...

    def write(self, text: str) -> int:
        """Take text in; send it if it ends a line."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        with self._lock:
            self._pending.append(text)
            self._n_pending += len(text)
        if "\n" in text or self._n_pending > MAX_PENDING:
            self.flush()
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Take several pieces of text in."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Send what is there."""
        with self._lock:
            pending, self._pending = self._pending, []  # what is printed from here on is the next flush's
            self._n_pending = 0
        text = "".join(pending)
        if text:
            self._scribe.send(self.name, text)

    def isatty(self) -> bool:
        """It is none."""
        return False

    def writable(self) -> bool:
        """It is."""
        return True

    def readable(self) -> bool:
        """It is not."""
        return False

    def seekable(self) -> bool:
        """It is not."""
        return False
