"""What the cases of cache and files share: folders that go away, and steps that are not timed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.harness import clock


@contextmanager
def folder(where: str | None = None) -> Iterator[str]:
    """A folder on the disk, or in memory with where="/dev/shm", removed afterwards."""
    made = tempfile.mkdtemp(prefix="fastpar-bench-", dir=where)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@dataclass
class Prepared:
    """A function to time, and what has to be done before each call of it."""

    prepare: Callable[[], object]
    run: Callable[[], object]

    def __call__(self) -> object:
        return self.run()


def clock_prepared(function: Prepared) -> tuple[float, object]:
    """The measure of cases whose calls need a step that is not timed."""
    function.prepare()
    return clock(function)


def writing(path: str, write: Callable[[], object]) -> Prepared:
    """Write a new file: replacing one makes some file systems flush it, which is another question."""

    def fresh() -> None:
        if os.path.exists(path):
            os.unlink(path)

    return Prepared(fresh, lambda: write() is None or True)


def same_array(found: object, expected: object) -> bool:
    """Whether two arrays, or what stands for them, are equal."""
    import numpy as np

    return bool(np.array_equal(found, expected))  # type: ignore[arg-type]
