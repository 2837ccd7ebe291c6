"""One row of the blur in NumPy: two sums of products, which take nearly all of its time and run without the GIL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastpar.demo.scene import CUT

if TYPE_CHECKING:
    from fastpar.demo.scene import Array


def blur_row(padded: Array, widths: Array, y: int) -> Array:
    """Return row `y` of the blurred image.

    Parameters
    ----------
    padded : ndarray of float64, shape (3, height + 2 * margin, width + 2 * margin)
        The image with a margin; see `Scene`.
    widths : ndarray of float64, shape (height, width)
        Standard deviation of the Gaussian at each pixel, in pixels.
    y : int
        Which row.

    Returns
    -------
    ndarray of float64, shape (3, width)
        Each pixel the mean of its neighbours within `CUT` widths, weighted by its own Gaussian.
    """
    reach = int(np.ceil(CUT * widths[y].max()))
    margin = (padded.shape[1] - widths.shape[0]) // 2
    weights = _weights(widths[y], reach)

    sides = slice(margin - reach, padded.shape[2] - margin + reach)
    strip = padded[:, y + margin - reach : y + margin + reach + 1, sides]
    windows = sliding_window_view(strip, 2 * reach + 1, axis=2)
    across = np.einsum("cjxi,xi->cjx", windows, weights)  # c: colour, x: pixel, i and j: its window
    blurred: Array = np.einsum("cjx,xj->cx", across, weights)
    return blurred


def _weights(widths: Array, reach: int) -> Array:
    """The Gaussian of each pixel along one axis, cut off and of sum 1: shape (pixels, 2 * reach + 1)."""
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / widths[:, None]) ** 2)
    weights[np.abs(offsets) > np.ceil(CUT * widths)[:, None]] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    return weights
