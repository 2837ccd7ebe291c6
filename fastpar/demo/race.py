"""The rows of a scene on one engine after another: who runs, how long each takes, and whether all agree."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter, process_time
from typing import TYPE_CHECKING

import numpy as np

from fastpar.demo import _convolve, rows
from fastpar.demo.errors import DemoError
from fastpar.parallel import Parallel, delayed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastpar.demo.scene import Array, Scene

    BlurRow = Callable[[Array, Array, int], Array]

#: Different implementations add in different orders; colours go from 0 to 1.
TOLERANCE = 1e-12


@dataclass(frozen=True)
class Contender:
    """An implementation of the loop's body, and the engine that runs the loop."""

    implementation: str
    engine: str
    blur_row: BlurRow

    @property
    def is_serial(self) -> bool:
        """Whether this is the plain loop, which the others of its implementation are held against."""
        return self.engine == "serial"

    def blur(self, scene: Scene, n_jobs: int) -> Array:
        """Return the blurred image."""
        blur_row, padded, widths = self.blur_row, scene.padded, scene.widths
        if self.engine == "kernels":
            return _convolve.blur_image(padded, widths, n_jobs)
        if self.is_serial:
            blurred = [blur_row(padded, widths, y) for y in range(scene.n_rows)]
        else:
            tasks = [delayed(blur_row)(padded, widths, y) for y in range(scene.n_rows)]  # a list: its end is known
            blurred = Parallel(n_jobs=n_jobs, backend=self.engine, progress=True)(tasks)
        return np.stack(blurred, axis=1)


#: In the order they run. The first is what all are measured against; each serial loop stands before its parallel ones.
CONTENDERS = (
    Contender("NumPy", "serial", rows.blur_row),
    Contender("NumPy", "threading", rows.blur_row),
    Contender("NumPy", "processes", rows.blur_row),
    Contender("Cython nogil", "serial", _convolve.blur_row),
    Contender("Cython nogil", "threading", _convolve.blur_row),
    Contender("Cython nogil", "processes", _convolve.blur_row),
    Contender("Cython nogil", "kernels", _convolve.blur_row),
)


@dataclass(frozen=True)
class Finish:
    """How a contender did.

    Attributes
    ----------
    contender : Contender
        Who.
    seconds : float
        Wall time of the whole image.
    cpus : float or None
        CPU time of this process over wall time: how many CPUs it had. Few where many could work: the machine was busy.
        None where other processes did the work.
    speed_up : float
        Against the serial loop of the same implementation.
    speed_up_overall : float
        Against the first contender.
    image : ndarray of float64, shape (3, height, width)
        What came out.
    """

    contender: Contender
    seconds: float
    cpus: float | None
    speed_up: float
    speed_up_overall: float
    image: Array


def run(
    scene: Scene,
    n_jobs: int,
    contenders: Sequence[Contender] = CONTENDERS,
    announce: Callable[[Contender], object] = lambda _: None,
) -> list[Finish]:
    """Let all contenders blur the scene, one after another, and compare what they give.

    Parameters
    ----------
    scene : Scene
        What is blurred.
    n_jobs : int
        Workers of the parallel ones.
    contenders : sequence of Contender
        In the order they run.
    announce : callable
        Called with each contender before it runs.

    Returns
    -------
    list of Finish
        In the same order.

    Raises
    ------
    DemoError
        When two images differ: by a bit within an implementation, by more than rounding between two.
    """
    finishes: list[Finish] = []
    for contender in contenders:
        announce(contender)
        begin, begin_cpu = perf_counter(), process_time()
        image = contender.blur(scene, n_jobs)
        seconds, cpu_seconds = perf_counter() - begin, process_time() - begin_cpu
        first = finishes[0] if finishes else None
        serial = _serial(finishes, contender)
        finish = Finish(
            contender,
            seconds,
            cpus=None if contender.engine == "processes" else cpu_seconds / seconds,
            speed_up=serial.seconds / seconds if serial else 1.0,
            speed_up_overall=first.seconds / seconds if first else 1.0,
            image=image,
        )
        _compare(finish, serial, first)
        finishes.append(finish)
    return finishes


def _serial(finishes: Sequence[Finish], contender: Contender) -> Finish | None:
    """The serial loop of a contender's implementation, if it has run."""
    same = (f for f in finishes if f.contender.is_serial and f.contender.implementation == contender.implementation)
    return next(same, None)


def _compare(finish: Finish, serial: Finish | None, first: Finish | None) -> None:
    who = f"{finish.contender.implementation} on {finish.contender.engine}"
    if serial and not np.array_equal(finish.image, serial.image):
        raise DemoError(f"{who} does not give, bit for bit, what its serial loop gives: please report this")
    if first and not np.allclose(finish.image, first.image, rtol=0, atol=TOLERANCE):
        raise DemoError(f"{who} gives another image than {first.contender.implementation}: please report this")


def agreement(finishes: Sequence[Finish]) -> str:
    """Return the sentence on how well the images agree; `run` has made sure that it is true."""
    difference = max(float(np.abs(finish.image - finishes[0].image).max()) for finish in finishes)
    return (
        f"Each parallel image equals that of its serial loop bit for bit; "
        f"implementations differ by {difference:.0e} at most, of 1."
    )


def table(finishes: Sequence[Finish]) -> str:
    """Return the results as text, a line for each contender.

    Examples
    --------
    >>> serial, threads = CONTENDERS[:2]
    >>> print(table([Finish(serial, 4.0, 1.0, 1.0, 1.0, None), Finish(threads, 2.0, 1.9, 2.0, 2.0, None)]))
    implementation  engine        time  CPUs used  against its serial loop  against NumPy serial
    NumPy           serial      4.00 s       1.00                    1.00x                 1.00x
    NumPy           threading   2.00 s       1.90                    2.00x                 2.00x
    """
    first = finishes[0].contender
    overall = f"against {first.implementation} {first.engine}"
    lines = [f"{'implementation':14}  {'engine':9}  {'time':>7}  CPUs used  against its serial loop  {overall}"]
    for finish in finishes:
        who = finish.contender
        cpus = "" if finish.cpus is None else f"{finish.cpus:.2f}"
        lines.append(
            f"{who.implementation:14}  {who.engine:9}  {finish.seconds:5.2f} s  {cpus:>9}"
            f"  {finish.speed_up:22.2f}x  {finish.speed_up_overall:{len(overall) - 1}.2f}x"
        )
    return "\n".join(lines)
