"""Where segments are made, and what becomes of one for which there is no room.

Anonymous memory by default, which no file system bounds; the user's folder where one is named, by ``temp_folder=`` or
JOBLIB_TEMP_FOLDER: a file there, without a name. Then the other of the two if it is there, /dev/shm, and the system's
folder for temporary files.
"""

from __future__ import annotations

import os

from fastpar._core.segments import Segment

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from typing import Any

#: Of joblib.
FOLDER_VARIABLE = "JOBLIB_TEMP_FOLDER"

#: What has been warned of in this process: once is enough.
_told: set[str] = set()


def find_folder(wanted: Any) -> str | None:
    """The folder that a user has named; it is made if it is not there.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    folder = wanted or os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return None
    path = os.path.abspath(folder)
    os.makedirs(path, exist_ok=True)
    return path


def make_segment(size: int, folder: str | None) -> Segment:
    """A new segment in `folder`, or in memory; where that has no room for it, in the next place that has.

    Raises
    ------
    MemoryError
        If no place has.
    """
    try:
        return Segment.create(size, folder)
    except OSError as error:
        reason = error.strerror
    for place in _fallbacks(folder):
        try:
            segment = Segment.create(size, place)
        except OSError:
            continue
        _tell(f"{_name(folder)} has no room ({reason}): {_name(place)} is used instead")
        return segment
    places = ", ".join(_name(place) for place in (folder, *_fallbacks(folder)))
    raise MemoryError(f"no room for {size} bytes in any of {places}: set temp_folder= to a folder with room") from None


def _fallbacks(folder: str | None) -> list[str | None]:
    import tempfile

    return [place for place in (None, "/dev/shm", tempfile.gettempdir()) if place != folder]


def _name(place: str | None) -> str:
    return "shared memory" if place is None else place


def _tell(text: str) -> None:
    if text not in _told:
        _told.add(text)
        import warnings

        message = f"{text}. Set temp_folder= or {FOLDER_VARIABLE} to a folder with more room"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
