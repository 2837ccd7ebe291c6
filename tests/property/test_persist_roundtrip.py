"""What goes through `dump` and `load` comes back equal, and equal values have equal digests."""

import copy
import io
import pickle

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fastpar.hashing import hash as digest_of
from fastpar.persist import dump, load

DTYPES = st.one_of(
    npst.boolean_dtypes(),
    npst.integer_dtypes(endianness="?"),
    npst.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    npst.complex_number_dtypes(),
    npst.datetime64_dtypes(),
    npst.unicode_string_dtypes(max_len=5),
    npst.byte_string_dtypes(max_len=5),
    npst.array_dtypes(),
)


@st.composite
def arrays(draw):
    """Arrays of any dtype and layout: contiguous, transposed, strided, reversed, broadcast."""
    values = draw(npst.arrays(draw(DTYPES), npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6)))
    values = values.transpose(draw(st.permutations(range(values.ndim))))
    if values.ndim and draw(st.booleans()):
        values = values[tuple(slice(None, None, draw(st.sampled_from([1, 2, -1]))) for _ in range(values.ndim))]
    if draw(st.booleans()):
        values = np.broadcast_to(values, (2, *values.shape))
    return values


atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(allow_nan=False),
    st.text(st.characters(), max_size=300),
    st.binary(max_size=300),
)

hashable = st.recursive(atoms, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=5)

values = st.recursive(
    atoms | arrays(),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(hashable, inner, max_size=4),
    max_leaves=12,
)

easy = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


def identical(one, other):
    """Equal in type, value and, for arrays, in dtype and every bit that counts."""
    if isinstance(one, np.ndarray):
        same_kind = type(one) is type(other) and one.shape == other.shape and one.dtype == other.dtype
        return same_kind and np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other).tobytes()
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(identical, one, other))
    if isinstance(one, dict):
        return all(map(identical, one, other)) and all(map(identical, one.values(), other.values()))
    if isinstance(one, frozenset):
        return sorted(map(digest_of, one)) == sorted(map(digest_of, other))
    return one == other or repr(one) == repr(other)


def through(value, **options):
    file = io.BytesIO()
    dump(value, file, compress=options.pop("compress", 0))
    file.seek(0)
    return load(file, ensure_native_byte_order=False, **options)


@easy
@given(values, st.sampled_from([0, 1, "bz2", "lzma"]))
def test_round_trip(value, compress):
    assert identical(through(value, compress=compress), value)


@easy
@given(values)
def test_round_trip_of_untrusted_files(value):
    assert identical(through(value, trusted=False), value)


@easy
@given(arrays())
def test_mapped(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "mapped"
    dump([value, "x", value[..., :1] if value.ndim else value], path)
    found = load(path, mmap_mode="r")
    assert identical(np.array(found[0]), np.array(value))


@easy
@given(values)
def test_equal_values_have_equal_digests(value):
    expected = digest_of(value)
    for copied in (copy.deepcopy(value), pickle.loads(pickle.dumps(value)), through(value)):
        if identical(copied, value):  # NumPy copies some big-endian arrays as little-endian ones
            assert digest_of(copied) == expected


@easy
@given(values, values)
def test_digests_are_equal_only_for_equal_values(one, other):
    assert (digest_of(one) == digest_of(other)) == identical_values(one, other)


def identical_values(one, other):
    """As `identical`, with dicts and sets compared without order."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = {digest_of(key): key for key in one}
        others = {digest_of(key): key for key in other}
        return found.keys() == others.keys() and all(
            identical_values(one[found[name]], other[others[name]]) for name in found
        )
    if type(one) is type(other) and isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(identical_values, one, other))
    if isinstance(one, frozenset):
        return type(one) is type(other) and sorted(map(digest_of, one)) == sorted(map(digest_of, other))
    return identical(one, other)


@easy
@given(arrays())
def test_layout_does_not_count(value):
    expected = digest_of(value)
    assert digest_of(np.array(value, order="C")) == expected
    assert digest_of(np.array(value, order="F")) == expected


@easy
@given(st.lists(values, min_size=1, max_size=4), st.data())
def test_any_change_changes_the_digest(value, data):
    before = digest_of(value)
    position = data.draw(st.integers(0, len(value) - 1))
    changed = list(value)
    changed[position] = ("another", value[position])
    assert digest_of(changed) != before
    assert digest_of(value[:position] + value[position + 1 :]) != before
