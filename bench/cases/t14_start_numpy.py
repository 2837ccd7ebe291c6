"""T14: how long does a program take that runs ten NumPy tasks on two worker processes and ends?"""

from collections.abc import Iterator

from bench.harness import N_JOBS, Case, Target, Timed
from bench.isolation import fresh_interpreter, require_module

case = Case(
    __name__,
    what="fresh interpreter with NumPy, 10 tasks on 2 processes, exit",
    unit="ms",
    size=10,
    quick=10,
    rounds=15,
    seconds=90,
    target=Target(350),
)

PARALLEL = f"""
import numpy as np
from {{library}} import Parallel, delayed
print(sum(Parallel({N_JOBS}, {{backend!r}})(delayed(np.sum)(np.ones(i)) for i in range({{n}}))))
"""
POOL = f"""
import numpy as np
from multiprocessing import get_context
with get_context({{method!r}}).Pool({N_JOBS}) as pool:
    print(sum(pool.map(np.sum, [np.ones(i) for i in range({{n}})])))
"""


@case.answer
def total(n: int) -> str:
    return str(float(sum(range(n))))


@case.serial
def plain_loop(n: int) -> Iterator[Timed]:
    yield fresh_interpreter(f"import numpy as np; print(sum(np.sum(np.ones(i)) for i in range({n})))")


@case.joblib
def joblib(n: int) -> Iterator[Timed]:
    require_module("joblib")
    yield fresh_interpreter(PARALLEL.format(library="joblib", backend="loky", n=n))


@case.rival
def pool_by_fork(n: int) -> Iterator[Timed]:
    yield fresh_interpreter(POOL.format(method="fork", n=n))


@case.rival
def pool_by_forkserver(n: int) -> Iterator[Timed]:
    yield fresh_interpreter(POOL.format(method="forkserver", n=n))


@case.fastpar
def fastpar(n: int) -> Iterator[Timed]:
    yield fresh_interpreter(PARALLEL.format(library="fastpar", backend="processes", n=n))
