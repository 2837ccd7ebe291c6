"""What joblib and multiprocessing leave behind is not our business: let it go before the guard around each test looks."""

import gc

import pytest


@pytest.fixture(autouse=True)
def pools_are_collected(nothing_left_behind):
    yield
    gc.collect()  # pools of theirs lie in reference cycles, and hold descriptors
