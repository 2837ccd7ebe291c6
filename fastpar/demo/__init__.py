"""`python -m fastpar demo`: a position-dependent Gaussian blur of a real photograph, timed loop by loop.

The width of the Gaussian changes from pixel to pixel, so no Fourier transform and no two passes along the axes will do:
each pixel is a sum of its own. That is the problem fastpar began with; one such convolution took 20 minutes.

`scene` has the photograph and the widths, `rows` and `_convolve` blur one row of it (NumPy, and Cython without the
GIL), `race` runs the rows on one engine after another, `picture` draws what came out. This file is the command line.
"""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import fastpar
from fastpar.cpu import cpu_count
from fastpar.demo.errors import DemoError
from fastpar.engines.active import effective_n_jobs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastpar.demo.race import Contender

__all__ = ["main"]

#: There are 600 rows: more workers than this would hardly get two each.
MAX_WORKERS = 256


def main(argv: Sequence[str] = ()) -> int:
    """Run the demo: a table on stdout, progress on stderr, a picture in a file.

    Parameters
    ----------
    argv : sequence of str
        What follows "demo" on the command line; ``--help`` explains.

    Returns
    -------
    int
        The exit code: 0; 1 when something is missing, unwritable or wrong; 130 after Ctrl-C.

    Raises
    ------
    SystemExit
        By argparse, with code 2 for wrong arguments and 0 after ``--help``.
    """
    options = _parser().parse_args(argv)
    try:
        _run(options.out, options.n_jobs, quick=options.quick)
    except DemoError as error:
        print(f"fastpar demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nfastpar demo: stopped, no picture written", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fastpar demo",
        description="Blur a photograph with a Gaussian whose width changes from pixel to pixel: serially, then in "
        "parallel. Prints a table of times and draws a picture.",
    )
    parser.add_argument(
        "--out",
        metavar="PATH",
        type=_parse_out,
        help="the picture, a .png; replaced if it exists. By default fastpar-demo.png in the current directory, or "
        "the next free name: fastpar-demo-2.png, ...",
    )
    parser.add_argument(
        "--n-jobs",
        metavar="N",
        type=_parse_n_jobs,
        default=-1,
        help="workers; -1, the default, is one for each CPU that this process may use, -2 one fewer",
    )
    parser.add_argument("--quick", action="store_true", help="a quarter of the pixels: a second, but rough timings")
    return parser


def _parse_out(text: str) -> Path:
    path = Path(text).expanduser()
    if path.suffix.lower() != ".png" and not path.is_dir():  # `destination` has a better sentence for those
        raise argparse.ArgumentTypeError(f"the picture is a PNG: its name must end in .png, not {text!r}")
    return path


def _parse_n_jobs(text: str) -> int:
    try:
        n_jobs = int(text)
    except ValueError:
        n_jobs = 0
    if n_jobs == 0 or n_jobs > MAX_WORKERS:
        raise argparse.ArgumentTypeError(
            f"must be a whole number from 1 to {MAX_WORKERS}, or -1 for one worker per CPU, not {text!r}"
        )
    return n_jobs


def _run(out: Path | None, n_jobs: int, *, quick: bool) -> None:
    from fastpar.demo import picture, race, scene

    subject = scene.portrait(quick=quick)
    path = picture.destination(out)
    n_workers = effective_n_jobs(n_jobs)
    setting = _setting(n_workers)
    height, width = subject.widths.shape
    print(f"Position-dependent Gaussian blur of {width} x {height} pixels, one task a row\n{setting}")
    print(f"Photograph: {scene.CREDIT}\n", flush=True)

    finishes = race.run(subject, n_workers, announce=_announce)
    print(f"\n{race.table(finishes)}\n\n{race.agreement(finishes)}")

    replaced = " (replaced)" if path.exists() else ""
    picture.save(picture.draw(subject, finishes, n_workers, setting), path)
    print(f"Picture: {path.resolve()}{replaced}")


def _announce(contender: Contender) -> None:
    print(f"{contender.implementation}, {contender.engine} ...", file=sys.stderr, flush=True)


def _setting(n_workers: int) -> str:
    """What runs where, in one line."""
    gil = "" if getattr(sys, "_is_gil_enabled", lambda: True)() else " without the GIL"
    return (
        f"{_count(n_workers, 'worker')} on {_count(cpu_count(), 'CPU')}, fastpar {fastpar.__version__}, "
        f"{platform.python_implementation()} {platform.python_version()}{gil}"
    )


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
