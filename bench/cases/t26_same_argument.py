"""T26: how long do 20 tasks take that share a 200 MB array which earlier calls have had, changed since or not?"""

from collections.abc import Iterator

from bench.harness import N_JOBS, Case, Target, Timed


def item(array: object, i: int) -> float:
    """The task."""
    return float(array[i])  # type: ignore[index]


def answer(n: int) -> list[float]:
    return [float(i) for i in range(20)]


def array_of(n: int, *, is_changed: bool) -> Iterator[object]:
    """The array for each call: the same one, and in it the same numbers; if changed, other numbers meanwhile."""
    import numpy as np

    array = np.arange(float(n))
    while True:
        if is_changed:
            array[:20] = -1
            yield array
            array[:20] = range(20)
        yield array


def _again(what: str, at_most: float, *, is_changed: bool) -> Case:
    case = Case(
        __name__,
        what=what,
        unit="ms",
        size=25_000_000,
        quick=250_000,
        rounds=9,
        calls=3,
        seconds=60,
        target=Target(at_most),
    )
    case.answer(answer)

    def calls(parallel: object, delayed: object, n: int) -> Timed:
        arrays = array_of(n, is_changed=is_changed)

        def run() -> object:
            array = next(arrays)
            found = parallel(delayed(item)(array, i) for i in range(20))  # type: ignore[operator]
            return answer(n) if found == [-1.0] * 20 and array[0] == -1 else found  # type: ignore[index]

        return run

    @case.joblib
    def joblib_new_object(n: int) -> Iterator[Timed]:
        from joblib import Parallel, delayed

        yield calls(Parallel(N_JOBS), delayed, n)

    @case.limit
    def digest(n: int) -> Iterator[Timed]:
        """To find out whether it is the same."""
        import numpy as np
        import xxhash

        array = np.arange(float(n))
        yield lambda: xxhash.xxh3_128_digest(array.data) and answer(n)

    @case.fastpar
    def fastpar(n: int) -> Iterator[Timed]:
        from fastpar import Parallel, delayed

        yield calls(Parallel(N_JOBS, "processes"), delayed, n)

    return case


same = _again("20 tasks share an array of 200 MB again", 15, is_changed=False)
changed = _again("the same, changed between calls", 40, is_changed=True)
