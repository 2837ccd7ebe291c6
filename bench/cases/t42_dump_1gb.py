"""T42: how long do writing and reading an array of 1 GB take, against np.save and np.load?"""

import os
from collections.abc import Callable, Iterator

from bench.cases._files import clock_prepared, folder, same_array, writing
from bench.harness import Case, Target, Timed, clock

SIZE, QUICK = 134_217_728, 10_000


def values(n: int):
    import numpy as np

    return np.arange(float(n))


def _case(what: str, **options) -> Case:
    return Case(
        __name__, what=what, unit="ms", size=SIZE, quick=QUICK, rounds=5, target=Target(1.1, of="limit"), **options
    )


dumping = _case("dump of a 1 GB array", measure=clock_prepared)
loading = _case("load of a 1 GB array", measure=clock, same=same_array)


@dumping.answer
def written(n: int) -> bool:
    return True


loading.answer(values)


def _both(save: Callable, read: Callable) -> tuple[Callable, Callable]:
    """The two contenders that one library makes."""

    def dumps(n: int) -> Iterator[Timed]:
        with folder() as where:
            path, content = os.path.join(where, "file.npy"), values(n)
            yield writing(path, lambda: save(content, path))

    def loads(n: int) -> Iterator[Timed]:
        with folder() as where:
            path = os.path.join(where, "file.npy")
            save(values(n), path)
            yield lambda: read(path)

    return dumps, loads


def _numpy_save(content, path: str) -> None:
    import numpy as np

    np.save(path, content)


def _numpy_load(path: str):
    import numpy as np

    return np.load(path)


def _join(role: str, name: str, save: Callable, read: Callable) -> None:
    for case, setup in zip((dumping, loading), _both(save, read), strict=True):
        setup.__name__ = name
        getattr(case, role)(setup)


def _joblib_dump(content, path: str) -> None:
    import joblib

    joblib.dump(content, path)


def _joblib_load(path: str):
    import joblib

    return joblib.load(path)


def _our_dump(content, path: str) -> None:
    from fastpar.persist import dump

    dump(content, path)


def _our_load(path: str):
    from fastpar.persist import load

    return load(path)


_join("limit", "numpy", _numpy_save, _numpy_load)
_join("joblib", "joblib", _joblib_dump, _joblib_load)
_join("fastpar", "fastpar", _our_dump, _our_load)
