"""`fastpar.hash`: what is equal, what differs, and what has no value."""

import collections
import datetime
import decimal
import enum
import fractions
import functools
import json
import pathlib
import subprocess
import sys
import threading
import uuid
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from fastpar.errors import UnhashableError
from fastpar.hashing import hash as digest_of

GOLDEN = Path(__file__).with_name("hash_golden.json")


class Colour(enum.Enum):
    RED = 1


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y


class Slotted:
    __slots__ = ("a",)

    def __init__(self, a):
        self.a = a


Pair = collections.namedtuple("Pair", "left right")


class Builder:
    """Its instances make what reductions call."""

    def __init__(self, settings):
        self.settings = settings

    def build(self):
        return Built(self.build)

    @classmethod
    def new(cls):
        return Built(cls.new)


class OtherBuilder(Builder):
    pass


class Built:
    """An object that pickle makes again by a call of `make`."""

    def __init__(self, make):
        self.make = make

    def __reduce__(self):
        return self.make, ()


class Singleton:
    """Known to pickle by a name, whatever that name finds."""

    def __init__(self, name):
        self.name = name

    def __reduce__(self):
        return self.name


ONLY = Singleton("ONLY")


def golden_values():
    """One of everything whose digest must never change without a new scheme."""
    rows = np.arange(12, dtype="<i4").reshape(3, 4)
    return {
        "none": None,
        "true": True,
        "int": 7,
        "big int": -(2**80),
        "float": 0.1,
        "nan": float("nan"),
        "complex": 1 - 2j,
        "str": "häß",
        "long str": "x" * 1000,
        "surrogate": "\ud800",
        "bytes": b"\0\1",
        "bytearray": bytearray(b"ab"),
        "list": [1, [2.0, "three"], ()],
        "long list": list(range(100_000)),
        "dict": {"b": 1, "a": [None]},
        "mixed dict": {1: "a", (2, 3): {4}},
        "set": {"x", 1, 2.5},
        "frozenset": frozenset(range(20)),
        "range": range(0, 10, 3),
        "slice": slice(1, None, 2),
        "date": datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
        "timedelta": datetime.timedelta(days=1, microseconds=3),
        "decimal": decimal.Decimal("1.50"),
        "fraction": fractions.Fraction(1, 3),
        "uuid": uuid.UUID(int=5),
        "path": pathlib.PurePosixPath("a/b"),
        "deque": collections.deque([1, 2], maxlen=5),
        "ordered dict": collections.OrderedDict([("b", 1), ("a", 2)]),
        "counter": collections.Counter("abca"),
        "builtin": len,
        "type": int,
        "array": rows,
        "fortran": np.asfortranarray(rows),
        "strided": rows[::2, 1:],
        "zero-d": np.array(2.5),
        "empty": np.zeros((0, 3)),
        "big endian": rows.astype(">f8"),
        "datetime64": np.array(["2020-01-01", "NaT"], dtype="datetime64[D]"),
        "structured": np.array([(1, 2.0)], dtype=[("a", "<i2"), ("b", "<f8")]),
        "padded": np.zeros(2, dtype=np.dtype([("a", "i1"), ("b", "<f8")], align=True)),
        "objects": np.array([1, "a", None], dtype=object),
        "text array": np.array(["ab", "c"]),
        "scalar": np.float32(1.5),
        "dtype": np.dtype("<f4"),
        "large array": np.arange(5 << 20, dtype="<f8"),
        "ufunc": np.add,
        "masked": np.ma.masked_array([1, 2, 3], [False, True, False]),
    }


def test_digests_are_those_of_the_golden_file():
    found = {name: digest_of(value) for name, value in golden_values().items()}
    assert found == json.loads(GOLDEN.read_text())


def test_digests_do_not_depend_on_the_process():
    code = (
        f"import json, sys; sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[2])!r}]\n"
        "from test_hashing import golden_values, digest_of\n"
        "print(json.dumps({name: digest_of(value) for name, value in golden_values().items()}))"
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == json.loads(GOLDEN.read_text())


@pytest.mark.parametrize(
    "pair",
    [
        (1, 1.0),
        (1, True),
        (0, False),
        (0.0, -0.0),
        ("a", b"a"),
        (b"a", bytearray(b"a")),
        ([1], (1,)),
        ([], ()),
        ([[1], 2], [[1, 2]]),
        (["ab", "c"], ["a", "bc"]),
        ({1}, frozenset({1})),
        ({"a": None}, {"a": {}}),
        (np.float64(1), 1.0),
        (np.float64(1), np.float32(1)),
        (np.zeros(4), np.zeros((2, 2))),
        (np.zeros(4, "f8"), np.zeros(4, "i8")),
        (np.zeros(4), [0.0] * 4),
        (Point(1, 2), Point(2, 1)),
        (collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1)),
        (Pair(1, 2), (1, 2)),
        (len, max),
        ([].append, [1].append),
        (functools.partial(int, base=2), functools.partial(int, base=3)),
        (np.array([1, None], dtype=object), np.array([1, 0], dtype=object)),
        ("x" * 300, "x" * 301),
        (2**63, -(2**63)),
    ],
    ids=repr,
)
def test_unequal_values_differ(pair):
    first, second = pair
    assert digest_of(first) != digest_of(second)


def test_order_of_sets_and_dicts_does_not_count():
    names = [f"name{i}" for i in range(50)]
    backwards = names[::-1]
    assert digest_of(set(names)) == digest_of(set(backwards))
    assert digest_of(dict.fromkeys(names)) == digest_of(dict.fromkeys(reversed(names)))
    mixed = {1: "a", "b": 2, (3,): [4]}
    assert digest_of(mixed) == digest_of(dict(reversed(mixed.items())))


def test_identity_does_not_count():
    text = "".join(["ab", "cd"])
    inner = [1, 2, list(range(100))]
    assert digest_of([text, text]) == digest_of(["abcd", "".join("abcd")])
    assert digest_of([inner, inner]) == digest_of([inner, [1, 2, list(range(100))]])
    assert digest_of({"a": inner, "b": inner}) == digest_of({"a": [1, 2, list(range(100))], "b": list(inner)})


def test_a_graph_that_shares_costs_its_nodes_not_its_paths():
    nested = ["leaf"] * 10
    for _ in range(200):
        nested = [nested, nested]
    assert digest_of(nested) == digest_of(nested)


def test_cycles_end():
    first, second = [], []
    first.append(first)
    second.append(second)
    assert digest_of(first) == digest_of(second) != digest_of([[]])
    ring = Point(1, 2)
    ring.x = {"back": [ring]}
    assert digest_of(ring) == digest_of(ring)


def test_a_cyclic_graph_costs_its_nodes():
    nodes = [Point(i, None) for i in range(300)]
    for node in nodes:
        node.y = nodes
    assert digest_of(nodes) == digest_of(nodes)


def test_temporary_objects_are_not_mistaken_for_each_other():
    class Fresh:
        def __init__(self, n):
            self.n = n

        def __reduce__(self):
            return Point, ([self.n] * 30, [self.n + 1] * 30)

    assert digest_of([Fresh(i) for i in range(50)]) != digest_of([Fresh(0)] * 50)
    assert len({digest_of(Fresh(i)) for i in range(50)}) == 50


def test_deep_nesting_is_an_error_of_python():
    nested = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(RecursionError):
        digest_of(nested)
    while nested:  # or its deallocation recurses too
        nested = nested.pop()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(3000, 700), (7, 5, 1, 90_001)])
def test_memory_order_does_not_count(order, shape):
    values = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    expected = digest_of(values)
    assert digest_of(np.asarray(values, order=order)) == expected
    assert digest_of(np.repeat(values, 2, axis=0)[::2]) == expected
    assert digest_of(values[::-1][::-1]) == expected


def test_large_arrays_do_not_depend_on_how_they_are_cut():
    values = np.arange(70_000_000, dtype=np.uint8)
    wide = np.empty((70_000_000, 2), np.uint8)
    wide[:, 0] = values
    assert digest_of(values) == digest_of(wide[:, 0])
    values[60_000_000] ^= 1
    assert digest_of(values) != digest_of(wide[:, 0])


def test_padding_between_fields_does_not_count():
    kind = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    first, second = (np.frombuffer(bytes([fill]) * 32, np.uint8).copy().view(kind) for fill in (0, 255))
    for values in (first, second):
        values["a"], values["b"] = 1, 2.0
    assert first.tobytes() != second.tobytes()
    assert digest_of(first) == digest_of(second)


def test_memmap_counts_as_array_on_request(tmp_path):
    values = np.arange(10.0)
    mapped = np.memmap(tmp_path / "m", "f8", "w+", shape=10)
    mapped[:] = values
    assert digest_of(mapped) != digest_of(values)
    assert digest_of(mapped, coerce_mmap=True) == digest_of(values, coerce_mmap=True) == digest_of(values)
    assert digest_of([mapped], coerce_mmap=True) == digest_of([values])


def test_functions_count_by_code():
    def make(step):
        def add(x):
            return x + step

        return add

    assert digest_of(make(1)) == digest_of(make(1)) != digest_of(make(2))
    assert digest_of(Point(1, 2).__init__) == digest_of(Point(1, 2).__init__) != digest_of(Point(2, 2).__init__)


def test_objects_go_through_their_reduction():
    assert digest_of(Point(1, [2])) == digest_of(Point(1, [2]))
    assert digest_of(Slotted(1)) == digest_of(Slotted(1)) != digest_of(Slotted(2))
    assert digest_of(Colour.RED) == digest_of(Colour(1))
    late = Point(1, 2)
    early = Point.__new__(Point)
    early.y, early.x = 2, 1
    assert digest_of(late) == digest_of(early)


def test_constructors_count_with_what_they_are_bound_to():
    def local(step):
        return lambda: step

    makes = [Builder(1).build, Builder(2).build, Builder.new, OtherBuilder.new, [1].copy, [2].copy, local(1), local(2)]
    makes += map(functools.cache, makes[-2:])
    assert len({digest_of(Built(make)) for make in makes}) == len(makes)
    assert digest_of(Built(Builder([1]).build)) == digest_of(Built(Builder([1]).build))
    assert digest_of(Built(local(1))) == digest_of(Built(local(1)))


def test_a_name_counts_only_if_it_finds_the_object():
    assert digest_of(ONLY) == digest_of(ONLY)
    for name in ("ONLY", "Nothing", "Builder.nothing", "somewhere.<locals>.ONLY"):
        with pytest.raises(UnhashableError, match="known by its name alone"):
            digest_of([Singleton(name)])
    assert digest_of(...) != digest_of(NotImplemented)


def test_cached_functions_count_by_what_they_wrap():
    def make(step):
        @functools.cache
        def add(x):
            return x + step

        return add

    first = make(1)
    before = digest_of(first)
    assert first(1) == 2
    assert before == digest_of(first) == digest_of(make(1)) != digest_of(make(2))
    assert before != digest_of(first.__wrapped__)


def test_what_a_named_object_wraps_counts(monkeypatch):
    before = digest_of(ONLY)
    monkeypatch.setattr(ONLY, "__wrapped__", lambda: 1, raising=False)
    one = digest_of(ONLY)
    monkeypatch.setattr(ONLY, "__wrapped__", lambda: 2)
    assert len({before, one, digest_of(ONLY)}) == 3


def test_ufuncs_count_by_where_they_are_found():
    assert digest_of(np.add) != digest_of(np.subtract)
    for make in (lambda x: x + 1, lambda x: x * 10, np.add):
        with pytest.raises(UnhashableError, match="ufunc"):
            digest_of(np.frompyfunc(make, 1, 1))


def test_ufuncs_of_other_libraries_differ_from_those_of_numpy():
    special = pytest.importorskip("scipy.special")
    assert digest_of(special.exp2) != digest_of(np.exp2)
    assert digest_of(special.gamma) == digest_of(special.gamma) != digest_of(special.gammaln)


def test_vectorized_functions_count_by_what_they_call():
    function = np.vectorize(lambda x: x + 1, otypes=[float])
    before = digest_of(function)
    function([1, 2])  # keeps a ufunc
    assert digest_of(function) == before != digest_of(np.vectorize(lambda x: x + 2, otypes=[float]))


NUMBA = """
import numba
from fastpar.hashing import hash as digest_of

def make(step, **options):
    def add(x):
        return x + step
    return numba.njit(add, **options)

def fill(x, y):
    y[:] = x

def double(x):
    return 2 * x

functions = [make(1), make(2), make(1, fastmath=True), numba.njit("f8(f8)")(double), numba.njit("i8(i8)")(double)]
functions += [numba.vectorize(double), numba.vectorize(["f8(f8)"])(double)]
functions += [numba.guvectorize("(n)->(n)")(fill), numba.guvectorize(["(f8[:], f8[:])"], "(n)->(n)")(fill)]
before = list(map(digest_of, functions))
assert len(set(before)) == len(before)
functions[0](1), functions[5](1.0)
assert list(map(digest_of, functions)) == before
print(*before)
"""


@pytest.mark.slow
def test_functions_of_numba_count_by_what_they_compile(tmp_path):
    pytest.importorskip("numba")
    script = tmp_path / "script.py"
    script.write_text(NUMBA)
    path = str(Path(__file__).parents[2])
    printed = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, script], env={"PYTHONHASHSEED": seed, "PYTHONPATH": path}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        printed.add(done.stdout)
    assert len(printed) == 1


@pytest.mark.parametrize(
    "thing", [threading.Lock(), (i for i in ()), sys._getframe()], ids=["lock", "generator", "frame"]
)
def test_what_has_no_value_is_an_error_naming_the_path(thing):
    holder = Point({"inner": [1, thing]}, 2)
    with pytest.raises(UnhashableError, match=r"at value\[0\]\['p'\]\(Point\)\['x'\]\['inner'\]\[1\]"):
        digest_of([{"p": holder}])
    with pytest.raises(TypeError):
        digest_of(thing)


def test_other_hash_functions():
    assert len(digest_of([1, 2])) == len(digest_of([1, 2], "md5")) == 32
    assert len(digest_of([1, 2], hash_name="sha1")) == 40
    assert len({digest_of([1], name) for name in ("xxh3", "md5", "sha1")}) == 3
    values = np.arange(9_000_000.0)
    assert digest_of(values, "sha1") == digest_of(values.copy(), "sha1")
    with pytest.raises(ValueError, match="hash_name"):
        digest_of(1, "crc32")


def test_changes_during_the_walk_do_not_crash():
    shared = {i: [i] for i in range(1000)}
    ended = threading.Event()

    def change():
        while not ended.is_set():
            shared.pop(0, None)
            shared[0] = [0]

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(50):
            with suppress(RuntimeError, KeyError):
                digest_of(shared)
    finally:
        ended.set()
        thread.join()
