"""`fastpar.hash` of frames and sparse matrices: by content, however it is stored."""

import datetime
import decimal

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


WRAPS = {
    "Series": lambda series: series,
    "Index": lambda series: pandas.Index(series, dtype=object),
    "array": lambda series: series.array,
    "DataFrame": lambda series: series.to_frame(),
}


@pytest.mark.parametrize("wrap", WRAPS)
def test_kinds_of_missing_objects_differ(wrap):
    missing = [None, float("nan"), pandas.NaT, pandas.NA, "float", ("missing", "float")]
    digests = set()
    for last in missing:
        values = np.empty(2, dtype=object)
        values[:] = ["a", last]
        wrapped = pandas.Series(values, dtype=object)
        digests.add(digest_of(WRAPS[wrap](wrapped)))
    assert len(digests) == len(missing)


def test_missing_numbers_are_no_nans():
    masked = [pandas.arrays.FloatingArray(np.array([1.0, last]), np.array([False, hidden])) for last, hidden in HIDDEN]
    assert digest_of(masked[0]) == digest_of(masked[1])
    assert len(set(map(digest_of, masked))) == 3


HIDDEN = [(0.0, True), (np.nan, True), (0.0, False), (np.nan, False)]


class Measured(pandas.Series):
    _metadata = ["unit"]  # noqa: RUF012 - as pandas documents it

    @property
    def _constructor(self):
        return Measured


class Table(pandas.DataFrame):
    _metadata = ["unit"]  # noqa: RUF012

    @property
    def _constructor(self):
        return Table


@pytest.mark.parametrize(("kind", "plain"), [(Measured, pandas.Series([1])), (Table, pandas.DataFrame({"a": [1]}))])
def test_metadata_of_subclasses_counts(kind, plain):
    digests = [digest_of(kind(plain))]
    for unit in ("m", "s"):
        table = kind(plain)
        table.unit = unit
        assert digest_of(table) == digest_of(table.copy())
        digests.append(digest_of(table))
    assert len(set(digests)) == 3


def test_the_name_of_a_series_counts():
    assert digest_of(pandas.Series([1], name="a")) != digest_of(pandas.Series([1], name="b"))


def arrow_values(arrow):
    """Types of Arrow, each with two members that differ."""
    day, nan = datetime.datetime(2020, 1, 1), float("nan")
    return [
        (arrow.int64(), 2**60, 2**60 + 1),
        (arrow.bool_(), False, True),
        (arrow.float64(), 0.0, nan),
        (arrow.float16(), np.float16(0), np.float16(nan)),
        (arrow.date32(), day.date(), datetime.date(2020, 1, 2)),
        (arrow.time64("us"), datetime.time(1), datetime.time(2)),
        (arrow.time64("ns"), 1, 2),
        (arrow.duration("ns"), 1, 2),
        (arrow.timestamp("ns", "UTC"), day, datetime.datetime(2020, 1, 2)),
        (arrow.string(), "a", "<NA>"),
        (arrow.binary(), b"a", b"b"),
        (arrow.decimal128(5, 2), decimal.Decimal("1.5"), decimal.Decimal("0")),
        (arrow.list_(arrow.float64()), [1.0, None], [1.0, nan]),
        (arrow.struct([("a", arrow.float64())]), {"a": None}, {"a": nan}),
        (arrow.map_(arrow.string(), arrow.int64()), [("a", 1)], [("a", 2)]),
    ]


def test_arrays_of_arrow_count_by_content_not_by_chunks():
    arrow = pytest.importorskip("pyarrow")
    digests = []
    for kind, one, other in arrow_values(arrow):
        for members in ([one, None], [other, None], [None, one], [one, other], [None, None]):
            series, *parts = (
                pandas.Series(pandas.arrays.ArrowExtensionArray(arrow.array(cut, type=kind)))
                for cut in (members, members[:1], members[1:])
            )
            digests.append(digest_of(series))
            assert digest_of(pandas.concat(parts, ignore_index=True)) == digests[-1], kind
    assert len(set(digests)) == len(digests)


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
