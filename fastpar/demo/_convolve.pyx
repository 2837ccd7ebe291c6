# cython: cdivision=True
"""One row of the blur in Cython: the loops as one writes them down, typed, and without the GIL.

Reads the caller's arrays and writes into one that it made itself, so any number of threads may be in here, on
free-threaded interpreters too. NumPy is needed to run this, not to compile it: arrays come in as typed memoryviews.
"""

from libc.math cimport ceil, exp

import numpy as np

cdef double CUT = 3.0  # as in `scene`: a Gaussian ends at this many widths
cdef enum: MAX_REACH = 255  # the weights of one pixel live on the stack


def blur_row(const double[:, :, ::1] padded, const double[:, ::1] widths, Py_ssize_t y):
    """Return row `y` of the blurred image; as `fastpar.demo.rows.blur_row`.

    Raises
    ------
    ValueError
        When there is no such row, or a width in it is not positive, or one reaches beyond the margin.
    """
    cdef Py_ssize_t x, width = widths.shape[1], margin = (padded.shape[1] - widths.shape[0]) // 2
    if not 0 <= y < widths.shape[0] or padded.shape[0] != 3 or padded.shape[2] != width + 2 * margin:
        raise ValueError(f"no row {y} in an image of these shapes")
    if not all_fit(widths[y], min(margin, MAX_REACH)):
        raise ValueError(f"the widths of row {y} must be positive and reach no further than {min(margin, MAX_REACH)} pixels")
    blurred = np.empty((3, width))
    cdef double[:, ::1] row = blurred
    with nogil:
        for x in range(width):
            blur_pixel(padded, y + margin, x + margin, widths[y, x], row[:, x])
    return blurred


cdef bint all_fit(const double[::1] widths, Py_ssize_t farthest) noexcept nogil:
    cdef Py_ssize_t x
    for x in range(widths.shape[0]):
        if not 0.0 < CUT * widths[x] <= farthest:  # "not", since NaN is never less
            return False
    return True


cdef void blur_pixel(
    const double[:, :, ::1] padded, Py_ssize_t y, Py_ssize_t x, double width, double[:] blurred
) noexcept nogil:
    """The mean around (y, x) of the padded image; noexcept, since the caller has made sure that the window fits."""
    cdef double[2 * MAX_REACH + 1] weights
    cdef Py_ssize_t i, j, reach = <Py_ssize_t>ceil(CUT * width)
    cdef double total = 0.0
    for i in range(2 * reach + 1):
        weights[i] = exp(-0.5 * ((i - reach) / width) ** 2)
        total += weights[i]

    cdef double red = 0.0, green = 0.0, blue = 0.0
    cdef double red_across, green_across, blue_across
    for j in range(2 * reach + 1):
        red_across = green_across = blue_across = 0.0
        for i in range(2 * reach + 1):
            red_across += weights[i] * padded[0, y - reach + j, x - reach + i]
            green_across += weights[i] * padded[1, y - reach + j, x - reach + i]
            blue_across += weights[i] * padded[2, y - reach + j, x - reach + i]
        red += weights[j] * red_across
        green += weights[j] * green_across
        blue += weights[j] * blue_across

    blurred[0] = red / total**2
    blurred[1] = green / total**2
    blurred[2] = blue / total**2
