"""The error of the demo, whose message is all that a user sees of it."""

from __future__ import annotations

from fastpar.errors import FastparError


class DemoError(FastparError):
    """The demo cannot go on: something is missing, a file cannot be written, or two results differ."""
