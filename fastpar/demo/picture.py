"""The picture of the demo: what went in, what came out, and how long it took. And the file that it goes to."""

from __future__ import annotations

import os
import tempfile
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastpar.demo.errors import DemoError
from fastpar.demo.scene import CREDIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastpar.demo.race import Finish
    from fastpar.demo.scene import Array, Scene

DEFAULT_NAME = "fastpar-demo.png"

SERIAL_COLOUR, PARALLEL_COLOUR, TEXT_COLOUR, FAINT_COLOUR = "#b4bcc8", "#1f6feb", "#1b1f24", "#667080"
TIMES = "\N{MULTIPLICATION SIGN}"


def destination(asked_for: Path | None, directory: Path | None = None) -> Path:
    """Return where the picture will go, having made sure that a file can be written there.

    Parameters
    ----------
    asked_for : Path or None
        The user's wish, taken as it is, even if such a file exists. None is the first free name of
        fastpar-demo.png, fastpar-demo-2.png, ...
    directory : Path, optional
        Where the free name is looked for; the current directory by default.

    Raises
    ------
    DemoError
        When nothing can be written there. Better now than after the work.
    """
    path = asked_for or _free_name((directory or Path.cwd()) / DEFAULT_NAME)
    if path.is_dir():
        raise DemoError(f"{path} is a directory: give --out the name of a file in it")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            return path
    except OSError as error:
        raise _unwritable(path, error) from error


def _free_name(path: Path) -> Path:
    names = (path if n == 1 else path.with_stem(f"{path.stem}-{n}") for n in count(1))
    return next(name for name in names if not name.exists())


def _unwritable(path: Path, error: OSError) -> DemoError:
    return DemoError(f"cannot write {path} ({error.strerror}): name a place for the picture with --out")


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG. The file appears whole or not at all.

    Raises
    ------
    DemoError
        When it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        figure.savefig(part, format="png", dpi=150)
        part.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        part.unlink(missing_ok=True)


def draw(scene: Scene, finishes: Sequence[Finish], n_workers: int, setting: str) -> Figure:
    """Return the picture: the photograph with the widths, the blurred photograph, and a bar for each contender.

    Parameters
    ----------
    scene : Scene
        What was blurred.
    finishes : sequence of Finish
        How it went; the output shown is that of the last.
    n_workers : int
        Workers of the parallel contenders.
    setting : str
        What ran where, for the small print.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    height, width = scene.widths.shape
    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.1, rect=(0, 0.05, 1, 0.95))  # the rest is for the footnote
    figure = Figure(figsize=(15, 6), layout=layout, facecolor="white")  # not pyplot: the user's figures are not ours
    before, after, times = figure.subplots(1, 3, width_ratios=[1, 1, 1.35])
    figure.suptitle(
        "A Gaussian blur whose width changes from pixel to pixel: "
        f"standard deviation {scene.widths.min():.2g} to {scene.widths.max():.2g} pixels",
        fontsize=16,
        color=TEXT_COLOUR,
    )
    _show(before, scene.image, f"Input, {width} {TIMES} {height} pixels, and the widths")
    _show_widths(before, scene.widths)
    _show(after, finishes[-1].image, "Output")
    _show_times(times, finishes, n_workers)
    figure.text(0.5, 0.02, f"{setting}. Photograph: {CREDIT}.", ha="center", fontsize=9, color=FAINT_COLOUR)
    return figure


def _show(axes: Axes, image: Array, title: str) -> None:
    axes.imshow(np.clip(np.moveaxis(image, 0, 2), 0.0, 1.0))
    axes.set_title(title, fontsize=13, color=TEXT_COLOUR, pad=10)
    axes.set_axis_off()
    axes.set_anchor("N")  # its title level with those beside it


def _show_widths(axes: Axes, widths: Array) -> None:
    """Lines of equal width over the photograph."""
    levels = [fraction * widths.max() for fraction in (1 / 16, 1 / 4, 1 / 2, 3 / 4)]
    lines = axes.contour(widths, levels=levels, colors="white", linewidths=1.1, alpha=0.85)
    axes.clabel(lines, fmt=lambda width: f"{width:.2g} px", fontsize=9)


def _show_times(axes: Axes, finishes: Sequence[Finish], n_workers: int) -> None:
    names = [f"{finish.contender.implementation}\n{_engine(finish, n_workers)}" for finish in finishes]
    seconds = [finish.seconds for finish in finishes]
    colours = [SERIAL_COLOUR if finish.contender.is_serial else PARALLEL_COLOUR for finish in finishes]
    bars = axes.barh(names, seconds, color=colours, height=0.62)
    axes.bar_label(bars, [_bar_label(finish) for finish in finishes], padding=6, fontsize=11, color=TEXT_COLOUR)
    axes.invert_yaxis()  # the first contender on top
    axes.set_xlim(0, max(seconds) * 1.3)  # room for the labels
    axes.set_xlabel("wall time in seconds, less is better", fontsize=11, color=TEXT_COLOUR)
    axes.set_title("Time for the whole image", fontsize=13, color=TEXT_COLOUR, pad=10)
    axes.tick_params(axis="y", length=0, labelsize=11, labelcolor=TEXT_COLOUR)
    axes.tick_params(axis="x", colors=FAINT_COLOUR)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT_COLOUR)


def _engine(finish: Finish, n_workers: int) -> str:
    if finish.contender.is_serial:
        return "serial loop"
    return f"{finish.contender.engine}, {n_workers} worker{'s' if n_workers > 1 else ''}"


def _bar_label(finish: Finish) -> str:
    faster = "" if finish.contender.is_serial else f"   {finish.speed_up:.2f}{TIMES}"
    return f"{finish.seconds:.2f} s{faster}"
