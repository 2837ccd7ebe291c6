"""scikit-learn on fastpar, which stands where scikit-learn finds joblib: the same results."""

import json

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("joblib")

PROGRAM = """
import json, sys
if sys.argv[1] == "fastpar":
    import fastpar.as_joblib
import joblib
import numpy as np
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier, StackingClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.parallel import Parallel

x, y = make_classification(200, 8, random_state=0)
forest = RandomForestClassifier(20, random_state=0, n_jobs=2).fit(x, y)
with joblib.parallel_backend("threading", n_jobs=2):
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1, 10]}, cv=3).fit(x, y)
    scores = cross_val_score(RandomForestClassifier(5, random_state=1), x, y, cv=3)
stack = StackingClassifier([("a", LogisticRegression()), ("b", RidgeClassifier())], n_jobs=2, cv=3).fit(x, y)
in_worker, = joblib.Parallel(2)([joblib.delayed(lambda: __import__("joblib").Parallel.__module__)()])
print(json.dumps({
    "in_worker": in_worker,
    "stack": stack.predict(x).tolist(),
    "library": Parallel.__mro__[1].__module__,
    "forest": forest.predict_proba(x).tolist(),
    "search": [search.best_params_["C"], search.cv_results_["mean_test_score"].tolist()],
    "scores": scores.tolist(),
}))
"""


@pytest.mark.slow
def test_scikit_learn_computes_the_same(python):
    runs = [python.run("-c", PROGRAM, library) for library in ("fastpar", "joblib")]
    assert [run.returncode for run in runs] == [0, 0], [run.stderr for run in runs]
    ours, theirs = (json.loads(run.stdout) for run in runs)
    for key in ("library", "in_worker"):
        assert (ours.pop(key), theirs.pop(key)) == ("fastpar.parallel", "joblib.parallel")
    assert ours == theirs
