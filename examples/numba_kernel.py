"""A numba function as a kernel: compiled once, then mapped and looped over without the GIL or numba's own threads.

    pip install fastpar numba
    python numba_kernel.py
"""

import numpy as np
from numba import carray, cfunc, types

from fastpar.kernels import kernel, kernel_map, parallel_for

N = 100_000


@cfunc("float64(float64, float64)")
def wave(x, y):
    return np.sin(x) * np.exp(-y * y)


@cfunc(types.int32(types.int64, types.voidptr))
def collatz(i, lengths):
    n, turns = i + 1, 0
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        turns += 1
    carray(lengths, (N,), np.int64)[i] = turns
    return 0


def main():
    x, y = np.random.default_rng(0).random((2, 1_000_000))
    np.testing.assert_allclose(kernel_map(wave, x, y), np.sin(x) * np.exp(-y * y))
    lengths = np.zeros(N, np.int64)
    parallel_for(kernel(collatz), N, lengths)  # the longest take ten times as long as the shortest
    assert lengths[26] == 111
    print(f"longest: {lengths.max()} steps, from {lengths.argmax() + 1}")


if __name__ == "__main__":
    main()
