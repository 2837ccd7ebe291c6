"""T44: how long do writing, reading and mapping a dict of 1,000 arrays of 1 MB take, against pickle?"""

from typing import Any

from bench.cases._files import clock_prepared
from bench.cases.t43_dump_floats import contenders, join
from bench.harness import Case, Target

LENGTH = 131_072


def values(n: int) -> Any:
    import numpy as np

    return {f"array {i}": np.arange(i, i + LENGTH, dtype=np.float64) for i in range(n)}


def same(found: Any, expected: Any) -> bool:
    """Keys, and the ends of each array: the tests compare every element."""
    return list(found) == list(expected) and all(
        found[name].shape == (LENGTH,) and found[name][0] == array[0] and found[name][-1] == array[-1]
        for name, array in expected.items()
    )


def _case(what: str, **options: Any) -> Case:
    return Case(__name__, what=what, unit="ms", size=1_000, quick=3, rounds=5, **options)


dumping = _case("dump of 1,000 arrays of 1 MB", measure=clock_prepared, target=Target(1, of="limit"))
loading = _case("load of 1,000 arrays of 1 MB", same=same, target=Target(1, of="limit"))
mapping = _case("mapped load of 1,000 arrays", same=same, target=Target(20))


@dumping.answer
def written(n: int) -> bool:
    return True


loading.answer(values)
mapping.answer(values)

_unused = Case(__name__ + "_unused", what="", unit="ms", size=1, quick=1, target=Target(1))


def _mapped(find: Any) -> Any:
    def both() -> Any:
        save, read = find()
        return save, lambda path: read(path, mmap_mode="r")

    return both


for role, name, find in contenders():
    join(role, name, find, dumping, loading, values)
    if role != "limit":
        join(role, name, _mapped(find), _unused, mapping, values)

del _unused
