"""T12: what does the import cost, above an interpreter that does nothing?"""

from collections.abc import Iterator

from bench.harness import Case, Target, Timed
from bench.isolation import fresh_interpreter, require_module

case = Case(
    __name__,
    what="import, above `python -c pass`",
    unit="ms",
    size=1,
    quick=1,
    rounds=25,
    seconds=20,
    above_serial=True,
    target=Target(25),
)


@case.answer
def silence(n: int) -> str:
    return ""


@case.serial
def python(n: int) -> Iterator[Timed]:
    yield fresh_interpreter("pass")


@case.joblib
def joblib(n: int) -> Iterator[Timed]:
    require_module("joblib")
    yield fresh_interpreter("import joblib")


@case.rival
def multiprocessing(n: int) -> Iterator[Timed]:
    yield fresh_interpreter("import multiprocessing")


@case.rival
def concurrent_futures_process(n: int) -> Iterator[Timed]:
    yield fresh_interpreter("import concurrent.futures.process")


@case.fastpar
def fastpar(n: int) -> Iterator[Timed]:
    heavy = "{'numpy', 'multiprocessing', 'cloudpickle', 'asyncio'}"
    yield fresh_interpreter(f"import fastpar, sys; print(*sys.modules.keys() & {heavy}, end='')")
