"""The exceptions and warnings that fastpar itself raises.

A task's own exception always arrives as itself; the types here are for what goes wrong around the tasks.
"""

from __future__ import annotations


class FastparError(Exception):
    """Base class of the errors that fastpar raises on its own account."""


class BackendUnavailableError(FastparError, ValueError):
    """The requested backend is known, but cannot be used here: not built yet, or its package is missing."""


class CallInProgressError(FastparError, RuntimeError):
    """A `Parallel` object was called while an earlier call of the same object had not ended."""


class ForkedRunError(FastparError, RuntimeError):
    """A run was continued in a child made by `os.fork`: its workers exist in the parent process only."""


class UnhashableError(FastparError, TypeError):
    """`fastpar.hash` met an object that has no value to hash; the message names the path to it."""
