"""What the pools of joblib and of multiprocessing leave behind is not our business: it goes before the guard looks."""

import gc
import threading

import pytest


@pytest.fixture(autouse=True)
def pools_of_others_end(nothing_left_behind, request):
    before = set(threading.enumerate())
    yield
    callspec = getattr(request.node, "callspec", None)
    if callspec is None or (callspec.params.get("library") == "fastpar" and "backends" not in request.node.name):
        return
    for thread in set(threading.enumerate()) - before:
        if not thread.name.startswith("fastpar-"):
            thread.join(5)
    gc.collect()  # they lie in reference cycles, and hold descriptors
