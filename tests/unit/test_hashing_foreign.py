"""`fastpar.hash` of polars frames and torch tensors: by content, however they are stored."""

import datetime
import warnings

import pytest

from fastpar.errors import UnhashableError
from fastpar.hashing import hash as digest_of

# -- polars ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def polars():
    polars = pytest.importorskip("polars")
    digest_of(polars.concat([polars.DataFrame(columns(polars))] * 2))  # starts its threads, which stay
    return polars


def columns(polars):
    """A series of each kind, each with three members that are not all the same."""
    day, moment = datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1)
    return {
        "int": polars.Series([1, 2, 3]),
        "byte": polars.Series([1, 2, 3], dtype=polars.UInt8),
        "wide": polars.Series([1, 2, 1 << 100], dtype=polars.Int128),
        "float": polars.Series([0.5, float("nan"), 1.5]),
        "missing": polars.Series([1, None, 2], dtype=polars.Int16),
        "text": polars.Series(["a", None, "b"]),
        "bytes": polars.Series([b"a", None, b"b"]),
        "bool": polars.Series([True, False, None]),
        "date": polars.Series([day, None, day + datetime.timedelta(1)]),
        "moment": polars.Series([moment, None, moment + datetime.timedelta(1)]),
        "span": polars.Series([datetime.timedelta(1), None, datetime.timedelta(2)]),
        "decimal": polars.Series(["1.5", "2.5", None]).cast(polars.Decimal(10, 2)),
        "category": polars.Series(["u", "v", "u"], dtype=polars.Categorical),
        "list": polars.Series([[1, 2], [], None]),
        "array": polars.Series([[1, 2], [3, 4], None], dtype=polars.Array(polars.Int64, 2)),
        "struct": polars.Series([{"x": 1}, {"x": 2}, None]),
    }


def test_polars_frames_count_by_content_not_by_chunks(polars):
    whole = polars.DataFrame(columns(polars))
    chunked = polars.concat([whole[:1], whole[1:]], rechunk=False)
    assert digest_of(whole) == digest_of(whole.clone()) == digest_of(chunked)
    assert digest_of(whole) != digest_of(whole[:2])
    assert digest_of(whole) != digest_of(whole.rename({"int": "other"}))


def test_every_member_of_a_polars_series_counts(polars):
    digests = set()
    for name, series in columns(polars).items():
        for variant in (series, series.reverse(), series.rename("other"), series[:2], series[:0]):
            digests.add(digest_of(variant))
        assert digest_of(series.cast(series.dtype)) == digest_of(series), name
    # The category is its own reverse.
    assert len(digests) == 5 * len(columns(polars)) - 1


def test_polars_types_count(polars):
    narrow, wide = (polars.Series([1, 2], dtype=kind) for kind in (polars.Int32, polars.Int64))
    assert digest_of(narrow) != digest_of(wide)


# -- torch -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("torch")


def test_tensors_count_by_content_not_by_strides(torch):
    values = torch.arange(12.0).reshape(3, 4)
    assert digest_of(values) == digest_of(values.clone()) == digest_of(values.T.contiguous().T)
    assert digest_of(values[:, ::2]) == digest_of(values[:, ::2].contiguous())
    others = [values + 1, values.T, values.double(), values.reshape(4, 3), values[:2], torch.nn.Parameter(values)]
    assert len({digest_of(other) for other in [values, *others]}) == 7
    assert digest_of(values) != digest_of(values.numpy())
    assert digest_of(values.clone().requires_grad_()) == digest_of(values)
    assert digest_of(torch.tensor([1 + 2j]).conj()) == digest_of(torch.tensor([1 - 2j]))


@pytest.mark.parametrize(
    "kind", ["bool", "uint8", "int16", "int64", "float16", "bfloat16", "float64", "complex64", "float8_e4m3fn"]
)
def test_tensors_of_each_dtype(torch, kind):
    dtype = getattr(torch, kind, None)
    if dtype is None:
        pytest.skip(f"this torch has no {kind}")
    one, same, other = (torch.tensor(members).to(dtype) for members in ([0, 1], [0, 1], [1, 0]))
    assert digest_of(one) == digest_of(same) != digest_of(other)
    assert digest_of(torch.zeros(0, 3, dtype=dtype)) != digest_of(torch.zeros(3, 0, dtype=dtype))
    assert digest_of(torch.zeros((), dtype=dtype)) != digest_of(torch.zeros(1, dtype=dtype))


def test_modules_count_by_their_parameters(torch):
    torch.manual_seed(0)
    module = torch.nn.Linear(2, 3)
    before = digest_of(module)
    with torch.no_grad():
        module.bias += 1
    assert digest_of(module) != before


def test_tensors_without_members_at_hand_are_refused(torch):
    with pytest.raises(UnhashableError, match="meta"):
        digest_of({"a": torch.empty(2, device="meta")})
    with pytest.raises(UnhashableError, match="sparse"):
        digest_of(torch.eye(3).to_sparse())
