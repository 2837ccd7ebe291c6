"""T28: how long does it take to have large results back that are no arrays: many dicts, and data frames?"""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec

from bench.harness import N_JOBS, Case, Target, Timed


def dicts(n: int) -> list[dict[str, object]]:
    """A task: records of numbers and text."""
    return [{"number": i, "name": f"record {i}", "share": i / n, "is_even": i % 2 == 0} for i in range(n)]


def frame(n: int) -> object:
    """A task: a data frame with columns of numbers and text."""
    import numpy as np
    import pandas as pd

    numbers = np.arange(n)
    return pd.DataFrame({"number": numbers, "share": numbers / n, "name": pd.array(["a name"] * n, dtype=object)})


def _results(what: str, task: Callable[[int], object], size: int) -> Case:
    case = Case(
        __name__, what=what, unit="ms", size=size, quick=500, rounds=7, seconds=60, target=Target(1, of="rival")
    )

    def ends(results: list[object]) -> list[tuple[int, str]]:
        """What is compared: length and last element of each."""
        last = [list(found.iloc[-1]) if hasattr(found, "iloc") else found[-1] for found in results]  # type: ignore[index]
        return [(len(found), str(end)) for found, end in zip(results, last, strict=True)]  # type: ignore[arg-type]

    @case.serial
    def plain_loop(n: int) -> Iterator[Timed]:
        task(1)
        yield lambda: ends([task(n) for _ in range(N_JOBS)])

    @case.joblib
    def joblib_in_a_with_block(n: int) -> Iterator[Timed]:
        from joblib import Parallel, delayed

        task(1)
        with Parallel(N_JOBS) as parallel:
            yield lambda: ends(parallel(delayed(task)(n) for _ in range(N_JOBS)))

    @case.rival
    def executor(n: int) -> Iterator[Timed]:
        task(1)
        with ProcessPoolExecutor(N_JOBS) as pool:
            yield lambda: ends(list(pool.map(task, [n] * N_JOBS)))

    @case.fastpar
    def fastpar(n: int) -> Iterator[Timed]:
        from fastpar import Parallel, delayed

        task(1)
        yield lambda: ends(Parallel(N_JOBS, "processes")(delayed(task)(n) for _ in range(N_JOBS)))

    case.answer(lambda n: ends([task(n)] * N_JOBS))
    return case


records = _results("2 results of 50,000 dicts", dicts, 50_000)
if find_spec("pandas") is not None:
    frames = _results("2 results of frames of 500,000 rows", frame, 500_000)
