"""T24: is scikit-learn faster on worker processes than without: many small fits, and a small forest's predictions?

scikit-learn calls joblib; for fastpar's figure fastpar stands in its place. Each contender is a program of its own,
which times the second of two calls.
"""

from collections.abc import Iterator

from bench.harness import N_JOBS, Case, Target, Timed
from bench.isolation import fresh_interpreter, require_module

PROGRAM = """
import time
if {library!r} == "fastpar":
    import fastpar.as_joblib
import joblib
from sklearn.datasets import make_classification
x, y = make_classification(200, 8, random_state=0)
{work}
with joblib.parallel_config({backend!r}, n_jobs={n_jobs}):
    run()
    started = time.perf_counter()
    answer = run()
    print(time.perf_counter() - started, answer)
"""
SEARCH = """
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
def run():
    search = GridSearchCV(LogisticRegression(), {{"C": np.logspace(-3, 3, {n} // 5)}}, cv=5).fit(x, y)
    return round(search.best_score_, 6)
"""
PREDICT = """
from sklearn.ensemble import RandomForestClassifier
forest = RandomForestClassifier({n}, random_state=0, n_jobs=1).fit(x, y)
forest.n_jobs = None
def run():
    return forest.predict_proba(x)[:, 1].sum().round(6)
"""


def told(function: Timed) -> tuple[float, object]:
    """A measure: the program prints its time, and its answer."""
    seconds, _, answer = str(function()).partition(" ")
    return float(seconds), answer


def _case(what: str, work: str, size: int, target: Target, backend: str) -> Case:
    case = Case(
        __name__, what=what, unit="ms", size=size, quick=20, rounds=5, seconds=60, target=target, measure=told
    )

    def program(library: str, n: int, *, n_jobs: int = N_JOBS) -> Timed:
        require_module("sklearn")
        require_module("joblib")
        name = backend if n_jobs > 1 else "sequential"
        ours = "processes" if (library, name) == ("fastpar", "loky") else name
        return fresh_interpreter(PROGRAM.format(library=library, backend=ours, n_jobs=n_jobs, work=work.format(n=n)))

    case.answer(lambda n: told(program("joblib", n, n_jobs=1))[1])

    @case.serial
    def serial(n: int) -> Iterator[Timed]:
        yield program("joblib", n, n_jobs=1)

    @case.joblib
    def joblib(n: int) -> Iterator[Timed]:
        yield program("joblib", n)

    @case.fastpar
    def fastpar(n: int) -> Iterator[Timed]:
        yield program("fastpar", n)

    return case


search = _case("scikit-learn grid search, 400 fits", SEARCH, 400, Target(1, of="serial"), "loky")
predict = _case("scikit-learn forest of 20 trees, predict", PREDICT, 20, Target(1.1, of="serial"), "threading")
