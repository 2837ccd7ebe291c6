"""The run loop alone, on runs that change between two looks at them."""

import pytest

from fastpar.runloop import stream


class Counts:
    n_pulled = 0


class FailsBetweenTwoLooks:
    """A run whose only task fails just after somebody has looked for a failure in vain."""

    room = 0
    has_next = False
    is_hungry = False
    reports = False
    counts = Counts()

    def __init__(self):
        self._has_failed = False

    @property
    def is_open(self):
        return not self._has_failed

    @property
    def failure(self):
        found = (ValueError("late"), 0, None) if self._has_failed else None
        self._has_failed = True
        return found

    def pop(self, missing):
        return missing


class Session:
    def __init__(self):
        self.run = FailsBetweenTwoLooks()

    def step(self, timeout_ns):
        assert timeout_ns < 0


def test_a_failure_between_two_looks_is_raised():
    results = stream(Session(), None, None)
    assert next(results) is None
    with pytest.raises(ValueError, match="late"):
        next(results)
