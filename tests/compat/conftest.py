"""What joblib leaves behind is not our business: let it go before the guard around each test looks."""

import gc

import pytest


@pytest.fixture(autouse=True)
def joblib_cleans_up(nothing_left_behind, request):
    yield
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and callspec.params.get("library") == "joblib":
        gc.collect()  # its pools lie in reference cycles, and hold descriptors
