"""What tasks say beside their results: log records, warnings, and text for stdout and stderr.

A worker sends each note on its channel as it comes, so before the result of the task; `scribe.Scribe` writes them. The
thread that called `Parallel` hands them on: a record to the logger of its name, a warning to the caller's filters, text
to the caller's stream. What nobody there would handle is not sent, and where the caller's streams are the descriptors
that workers have inherited, text is not sent either: it is written.
"""

from __future__ import annotations

import _pickle as pickle  # the C half: the other takes milliseconds to import
import sys
from collections import namedtuple

from fastpar.engines.processes.packing import unpack
from fastpar.engines.processes.reports import restore_error

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from typing import Any

#: A level that no record has.
NOBODY = 1 << 30

#: In a worker: what its caller has said of loggers, by name.
heeded: dict[str, LoggerRule] = {}

#: Warnings that came from modules which are not there, as `warnings` registers them.
_shown: dict[Any, Any] = {}


class LoggerRule(namedtuple("LoggerRule", ["level", "threshold", "propagate", "disabled"])):
    """What the caller has set for a logger.

    Attributes
    ----------
    level : int
        The logger's own; 0: that of its parent.
    threshold : int or None
        The least level that one of its handlers wants; None: it has no handlers.
    propagate, disabled : bool
        The logger's own.
    """

    __slots__ = ()


class Wanted(namedtuple("Wanted", ["loggers", "disabled_level", "last_resort", "streams"])):
    """Which notes the caller wants.

    Attributes
    ----------
    loggers : dict or None
        By name, a `LoggerRule` for each logger that was set up; None where nobody has imported logging.
    disabled_level : int
        What `logging.disable` was told.
    last_resort : int
        The least level that is shown where there are no handlers at all.
    streams : tuple of str
        Of "stdout" and "stderr", those that workers have to send text for.
    """

    __slots__ = ()


def wanted() -> Wanted:
    """Which notes this process wants of its workers. Also writes out what its streams hold back: that came first."""
    streams = _replaced_streams()
    logging = sys.modules.get("logging")
    if logging is None or not hasattr(logging, "captureWarnings"):  # the last that it defines: it is being imported
        return Wanted(None, 0, NOBODY, streams)
    kind, rules = logging.Logger, {"root": _rule_of(logging.root)}
    for name, logger in logging.root.manager.loggerDict.copy().items():
        if isinstance(logger, kind) and (
            logger.level or logger.handlers or logger.disabled or not logger.propagate or name in heeded
        ):
            rules[name] = _rule_of(logger)
    last_resort = NOBODY if logging.lastResort is None else logging.lastResort.level
    return Wanted(rules, logging.root.manager.disable, last_resort, streams)


def _replaced_streams() -> tuple[str, ...]:
    """Those standard streams that are not what the interpreter began with, on the descriptors that workers inherit."""
    replaced: tuple[str, ...] = ()
    for name, stream, original in (("stdout", sys.stdout, sys.__stdout__), ("stderr", sys.stderr, sys.__stderr__)):
        if stream is not original:
            replaced += (name,) if stream is not None else ()
        elif stream is not None:
            try:
                stream.flush()
            except (OSError, ValueError):  # it is closed
                continue
    return replaced


def _rule_of(logger: Any) -> LoggerRule:
    levels = [handler.level for handler in logger.handlers if type(handler).__name__ != "NullHandler"]
    if logger.name in heeded and heeded[logger.name].threshold is not None:
        levels.append(heeded[logger.name].threshold)  # in a worker: the handlers are those of its own caller
    threshold = min(levels, default=NOBODY) if levels or logger.handlers else None
    return LoggerRule(logger.level, threshold, logger.propagate, logger.disabled)


def hear(message: tuple[tuple[int, ...], bytes, list[int]], pid: int, index: int | None) -> None:
    """Hand a note on.

    Parameters
    ----------
    message : tuple
        Numbers, body and descriptors.
    pid : int
        Of the worker.
    index : int or None
        Of the task that was running.
    """
    numbers, body, fds = message
    pickled, buffers = unpack(body, fds) if numbers[2] else (body, [])
    kind, content = pickle.loads(pickled, buffers=buffers)
    if kind == "record":
        _hear_record(content, pid, index)
    elif kind == "warning":
        _hear_warning(*content)
    else:
        stream = getattr(sys, kind)
        if stream is not None:
            stream.write(content)


def _hear_record(attributes: dict[str, Any], pid: int, index: int | None) -> None:
    import logging

    if attributes["exc_info"]:
        error = restore_error(attributes["exc_info"])
        attributes["exc_info"] = type(error), error, None
    record = logging.makeLogRecord({**attributes, "worker_pid": pid, "task_index": index})
    logging.getLogger(record.name).handle(record)


def _hear_warning(message: Any, category: type[Warning], filename: str, lineno: int, module: str | None) -> None:
    """As if it had been given here: the filters decide, and once per place is once for all workers."""
    import warnings

    where = sys.modules.get(module or "")
    registry = _shown if where is None else vars(where).setdefault("__warningregistry__", {})
    warnings.warn_explicit(message, category, filename, lineno, module, registry)
