"""Shared arrays: ordinary arrays that worker processes write to."""

import gc
import os

import numpy as np
import pytest

from fastpar import Parallel, delayed
from fastpar.arrays import shared_array, shared_empty


def fill(out, i, value):
    out[i] = value


def look(array):
    return type(array).__name__, array.flags.writeable, array.tolist()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["f8", "i2", ">u4", "c16", [("a", "i4"), ("b", "f8")]])
def test_it_is_an_ordinary_array(order, dtype):
    array = shared_empty((3, 4), dtype, order)
    expected = np.zeros((3, 4), dtype, order)
    assert array.strides == expected.strides and array.dtype == expected.dtype
    np.testing.assert_array_equal(array, expected)


def test_what_workers_write_is_seen_here():
    out = shared_empty((6, 5), int)
    Parallel(2, "processes")(delayed(fill)(out, i, i) for i in range(6))
    assert out.tolist() == [[i] * 5 for i in range(6)]


def test_what_is_written_here_is_seen_there_and_views_are_shared_too():
    array = shared_array(np.arange(12.0).reshape(3, 4))
    with Parallel(2, "processes") as parallel:
        for value in (1.0, 2.0):
            array[1] = value
            found = parallel([delayed(look)(array[1]), delayed(look)(array[::2, ::-1])])
            assert found == [("ndarray", True, [value] * 4), ("ndarray", True, array[::2, ::-1].tolist())]
        parallel([delayed(fill)(array[:, 1:], 2, -1), delayed(abs)(1)])
    assert array[2].tolist() == [8.0, -1, -1, -1]


def test_its_memory_and_descriptor_go_with_it():
    n_fds = len(os.listdir("/proc/self/fd"))
    array = shared_empty(1000)
    view = array[3:]
    del array
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == n_fds + 1
    view[:] = 1
    del view
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == n_fds


def test_objects_cannot_be_shared():
    with pytest.raises(TypeError, match="object"):
        shared_empty(3, object)


def test_empty_and_scalar_shapes():
    assert shared_empty(0).shape == (0,)
    assert shared_array(5.0).shape == ()
