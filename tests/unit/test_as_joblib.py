"""fastpar in the place of joblib, also where joblib is not installed: each test is a program, since it stays there."""

import pytest

import fastpar


def test_names_and_modules(python):
    python.out(
        """
import fastpar.as_joblib
import importlib.util, joblib, joblib.parallel
from joblib.logger import Logger
from joblib import *
assert all(getattr(joblib, name) is getattr(fastpar, name) for name in fastpar.__all__)
assert joblib.parallel is fastpar.parallel and Logger is fastpar.Logger and Memory is fastpar.Memory
assert importlib.util.find_spec("joblib").name == "joblib"
assert tuple(map(int, joblib.__version__.split("."))) >= (1, 6)
"""
    )


def test_workers_find_it_too(python):
    found = python.out(
        """
import fastpar.as_joblib
from joblib import Parallel, delayed

def task(n):
    import joblib
    return joblib.Parallel.__module__, joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(-x) for x in range(n))

print(Parallel(n_jobs=2)(delayed(task)(3) for _ in range(2)))
"""
    )
    assert found == f"{[(fastpar.Parallel.__module__, [0, 1, 2])] * 2}\n"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.modules['joblib'] = sys; import fastpar.as_joblib", "import fastpar.as_joblib before"),
        ("import fastpar.as_joblib, joblib.pool", "'joblib' is not a package"),
        ("import fastpar.as_joblib; from joblib import pool", "cannot import name 'pool' from 'joblib'"),
    ],
)
def test_what_is_not_there_is_said(python, code, message):
    done = python.run("-c", code)
    assert done.returncode == 1
    assert message in done.stderr
