"""T45: how long do writing and reading 100 MB of smooth numbers take, compressed, against joblib's zlib?"""

from typing import Any

from bench.cases._files import clock_prepared, same_array
from bench.cases.t43_dump_floats import join
from bench.harness import Case, Target

SIZE = 12_500_000


def values(n: int) -> Any:
    import numpy as np

    return np.sin(np.linspace(0, 1000, n)).round(4)


def _case(what: str, target: Target, **options: Any) -> Case:
    return Case(__name__, what=what, unit="ms", size=SIZE, quick=10_000, rounds=5, target=target, **options)


dumping = _case("dump of 100 MB, compress=3", Target(0.55, of="joblib"), measure=clock_prepared)
loading = _case("load of 100 MB, compress=3", Target(1, of="joblib"), same=same_array)
zstd_dumping = _case("dump of 100 MB, zstd", Target(400), measure=clock_prepared)
zstd_loading = _case("load of 100 MB, zstd", Target(150), same=same_array)


def written(n: int) -> bool:
    return True


for case in (dumping, zstd_dumping):
    case.answer(written)
for case in (loading, zstd_loading):
    case.answer(values)


def _joblib() -> Any:
    import joblib

    return lambda content, path: joblib.dump(content, path, compress=3), joblib.load


def _ours(compress: Any) -> Any:
    def find() -> Any:
        from fastpar.persist import dump, load

        return lambda content, path: dump(content, path, compress=compress), load

    return find


for pair in ((dumping, loading), (zstd_dumping, zstd_loading)):
    join("joblib", "joblib zlib", _joblib, *pair, values)
join("fastpar", "fastpar", _ours(3), dumping, loading, values)
join("fastpar", "fastpar", _ours("zstd"), zstd_dumping, zstd_loading, values)
del case
