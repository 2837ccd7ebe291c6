"""What is blurred: the photograph, the width of the Gaussian at each of its pixels, and both as the rows need them.

The photograph is the official US Navy portrait of Grace Hopper, who gave us the compiler. It is in the public domain
(Wikimedia Commons, File:Grace_Hopper.jpg, as the file itself says) and comes with matplotlib as `grace_hopper.jpg`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastpar.demo.errors import DemoError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

CREDIT = "official US Navy portrait of Grace Hopper, public domain, shipped with matplotlib"

MISSING = 'the demo needs matplotlib, for its photograph and its chart: pip install "fastpar[demo]"'

#: A Gaussian is cut off at this many widths, where it is a ninetieth of its peak.
CUT = 3.0

#: Widths in pixels of the full photograph: of the face, which stays sharp, and of the corners.
SHARPEST, WIDEST = 0.3, 16.0
#: The middle of the face and the half axes of its ellipse, as fractions of height and width.
FACE, FACE_AXES = (0.38, 0.52), (0.24, 0.25)
#: How far from the middle the width stops growing, in half axes.
FAR = 2.4


@dataclass(frozen=True)
class Scene:
    """A picture ready to be blurred, row by row.

    Attributes
    ----------
    image : ndarray of float64, shape (3, height, width)
        Red, green and blue planes, from 0 to 1.
    widths : ndarray of float64, shape (height, width)
        Standard deviation of the Gaussian at each pixel, in pixels.
    padded : ndarray of float64, shape (3, height + 2 * margin, width + 2 * margin)
        The image with its border pixels repeated outwards, as far as the widest Gaussian reaches.
    """

    image: Array
    widths: Array
    padded: Array

    @classmethod
    def of(cls, image: Array, widths: Array) -> Scene:
        """Return the scene of an image and its widths."""
        margin = int(np.ceil(CUT * widths.max()))
        padded = np.pad(image, ((0, 0), (margin, margin), (margin, margin)), mode="edge")
        return cls(image, np.ascontiguousarray(widths), padded)

    @property
    def n_rows(self) -> int:
        """Rows of the image: the tasks of the demo."""
        return len(self.widths)


def portrait(*, quick: bool = False) -> Scene:
    """Return the demo's scene: the portrait, sharp at the face and ever softer away from it.

    Parameters
    ----------
    quick : bool
        Halve both sides, and the widths with them: a sixteenth of the work.

    Raises
    ------
    DemoError
        Without matplotlib.
    """
    shrink = 2 if quick else 1
    image = photograph(shrink)
    return Scene.of(image, focus_widths(*image.shape[1:]) / shrink)


def photograph(shrink: int = 1) -> Array:
    """Return the photograph as planes of colour, each pixel the mean of `shrink` x `shrink` pixels of the file.

    Raises
    ------
    DemoError
        Without matplotlib.
    """
    try:
        from matplotlib.cbook import get_sample_data
        from matplotlib.image import imread
    except ImportError as error:
        raise DemoError(MISSING) from error
    pixels = imread(get_sample_data("grace_hopper.jpg", asfileobj=False))
    planes = np.moveaxis(pixels, 2, 0) / 255.0
    height, width = (side // shrink for side in planes.shape[1:])
    blocks = planes[:, : height * shrink, : width * shrink].reshape(3, height, shrink, width, shrink)
    return np.ascontiguousarray(blocks.mean(axis=(2, 4)))


def focus_widths(height: int, width: int) -> Array:
    """Return the width of the Gaussian at each pixel: least in an ellipse around the face, growing smoothly away."""
    y = (np.linspace(0, 1, height)[:, None] - FACE[0]) / FACE_AXES[0]
    x = (np.linspace(0, 1, width)[None, :] - FACE[1]) / FACE_AXES[1]
    distance = np.clip((np.hypot(y, x) - 1) / (FAR - 1), 0, 1)
    return SHARPEST + (WIDEST - SHARPEST) * distance**2 * (3 - 2 * distance)
