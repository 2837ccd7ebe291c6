"""Waiting for what happens elsewhere: in threads and processes that a test cannot ask."""

import os
import time


def wait_until(condition, seconds=10.0):
    """Look until the condition holds; an error where it does not after so long, on a machine that may be busy."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        os.sched_yield()


def is_gone(pid):
    """Whether a process has ended, be it that nobody has waited for it yet ("Z"), or is just doing so ("X")."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return True
