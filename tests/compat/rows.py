"""The table: behaviours that joblib and fastpar share, and those in which they differ on purpose.

A row is a function of the library, `joblib` or `fastpar`, that returns something comparable. `same` gives the value
that both have to return, `differs` one for each, and the reason.
"""

import contextlib
import importlib
import re

import pytest

with contextlib.suppress(ImportError):
    import joblib.parallel  # noqa: F401 -- now, for it changes the environment: the guard around each test compares

LIBRARIES = ("joblib", "fastpar")


class Table:
    """The rows of one file, to be turned into tests."""

    def __init__(self):
        self._rows = []

    def same(self, expected):
        """Both libraries return `expected`."""
        return lambda row: self._add(row, dict.fromkeys(LIBRARIES, expected))

    def differs(self, *, joblib, fastpar, why):
        """Each library returns its own value, and `why` is the reason."""
        assert joblib != fastpar and why
        return lambda row: self._add(row, {"joblib": joblib, "fastpar": fastpar})

    def _add(self, row, expected):
        self._rows.append((row, expected))
        return row

    def tests(self):
        """One test for each row and library."""
        return pytest.mark.parametrize(
            ("row", "library", "expected"),
            [
                pytest.param(row, library, expected[library], id=f"{row.__name__}-{library}")
                for row, expected in self._rows
                for library in LIBRARIES
            ],
        )


def check(row, library, expected):
    """Run a row; it is skipped where its library is not installed."""
    pytest.importorskip(library)
    assert row(importlib.import_module(library)) == expected


def raised(call, *types):
    """The name of the first of `types` that describes what `call` raises; None if it raises nothing."""
    try:
        call()
    except BaseException as error:  # looked at, not swallowed
        return next((kind.__name__ for kind in types if isinstance(error, kind)), f"another: {error!r}")
    return None


def without_times(text):
    """Messages without what no two runs share: durations, and the name of the package."""
    text = re.sub(r"\d+\.\d+(s|min)", "T", text)
    return [" ".join(line.split()) for line in text.splitlines()]
