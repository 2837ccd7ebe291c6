# cython: cdivision=True
"""The blur in Cython: the loops as one writes them down, typed, and without the GIL; a row, or all of them on the pool.

Reads the caller's arrays and writes into one that it made itself, so any number of threads may be in here, on
free-threaded interpreters too. NumPy is needed to run this, not to compile it: arrays come in as typed memoryviews.
"""

from libc.math cimport ceil, exp
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memset

import numpy as np

from fastpar._core.pool cimport (
    fp_failure,
    fp_options,
    fp_outcome,
    parallel_for,
    poll_signals,
    raise_outcome,
)

cdef double CUT = 3.0  # as in `scene`: a Gaussian ends at this many widths
cdef enum: MAX_REACH = 255  # the weights of one pixel live on the stack


cdef struct Picture:
    # What a row needs, as C sees it: the rows and planes of C-contiguous arrays.
    const double *padded
    const double *widths
    double *blurred
    Py_ssize_t height, width, margin
    Py_ssize_t blurred_plane  # from one colour to the next


def blur_row(const double[:, :, ::1] padded, const double[:, ::1] widths, Py_ssize_t y):
    """Return row `y` of the blurred image; as `fastpar.demo.rows.blur_row`.

    Raises
    ------
    ValueError
        When there is no such row, or a width in it is not positive, or one reaches beyond the margin.
    """
    cdef Picture picture = describe(padded, widths)
    check_row(&picture, padded, widths, y)
    blurred = np.empty((3, picture.width))
    cdef double[:, ::1] row = blurred
    if picture.width == 0:
        return blurred
    picture.blurred = &row[0, 0]
    picture.blurred_plane = picture.width
    with nogil:
        blur_pixels(&picture, y, picture.blurred)
    return blurred


def blur_image(const double[:, :, ::1] padded, const double[:, ::1] widths, uint32_t n_threads):
    """Return the whole blurred image, its rows shared out among threads without the GIL."""
    cdef Picture picture = describe(padded, widths)
    cdef fp_options options
    cdef fp_failure failure
    cdef fp_outcome outcome
    cdef Py_ssize_t y
    for y in range(picture.height):
        check_row(&picture, padded, widths, y)
    blurred = np.empty((3, picture.height, picture.width))
    cdef double[:, :, ::1] image = blurred
    if blurred.size == 0:
        return blurred
    picture.blurred = &image[0, 0, 0]
    picture.blurred_plane = picture.height * picture.width
    memset(&options, 0, sizeof(options))
    options.n_threads = n_threads
    options.poll = poll_signals
    with nogil:
        outcome = parallel_for(picture.height, blur_row_kernel, &picture, &options, &failure)
    raise_outcome(outcome, &failure)
    return blurred


cdef int blur_row_kernel(int64_t y, void *context) noexcept nogil:
    cdef Picture *picture = <Picture *>context
    blur_pixels(picture, y, picture.blurred + y * picture.width)
    return 0


cdef Picture describe(const double[:, :, ::1] padded, const double[:, ::1] widths) noexcept:
    cdef Picture picture
    memset(&picture, 0, sizeof(picture))
    picture.height, picture.width = widths.shape[0], widths.shape[1]
    picture.margin = (padded.shape[1] - widths.shape[0]) // 2
    if padded.size > 0 and widths.size > 0:
        picture.padded, picture.widths = &padded[0, 0, 0], &widths[0, 0]
    return picture


cdef int check_row(
    const Picture *picture, const double[:, :, ::1] padded, const double[:, ::1] widths, Py_ssize_t y
) except -1:
    cdef Py_ssize_t farthest = min(picture.margin, MAX_REACH)
    if not 0 <= y < picture.height or padded.shape[0] != 3 or padded.shape[2] != picture.width + 2 * picture.margin:
        raise ValueError(f"no row {y} in an image of these shapes")
    if not all_fit(widths[y], farthest):
        raise ValueError(f"the widths of row {y} must be positive and reach no further than {farthest} pixels")
    return 0


cdef void blur_pixels(const Picture *picture, Py_ssize_t y, double *row) noexcept nogil:
    """Row y; noexcept, since the caller has made sure that the windows fit."""
    cdef Py_ssize_t x
    for x in range(picture.width):
        blur_pixel(picture, y, x, picture.widths[y * picture.width + x], row + x)


cdef bint all_fit(const double[::1] widths, Py_ssize_t farthest) noexcept nogil:
    cdef Py_ssize_t x
    for x in range(widths.shape[0]):
        if not 0.0 < CUT * widths[x] <= farthest:  # "not", since NaN is never less
            return False
    return True


cdef void blur_pixel(const Picture *picture, Py_ssize_t y, Py_ssize_t x, double width, double *blurred) noexcept nogil:
    """The mean around (y, x) of the image, whose padding moves every index by the margin."""
    cdef double[2 * MAX_REACH + 1] weights
    cdef Py_ssize_t i, j, reach = <Py_ssize_t>ceil(CUT * width)
    cdef double total = 0.0
    for i in range(2 * reach + 1):
        weights[i] = exp(-0.5 * ((i - reach) / width) ** 2)
        total += weights[i]

    cdef Py_ssize_t line = picture.width + 2 * picture.margin
    cdef Py_ssize_t plane = line * (picture.height + 2 * picture.margin)
    cdef const double *window = picture.padded + (y + picture.margin - reach) * line + x + picture.margin - reach
    cdef double red = 0.0, green = 0.0, blue = 0.0
    cdef double red_across, green_across, blue_across
    for j in range(2 * reach + 1):
        red_across = green_across = blue_across = 0.0
        for i in range(2 * reach + 1):
            red_across += weights[i] * window[i]
            green_across += weights[i] * window[plane + i]
            blue_across += weights[i] * window[2 * plane + i]
        red += weights[j] * red_across
        green += weights[j] * green_across
        blue += weights[j] * blue_across
        window += line

    blurred[0] = red / total**2
    blurred[picture.blurred_plane] = green / total**2
    blurred[2 * picture.blurred_plane] = blue / total**2
