"""T15: how long does a program take that runs ten tasks on two threads and ends?"""

from collections.abc import Iterator
from math import sqrt

from bench.harness import N_JOBS, Case, Target, Timed
from bench.isolation import fresh_interpreter, require_module

case = Case(
    __name__,
    what="fresh interpreter, 10 tasks on 2 threads, exit",
    unit="ms",
    size=10,
    quick=10,
    rounds=25,
    seconds=20,
    target=Target(50),
)

PARALLEL = f"""
from math import sqrt
from {{library}} import Parallel, delayed
print(Parallel({N_JOBS}, 'threading')(delayed(sqrt)(i) for i in range({{n}})))
"""
EXECUTOR = f"""
from math import sqrt
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor({N_JOBS}) as pool:
    print(list(pool.map(sqrt, range({{n}}))))
"""
THREAD_POOL = f"""
from math import sqrt
from multiprocessing.pool import ThreadPool
with ThreadPool({N_JOBS}) as pool:
    print(pool.map(sqrt, range({{n}})))
"""
BARE = f"""
from math import sqrt
from threading import Thread
def work(rank):
    first, last = rank * {{n}} // {N_JOBS}, (rank + 1) * {{n}} // {N_JOBS}
    shares[rank] = [sqrt(i) for i in range(first, last)]
shares = [None] * {N_JOBS}
threads = [Thread(target=work, args=(rank,)) for rank in range({N_JOBS})]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sum(shares, []))
"""


@case.answer
def roots(n: int) -> str:
    return str([sqrt(i) for i in range(n)])


@case.serial
def plain_loop(n: int) -> Iterator[Timed]:
    yield fresh_interpreter(f"from math import sqrt; print([sqrt(i) for i in range({n})])")


@case.limit
def two_bare_threads(n: int) -> Iterator[Timed]:
    yield fresh_interpreter(BARE.format(n=n))


@case.joblib
def joblib(n: int) -> Iterator[Timed]:
    require_module("joblib")
    yield fresh_interpreter(PARALLEL.format(library="joblib", n=n))


@case.rival
def executor(n: int) -> Iterator[Timed]:
    yield fresh_interpreter(EXECUTOR.format(n=n))


@case.rival
def thread_pool(n: int) -> Iterator[Timed]:
    yield fresh_interpreter(THREAD_POOL.format(n=n))


@case.fastpar
def fastpar(n: int) -> Iterator[Timed]:
    yield fresh_interpreter(PARALLEL.format(library="fastpar", n=n))
