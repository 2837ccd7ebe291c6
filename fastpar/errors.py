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


class PersistError(FastparError):
    """A file could not be written or read by `dump` or `load`."""


class ForeignFileError(PersistError, ValueError):
    """The file was written neither by fastpar nor by joblib or pickle."""


class CorruptFileError(PersistError, ValueError):
    """The file's content does not match its checksums or breaks its format."""


class TruncatedFileError(CorruptFileError, EOFError):
    """The file ends before its content does."""


class NewerFileError(PersistError, ValueError):
    """The file has a format that this version of fastpar does not know yet."""


class UntrustedFileError(PersistError, ValueError):
    """The file names a global that `load(trusted=False)` refuses; the message names it."""


class CodecUnavailableError(PersistError, ValueError):
    """The compressor exists, but its package is not installed, or it is not registered."""


class MemoryWriteWarning(UserWarning):
    """A result could not be stored. It was returned all the same, and will be computed again."""


class JobLibCollisionWarning(UserWarning):
    """Two functions that the cache cannot tell apart share their results."""
