"""Guards around every test: nothing hangs, nothing is left behind, randomness can be repeated.

Hangs are pytest-timeout's and faulthandler's business (pyproject.toml): all stacks are printed, then the test fails.
"""

import gc
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from snapshot import Snapshot, settle, wait_for_threads

import fastpar

SEED = int(os.environ.get("FASTPAR_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)

#: Where the fastpar under test was found: what the interpreters that tests start shall import too.
FOUND_IN = str(Path(fastpar.__file__).parent.parent)

#: A machine that is busy with something else must not fail a test: the hang guard is the only deadline.
settings.register_profile("fastpar", deadline=None, max_examples=150)
settings.load_profile("fastpar")

np.dot(np.ones((256, 256)), np.ones((256, 256)))  # BLAS starts its threads at first use: before any test looks


def pytest_configure(config):
    if config.getoption("hypothesis_seed", default=None) is None:
        config.option.hypothesis_seed = str(SEED)


def pytest_report_header():
    return f"seed: {SEED} (FASTPAR_TEST_SEED={SEED} repeats it), fastpar from {FOUND_IN}"


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """Fail a test that leaves a thread, child, descriptor, segment, run, limit or setting changed."""
    before = Snapshot.take()
    yield
    left = what_is_left(before)
    if left and gc.collect():  # what is in reference cycles may stay until the collector comes
        left = what_is_left(before)
    assert not left, "\n".join(left)


def what_is_left(before):
    settle()
    wait_for_threads(before.native_threads)
    return before.changes(Snapshot.take())


@pytest.fixture
def rng(request):
    """Random numbers that the printed seed repeats, for this test alone."""
    return random.Random(f"{SEED} {request.node.nodeid}")


class Python:
    """Starts interpreters that import the fastpar under test."""

    def __init__(self, directory):
        self.directory = directory
        self.environment = {**os.environ, "PYTHONPATH": FOUND_IN, "PYTHONFAULTHANDLER": "1"}
        self.started = []

    def run(self, *arguments, stdin=None, timeout_s=60, env=None):
        """Run to the end; the completed process, with its output as text."""
        return subprocess.run(
            [sys.executable, *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            cwd=self.directory,
            env={**self.environment, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def out(self, code, **options):
        """Output of a program that must end well and say nothing on stderr."""
        done = self.run("-c", code, **options)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        return done.stdout

    def start(self, code):
        """Start a program and talk to it through pipes; it does not outlive the test."""
        program = subprocess.Popen(
            [sys.executable, "-u", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.directory,
            env=self.environment,
            text=True,
        )
        self.started.append(program)
        return program

    def end(self):
        """Kill what was started and still runs."""
        for program in self.started:
            program.kill()
            with program:
                program.wait()


@pytest.fixture
def python(tmp_path):
    """Interpreters beside this one, in a directory of their own."""
    python = Python(tmp_path)
    yield python
    python.end()
