"""Worker processes agree with the serial loop: for values of every kind and size, and for every way to ask for them."""

import dataclasses
import datetime
import decimal
import enum
import fractions
import operator
import pathlib
import uuid

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastpar import Parallel, delayed
from fastpar._core.channel import MAX_BODY
from fastpar.engines.processes.packing import OUT_OF_BAND_BYTES, OWN_BYTES

slower = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

MAX_NBYTES = 1_000  # so that small arrays too take the way of large ones


def parallel(**options):
    return Parallel(2, "processes", **options)


def identity(value):
    return value


def describe(value):
    """What a task can tell of its argument: nothing is lost on the way there.

    But for the byte order, which NumPy's own pickles lose where an array has gaps or holds dates.
    """
    if not isinstance(value, np.ndarray):
        return repr(value)
    native = value.astype(value.dtype.newbyteorder("="))
    return native.dtype.str, value.shape, native.tolist() if native.dtype.hasobject else native.tobytes()


def assert_same(got, wanted):
    """Equal, of the same type, and that all the way down."""
    assert type(got) is type(wanted)
    if isinstance(wanted, np.ndarray):
        assert describe(got) == describe(wanted)
    elif isinstance(wanted, dict):
        assert list(got) == list(wanted)
        for key in wanted:
            assert_same(got[key], wanted[key])
    elif isinstance(wanted, list | tuple):
        assert len(got) == len(wanted)
        for one, other in zip(got, wanted, strict=True):
            assert_same(one, other)
    elif dataclasses.is_dataclass(wanted):
        for field in dataclasses.fields(wanted):
            assert_same(getattr(got, field.name), getattr(wanted, field.name))
    else:
        assert got == wanted or repr(got) == repr(wanted)  # NaN is equal to nothing


# ---- values


class Color(enum.Enum):
    RED = 1
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: object
    y: object = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    items: tuple


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return type(other) is Slotted and self.value == other.value

    __hash__ = None


class Word(str):
    """A subclass of a builtin, with an attribute."""

    note = ""


def make_word(text, note):
    word = Word(text)
    word.note = note
    return word


plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(10**400), max_value=10**400),
    st.floats(),
    st.complex_numbers(allow_nan=False),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.binary(max_size=20).map(bytearray),
    st.dates(),
    st.datetimes(timezones=st.just(datetime.timezone.utc)),
    st.decimals(allow_nan=False).map(decimal.Decimal),
    st.fractions().map(fractions.Fraction),
    st.sampled_from([Color.RED, Color.BLUE, range(3), slice(1, 2), Ellipsis, NotImplemented, int, max]),
    st.just(uuid.UUID(int=7)),
    st.just(pathlib.PurePosixPath("a/b")),
    st.builds(make_word, st.text(max_size=3), st.text(max_size=3)),
)
small_arrays = hnp.arrays(
    st.one_of(hnp.scalar_dtypes(), hnp.array_dtypes(max_size=3)), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)
)
values = st.recursive(
    st.one_of(plain, small_arrays),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=3), st.integers(), st.none()), inner, max_size=4),
        st.builds(Point, inner, inner),
        st.lists(st.integers(), max_size=3).map(tuple).map(Frozen),
        st.sets(st.integers(), max_size=4),
        st.frozensets(st.text(max_size=3), max_size=4),
    ),
    max_leaves=8,
)


@slower
@given(st.lists(values, min_size=1, max_size=6))
def test_values_come_back_as_they_were(given_values):
    assert_same(parallel(max_nbytes=MAX_NBYTES)(delayed(identity)(value) for value in given_values), given_values)


@slower
@given(
    st.lists(st.one_of(plain, small_arrays), min_size=1, max_size=4),
    st.dictionaries(st.sampled_from(["a", "b_", "self"]), plain),
)
def test_values_arrive_as_they_are_in_whatever_place(positional, named):
    def tell(*args, **kwargs):
        return [describe(value) for value in args], {name: describe(value) for name, value in kwargs.items()}

    tasks = [delayed(tell)(*positional), delayed(tell)(**named), delayed(tell)(*positional, **named)] * 2
    expected = [tell(*positional), tell(**named), tell(*positional, **named)] * 2
    assert parallel(max_nbytes=None)(tasks) == expected


def test_objects_with_slots_and_subclasses_of_builtins():
    given_values = [Slotted([1, 2]), make_word("a", "b"), Slotted(None)]
    found = parallel()(delayed(identity)(value) for value in given_values)
    assert found == given_values
    assert found[1].note == "b"


THRESHOLDS = sorted({MAX_BODY, OUT_OF_BAND_BYTES, OWN_BYTES, 100_000})


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("distance", [-4_097, -130, -1, 0, 1, 130, 4_097])
def test_sizes_around_the_thresholds(threshold, distance):
    n = threshold + distance
    text = bytes(range(256)) * (n // 256 + 1)
    contents = [text[:n], bytearray(text[:n]), np.frombuffer(text, np.uint8, n), text[:n].decode("latin-1")]
    for max_nbytes in (None, n - 1, n, n + 1):
        assert_same(parallel(max_nbytes=max_nbytes)(delayed(identity)(value) for value in contents), contents)


@slower
@given(
    st.lists(st.integers(0, 3 * OWN_BYTES), min_size=1, max_size=12),
    st.sampled_from([1, 3, "auto"]),
    st.sampled_from([None, 1_000, 1_000_000]),
)
@example([OUT_OF_BAND_BYTES] * 12, 12, None)
@example([OWN_BYTES] * 12, 12, None)
def test_many_buffers_of_many_sizes_in_one_message(sizes, batch_size, max_nbytes):
    arrays = [np.full(size, place, np.uint8) for place, size in enumerate(sizes)]
    found = parallel(batch_size=batch_size, max_nbytes=max_nbytes)(
        delayed(lambda array, others: (array, [int(other.sum()) for other in others]))(array, arrays)
        for array in arrays
    )
    totals = [place * size for place, size in enumerate(sizes)]
    for (got, got_totals), wanted in zip(found, arrays, strict=True):
        assert_same(got, wanted)
        assert got_totals == totals


# ---- arrays

dtypes = st.one_of(
    hnp.scalar_dtypes(),
    hnp.array_dtypes(max_size=4),
    st.sampled_from([">f8", "<f4", ">i2", ">U3", "S7", "V5", "M8[ns]", "m8[D]", "c16", "f2", "?", "O"]).map(np.dtype),
)


LAYOUTS = {
    "C": lambda array: array,
    "F": np.asfortranarray,
    "gaps": lambda array: np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array,
    "backwards": lambda array: array[::-1] if array.ndim else array,
    "transposed": lambda array: array.T,
    "part": lambda array: array[array.shape[0] // 2 :] if array.ndim else array,
    "broadcast": lambda array: np.broadcast_to(array, (3, *array.shape)),
}


@st.composite
def arrays_of_any_layout(draw):
    """An array with something in it, and as it may lie in memory."""
    dtype = draw(dtypes)
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=12))
    n = int(np.prod(shape))
    if dtype.kind == "O":
        flat = np.empty(n, object)
        flat[:] = [place if place % 3 else str(place) for place in range(n)]
    elif dtype.names or dtype.kind == "V":
        flat = np.zeros(n, dtype)
    else:
        flat = (np.arange(n) % 5).astype(dtype)
    return LAYOUTS[draw(st.sampled_from([*LAYOUTS]))](flat.reshape(shape))


@slower
@given(
    st.lists(arrays_of_any_layout(), min_size=1, max_size=4),
    st.sampled_from([None, 0, 1, 100, 1_000_000]),
    st.sampled_from(["r", "c", "r+", "w+", None]),
)
def test_arrays_of_every_dtype_and_layout(arrays, max_nbytes, mode):
    asked = parallel(max_nbytes=max_nbytes, mmap_mode=mode, batch_size=2)
    found = asked(delayed(lambda array: (describe(array), array, {"in": [array]}))(array) for array in arrays)
    for (told, alone, nested), array in zip(found, arrays, strict=True):
        if not array.dtype.hasobject:
            assert told == describe(array)
        assert_same(np.asarray(alone), array)
        assert_same(np.asarray(nested["in"][0]), array)


@pytest.mark.parametrize("max_nbytes", [None, 0, 1])
def test_arrays_without_bytes(max_nbytes):
    arrays = [np.zeros(0), np.zeros((0, 3)), np.zeros((3, 0, 2), order="F"), np.zeros(4, "V0"), np.zeros((), "S0")]
    assert_same(parallel(max_nbytes=max_nbytes)(delayed(identity)(array) for array in arrays), arrays)


@slower
@given(st.integers(-2, 2), st.sampled_from(["f8", "u1", ">i4"]))
def test_sizes_around_max_nbytes(distance, dtype):
    """Above `max_nbytes`, and not at it, an array arrives as a memory map; either way it is the same array."""
    array = np.arange(1_000).astype(dtype)
    max_nbytes = array.nbytes + distance

    def look(array):
        return isinstance(array, np.memmap), array.dtype.str, describe(array)

    expected = distance < 0, array.dtype.str, describe(array)
    assert parallel(max_nbytes=max_nbytes)([delayed(look)(array)] * 2) == [expected] * 2


# ---- ways to ask


def work(i, size):
    if size == "raise":
        raise LookupError(i)
    return i, b"." * size


ways = st.fixed_dictionaries(
    {
        "return_as": st.sampled_from(["list", "generator", "generator_unordered"]),
        "batch_size": st.sampled_from(["auto", 1, 2, 7, 100]),
        "pre_dispatch": st.sampled_from(["all", "2 * n_jobs", 1, 3, 10]),
        "n_jobs": st.sampled_from([1, 2, 3]),
    }
)
sizes = st.lists(st.sampled_from([0, 0, 0, 10, 40_000, 70_000]), max_size=40)


@slower
@given(ways, sizes)
def test_every_way_to_ask_gives_what_the_serial_loop_does(way, sizes):
    found = list(Parallel(backend="processes", **way)(delayed(work)(i, size) for i, size in enumerate(sizes)))
    if way["return_as"] == "generator_unordered":
        found.sort()
    assert found == [work(i, size) for i, size in enumerate(sizes)]


@slower
@given(ways, st.lists(st.sampled_from([0, 0, 10, 70_000, "raise"]), min_size=1, max_size=30))
def test_failures_in_place(way, sizes):
    asked = Parallel(backend="processes", on_error="return", **way)
    found = list(asked(delayed(work)(i, size) for i, size in enumerate(sizes)))
    places = [result.index if hasattr(result, "index") and hasattr(result, "error") else result[0] for result in found]
    if way["return_as"] == "generator_unordered":
        found = [result for _, result in sorted(zip(places, found, strict=True), key=operator.itemgetter(0))]
        places.sort()
    assert places == list(range(len(sizes)))
    for i, (result, size) in enumerate(zip(found, sizes, strict=True)):
        if size == "raise":
            assert isinstance(result.error, LookupError) and result.error.args == (i,)
        else:
            assert result == work(i, size)


@slower
@given(ways, st.integers(0, 30), st.integers(0, 10))
def test_a_generator_that_is_closed_early(way, n, n_taken):
    assume(way["return_as"] != "list")
    results = Parallel(backend="processes", **way)(delayed(work)(i, 10) for i in range(n))
    taken = [result for _, result in zip(range(n_taken), results, strict=False)]
    results.close()
    assert len(set(taken)) == len(taken) == min(n, n_taken)
    assert set(taken) <= {work(i, 10) for i in range(n)}
    assert list(Parallel(2, "processes")(delayed(abs)(-i) for i in range(3))) == [0, 1, 2]
