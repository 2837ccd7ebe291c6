"""T43: how long do writing and reading a list of 1,000,000 floats take, against pickle?"""

import os
import pickle
from collections.abc import Iterator

from bench.cases._files import clock_prepared, folder, writing
from bench.harness import Case, Target, Timed

SIZE = 1_000_000


def values(n: int) -> list[float]:
    return [i * 0.5 for i in range(n)]


def _case(what: str, **options) -> Case:
    return Case(
        __name__, what=what, unit="ms", size=SIZE, quick=1_000, rounds=15, target=Target(1.1, of="limit"), **options
    )


dumping = _case("dump of 1e6 floats", measure=clock_prepared)
loading = _case("load of 1e6 floats")


@dumping.answer
def written(n: int) -> bool:
    return True


loading.answer(values)


def pickle_dump(content: object, path: str) -> None:
    with open(path, "wb") as file:
        pickle.dump(content, file, 5)


def pickle_load(path: str) -> object:
    with open(path, "rb") as file:
        return pickle.load(file)


def contenders():
    """Role, name, and how each writes and reads."""
    yield "limit", "pickle", lambda: (pickle_dump, pickle_load)

    def joblib():
        import joblib

        return joblib.dump, joblib.load

    yield "joblib", "joblib", joblib

    def fastpar():
        from fastpar.persist import dump, load

        return dump, load

    yield "fastpar", "fastpar", fastpar


def join(role: str, name: str, find, dumping: Case, loading: Case, values) -> None:
    """Add a contender to both cases."""

    def dumps(n: int) -> Iterator[Timed]:
        save, _ = find()
        with folder() as where:
            path, content = os.path.join(where, "file"), values(n)
            yield writing(path, lambda: save(content, path))

    def loads(n: int) -> Iterator[Timed]:
        save, read = find()
        with folder() as where:
            path = os.path.join(where, "file")
            save(values(n), path)
            yield lambda: read(path)

    for case, setup in ((dumping, dumps), (loading, loads)):
        setup.__name__ = name
        getattr(case, role)(setup)


for role, name, find in contenders():
    join(role, name, find, dumping, loading, values)
