"""`fastpar.hash` of frames and sparse matrices: by content, however it is stored."""

import numpy as np
import pytest

from fastpar.hashing import hash as digest_of

pandas = pytest.importorskip("pandas")


def frame():
    return pandas.DataFrame(
        {
            "int": [1, 2, 3],
            "float": [0.5, float("nan"), 1.5],
            "text": ["a", None, "c"],
            "category": pandas.Categorical(["u", "v", "u"]),
            "moment": pandas.date_range("2020", periods=3, tz="UTC"),
            "masked": pandas.array([1, None, 3], dtype="Int64"),
            "period": pandas.period_range("2020", periods=3, freq="D"),
            "sparse": pandas.arrays.SparseArray([0, 0, 1]),
        }
    )


def test_frames_count_by_content_not_by_blocks():
    whole = frame()
    pieces = pandas.concat([whole[[name]] for name in whole.columns], axis=1)
    assert digest_of(whole) == digest_of(pieces) == digest_of(whole.copy())
    for name in whole.columns:
        assert digest_of(whole[name]) == digest_of(pieces[name])
        assert digest_of(whole.drop(columns=name)) != digest_of(whole)


@pytest.mark.parametrize(
    ("name", "value"), [("int", 9), ("float", 9.0), ("text", "z"), ("masked", 9), ("category", "v")]
)
def test_every_cell_of_a_frame_counts(name, value):
    whole, changed = frame(), frame()
    changed.loc[0, name] = value
    assert digest_of(whole) != digest_of(changed)


def test_what_lies_under_a_missing_value_does_not_count():
    first = pandas.arrays.IntegerArray(np.array([1, 2]), np.array([False, True]))
    second = pandas.arrays.IntegerArray(np.array([1, 99]), np.array([False, True]))
    assert digest_of(first) == digest_of(second)


def test_indexes():
    multi = pandas.MultiIndex.from_product([["a", "b"], [1, 2]], names=["x", "y"])
    assert digest_of(multi) == digest_of(multi.copy()) != digest_of(multi.set_names(["x", "z"]))
    assert digest_of(pandas.RangeIndex(3)) != digest_of(pandas.RangeIndex(4))


def test_sparse_matrices_count_by_entries():
    sparse = pytest.importorskip("scipy.sparse")
    dense = np.array([[0, 1.5], [2.5, 0]])
    for kind in (sparse.csr_matrix, sparse.csc_matrix, sparse.coo_matrix, sparse.lil_matrix, sparse.csr_array):
        assert digest_of(kind(dense)) == digest_of(kind(dense.copy())) != digest_of(kind(dense * 2))
    unsorted = sparse.csr_matrix((np.array([2.0, 1.0]), np.array([1, 0]), np.array([0, 2])), shape=(1, 2))
    assert digest_of(unsorted) == digest_of(sparse.csr_matrix(np.array([[1.0, 2.0]])))
    assert not unsorted.has_sorted_indices, "the hash must not change the matrix"
