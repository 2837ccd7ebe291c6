"""What the loops compute, against NumPy."""

import loops
import numpy as np

from fastpar import KernelError


def test_distances():
    x, y = np.random.default_rng(0).random((2, 1_000_000))
    np.testing.assert_allclose(loops.distances(x, y), np.hypot(x, y))


def test_an_error_has_an_index():
    x = np.ones(100_000)
    x[70_000] = np.nan
    try:
        loops.distances(x, x)
    except KernelError as error:
        assert (error.index, error.code) == (70_000, 1)
    else:
        raise AssertionError("no error")


def test_total():
    values = np.random.default_rng(0).random(1_000_003)
    assert loops.total(values) == loops.total(values)
    np.testing.assert_allclose(loops.total(values), values.sum())


if __name__ == "__main__":
    test_distances()
    test_an_error_has_an_index()
    test_total()
    print("ok")
