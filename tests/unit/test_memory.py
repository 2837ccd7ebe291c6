"""`Memory`: what is a hit, what is a miss, and what happens to what is stored."""

import asyncio
import dataclasses
import datetime
import functools
import gc
import inspect
import itertools
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import time
import types
import warnings

import numpy as np
import pytest

from fastpar.errors import JobLibCollisionWarning, MemoryWriteWarning, UnhashableError
from fastpar.memory import (
    MemorizedResult,
    Memory,
    NotMemorizedFunc,
    NotMemorizedResult,
    Store,
    StoreBackendBase,
    expires_after,
    register_store_backend,
    registry,
)


@pytest.fixture(autouse=True)
def collected():
    """Functions and their caches may be in cycles: let them go before anybody counts descriptors."""
    yield
    gc.collect()


@pytest.fixture
def memory(tmp_path):
    return Memory(tmp_path, verbose=0)


CALLS = []
MOMENTS = itertools.count(1)


def plain(x, y=2, *rest, flag=False, **others):
    CALLS.append(x)
    return (x, y, rest, flag, others)


def simple(x, y=2):
    CALLS.append((x, y))
    return x + y


@pytest.fixture(autouse=True)
def no_calls():
    CALLS.clear()


def test_a_hit_computes_nothing(memory):
    cached = memory.cache(simple)
    assert [cached(1), cached(1), cached(2), cached(1)] == [3, 3, 4, 3]
    assert CALLS == [(1, 2), (2, 2)]
    assert cached.stats().hits == 2
    assert cached.stats().misses == 2


RESULTS = {
    "None": None,
    "False": False,
    "large int": 1 << 1_000_000,
    "array": np.arange(5.0),
    "large str": "x" * 200_000,
    "nested": [1, {"a": np.zeros((300, 400))}],
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_of_every_kind(memory, name):
    result = RESULTS[name]
    cached = memory.cache(lambda: result)
    for _ in range(2):
        found = cached()
        assert type(found) is type(result)
        assert found == result if isinstance(result, int) else np.testing.assert_equal(found, result) is None
    assert cached.stats().hits == 1


def test_however_arguments_are_given(memory):
    cached = memory.cache(plain)
    for call in (
        lambda: cached(1),
        lambda: cached(1, 2),
        lambda: cached(y=2, x=1),
        lambda: cached(1, flag=False),
        lambda: cached(1, y=2),
    ):
        assert call() == (1, 2, (), False, {})
    assert CALLS == [1]
    assert cached(1, 2, 3, flag=True, more=4) == (1, 2, (3,), True, {"more": 4})
    assert len(CALLS) == 2
    with pytest.raises(TypeError):
        cached()


def test_ignored_arguments(memory):
    cached = memory.cache(plain, ignore=["y", "*", "**"])
    assert cached(1, 2, 3, other=4) == cached(1, 5, 6, another=7) == cached(1)
    assert CALLS == [1]
    with pytest.raises(ValueError, match="not defined for function plain"):
        memory.cache(plain, ignore=["nothing"])
    with pytest.raises(ValueError, match=r"\*"):
        memory.cache(simple, ignore=["*"])


def test_decorator_forms(memory):
    @memory.cache
    def first(x):
        """First."""
        return x

    @memory.cache(ignore=["x"], verbose=0)
    def second(x):
        return x

    assert (first(1), second(1), second(2)) == (1, 1, 1)
    assert first.__name__ == "first"
    assert first.__doc__ == "First."
    assert first.func.__name__ == "first"
    again = memory.cache(first)
    assert again.func is first.func


def test_every_kind_of_callable(memory):
    class Model:
        factor = 2

        def __init__(self, scale):
            self.scale = scale
            self.bound = memory.cache(self.times)

        def times(self, x):
            CALLS.append(x)
            return x * self.scale

        @memory.cache
        def decorated(self, x):
            CALLS.append(x)
            return x + self.scale

        @classmethod
        def of_class(cls, x):
            return x * cls.factor

        def __call__(self, x):
            return -x * self.scale

        def __getstate__(self):
            return self.scale

    for _ in range(2):
        assert Model(3).bound(2) == 6
        assert Model(4).bound(2) == 8
        assert Model(3).decorated(2) == 5
        assert Model(3).decorated.check_call_in_cache(2)
        assert not Model(9).decorated.check_call_in_cache(2)
    assert len(CALLS) == 3
    assert memory.cache(Model.of_class)(2) == 4
    assert memory.cache(Model(2))(3) == -6
    assert memory.cache(Model(3))(3) == -9
    assert memory.cache(functools.partial(simple, 5))(y=1) == 6
    assert memory.cache(functools.partial(simple, 6))(y=1) == 7
    assert memory.cache(len)([1, 2]) == 2
    assert memory.cache(np.sum)(np.ones(3)) == 3
    assert [memory.cache(lambda x: x + 1)(1), memory.cache(lambda x: x + 2)(1)] == [2, 3]
    with pytest.raises(ValueError, match="callable"):
        memory.cache(5)


def test_closures_count(memory):
    def make(step):
        return memory.cache(lambda x: x + step)

    assert [make(1)(1), make(2)(1), make(1)(1)] == [2, 3, 2]
    lock = threading.Lock()
    with pytest.warns(JobLibCollisionWarning, match="closes over"):
        assert memory.cache(lambda x: (x, lock) and x)(1) == 1


def test_what_partials_methods_and_wrappers_bring_along_counts(memory):
    def make(step):
        def add(x, y=0):
            return x + y + step

        class Local:
            def method(self, x):
                return x + step

            def __call__(self, x):
                return x + step

        return add, Local()

    class Own:
        def __init__(self, step):
            self.step = step

        def method(self, x, y):
            return x + y + self.step

        def __call__(self, x, y):
            return x - y - self.step

    def results(step):
        add, local = make(step)
        own = Own(step)
        callables = [
            functools.partial(add),
            functools.partial(functools.partial(add), y=0),
            local.method,
            local,
            functools.lru_cache(add),
            functools.partial(own.method, y=0),
            functools.partial(own, y=0),
        ]
        return [memory.cache(function)(1) for function in callables]

    for _ in range(2):
        assert results(1) == [2, 2, 2, 2, 2, 2, 0]
        assert results(100) == [101, 101, 101, 101, 101, 101, -99]


def test_a_partials_argument_that_changes_makes_another_call(memory):
    values = [1, 2]
    cached = memory.cache(functools.partial(sum, values))
    assert cached() == 3
    values.append(3)
    assert cached() == 6


def test_what_lru_cache_wraps_is_what_counts(memory, tmp_path):
    for source in (ORIGINAL, OTHER["constant"]):
        cached = memory.cache(functools.lru_cache(function_from(tmp_path, source)))
        assert not cached.check_call_in_cache(1)
        cached(1)
        assert cached.check_call_in_cache(1)
    assert memory.cache(functools.lru_cache(function_from(tmp_path, ORIGINAL))).check_call_in_cache(1)


def test_what_numba_compiles_is_found_again(memory):
    numba = pytest.importorskip("numba")

    def add(x):
        return x + 1

    def other(x):
        return x + 2

    other.__qualname__ = add.__qualname__
    assert memory.cache(numba.njit(add))(1) == 2
    assert memory.cache(numba.njit(add)).check_call_in_cache(1)
    assert memory.cache(numba.njit(other))(1) == 3


def test_another_choice_of_arguments_is_another_generation(memory):
    def function(x, y):
        return (x, y)

    assert memory.cache(function, ignore=["y"])(1, 2) == (1, 2)
    assert memory.cache(function, ignore=["y"])(1, 3) == (1, 2)
    assert memory.cache(function, ignore=["x"])(7, 1) == (7, 1)
    assert memory.cache(function, key=lambda x, y: x)(1, 5) == (1, 5)
    assert memory.cache(function, key=lambda x, y: y)(9, 1) == (9, 1)
    assert memory.cache(function, key=lambda x, y: y)(8, 1) == (9, 1)
    one = memory.cache(function, key=lambda x, y: 0)
    one(1, 2)
    assert "since then key= changed" in memory.cache(function, key=lambda x, y: x * 0).explain(1, 2).reason


SCRIPT = """
import sys
from fastpar import Memory, Parallel, delayed

RATE = {rate}

def helper(x):
    return x * RATE

@Memory(sys.argv[1], verbose=0).cache
def process(x):
    return helper(x)

print(process.check_call_in_cache(3), process(3), Parallel(2)(delayed(process)(i) for i in (3, 4)))
"""


def test_two_scripts_with_the_same_function_are_two(python, tmp_path):
    said = []
    for name, rate in [("a", 2), ("b", 3), ("a", 2)]:
        path = tmp_path / f"{name}.py"
        path.write_text(SCRIPT.format(rate=rate))
        done = python.run(str(path), str(tmp_path / "cache"))
        assert done.stderr == ""
        said.append(done.stdout.strip())
    assert said == ["False 6 [6, 8]", "False 9 [9, 12]", "True 6 [6, 8]"]
    names = {path.name.partition("-")[0] for path in (tmp_path / "cache/fastpar/__main__").iterdir()}
    assert names == {"a", "b"}, "the same in the workers"


def test_location_none_calls(tmp_path):
    memory = Memory(None)
    cached = memory.cache(simple)
    assert isinstance(cached, NotMemorizedFunc)
    assert [cached(1), cached(1), memory.eval(simple, 1)] == [3, 3, 3]
    assert len(CALLS) == 3
    assert cached.call(1) == (3, {})
    assert not cached.check_call_in_cache(1)
    assert not cached.explain(1)
    shelved = cached.call_and_shelve(1)
    assert isinstance(shelved, NotMemorizedResult)
    assert shelved.get() == 3
    shelved.clear()
    with pytest.raises(KeyError):
        shelved.get()
    assert pickle.loads(pickle.dumps(cached))(1) == 3
    memory.clear()
    memory.reduce_size(items_limit=1)
    assert memory.check()

    class Model:
        @memory.cache
        def method(self, x):
            return x * 2

        @memory.cache
        async def later(self, x):
            return x * 3

    model = Model()
    assert model.method(2) == model.method.call_and_shelve(2).get() == model.method.call(2)[0] == 4

    async def awaits():
        return await model.later(2), (await model.later.call_and_shelve(2)).get(), await model.later.call(2)

    assert asyncio.run(awaits()) == (6, 6, (6, {}))


def test_shelved_results(memory):
    cached = memory.cache(simple)
    shelved = cached.call_and_shelve(1)
    assert isinstance(shelved, MemorizedResult)
    assert pickle.loads(pickle.dumps(shelved)).get() == shelved.get() == 3
    assert cached.call_and_shelve(1).args_id == shelved.args_id
    assert shelved.metadata["input_args"] == {"x": "1", "y": "2"}
    assert shelved.duration >= 0
    other = MemorizedResult(memory.store_backend, (shelved.func_id, shelved.args_id))
    assert other.get() == 3
    shelved.clear()
    with pytest.raises(KeyError, match="no longer"):
        shelved.get()
    assert cached(1) == 3
    assert len(CALLS) == 2


def test_call_computes_anew(memory):
    cached = memory.cache(simple)
    cached(1)
    value, metadata = cached.call(1)
    assert value == 3
    assert set(metadata) == {"duration", "input_args", "time"}
    assert len(CALLS) == 2
    assert cached.check_call_in_cache(1)
    assert not cached.check_call_in_cache(5)


def test_validation(memory):
    seen = []

    def fresh(metadata):
        seen.append(metadata)
        return len(seen) > 2

    cached = memory.cache(simple, cache_validation_callback=fresh)
    assert [cached(1), cached(1), cached(1)] == [3, 3, 3]
    assert set(seen[0]) == {"duration", "input_args", "time"}
    assert len(CALLS) == 3, "the first had no result to ask about; two were refused"
    with pytest.raises(ValueError, match="callable"):
        memory.cache(simple, cache_validation_callback=5)
    assert expires_after(seconds=10)({"time": time.time() - 9})
    assert not expires_after(minutes=1)({"time": time.time() - 61})
    assert pickle.loads(pickle.dumps(expires_after(days=1)))({"time": time.time()})


@pytest.mark.parametrize("kind", ["function", "coroutine", "shelved"])
def test_the_callback_is_asked_once_a_call(memory, kind):
    """One that refuses once, say to renew a result, is not asked again whether the one it refused may do now."""
    answers = []

    def valid(metadata):
        return answers.pop()

    async def coroutine(x):
        CALLS.append(x)
        return len(CALLS)

    def function(x):
        CALLS.append(x)
        return len(CALLS)

    cached = memory.cache(coroutine if kind == "coroutine" else function, cache_validation_callback=valid)

    def call():
        if kind == "coroutine":
            return asyncio.run(cached(1))
        return cached.call_and_shelve(1).get() if kind == "shelved" else cached(1)

    assert call() == 1
    for allowed, expected in [(False, 2), (True, 2), (False, 3)]:
        answers.append(allowed)
        assert call() == expected
        assert answers == []


def test_an_expired_result_is_replaced(memory):
    cached = memory.cache(simple, cache_validation_callback=expires_after(seconds=-1))
    cached(1)
    cached(1)
    assert len(CALLS) == 2
    assert "refuses" in cached.explain(1).reason


def test_mapped_for_writing(tmp_path):
    """joblib's "w+" would be an empty file for each load: it maps what is there, as "r+" does."""
    memory = Memory(tmp_path, verbose=0)
    for mode in ("w+", "r+"):
        cached = memory.cache(np.arange, mmap_mode=mode)
        for _ in range(2):
            found = cached(5)
            assert isinstance(found, np.memmap)
            assert found.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="mmap_mode"):
        memory.cache(np.arange, mmap_mode="x")


def test_a_location_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Memory("~/cache", verbose=0).store_backend.location == str(tmp_path / "cache" / "fastpar")


@pytest.mark.parametrize("mode", ["r", "c"])
def test_mapped_results(tmp_path, mode):
    memory = Memory(tmp_path, mmap_mode=mode, verbose=0)
    cached = memory.cache(lambda n: {"values": np.arange(float(n))})
    for _ in range(2):
        values = cached(1000)["values"]
        assert isinstance(values, np.memmap)
        assert values.mode == mode
        assert values[10] == 10
    doubled = memory.cache(lambda values: values.sum())
    assert doubled(values) == doubled(np.asarray(values))
    assert doubled.stats().hits == 1, "a mapped argument is the same call as the array"


def test_compressed_results(tmp_path):
    memory = Memory(tmp_path, compress=3, verbose=0)
    cached = memory.cache(lambda: np.zeros(100_000))
    assert cached().sum() == cached().sum() == 0
    assert memory.check().n_bytes < 5000
    with pytest.warns(UserWarning, match="Compressed results cannot be memmapped"):
        Memory(tmp_path, compress=True, mmap_mode="r")


def test_clear_at_each_level(memory):
    first, second = memory.cache(simple), memory.cache(plain)
    first(1), second(1), first(2)
    first.call_and_shelve(1).clear()
    assert not first.check_call_in_cache(1)
    assert first.check_call_in_cache(2)
    first.clear()
    assert not first.check_call_in_cache(2)
    assert second.check_call_in_cache(1)
    memory.clear()
    assert not second.check_call_in_cache(1)
    assert memory.check().n_entries == 0


def test_what_verbose_says(tmp_path, capsys):
    memory = Memory(tmp_path, verbose=1)
    cached = memory.cache(simple)
    cached(1)
    said = capsys.readouterr().out
    assert f"[Memory] Calling {simple.__module__}.simple..." in said
    assert "simple(x=1, y=2)" in said
    assert "0.0s" in said
    cached(1)
    assert capsys.readouterr().out == ""
    memory.clear()
    assert "Flushing" in capsys.readouterr().out


def test_what_more_verbose_says_of_a_hit(tmp_path, capsys):
    async def later(x):
        return x

    cached = Memory(tmp_path, verbose=11).cache(simple)
    awaited = Memory(tmp_path, verbose=2).cache(later)
    for _ in range(2):
        capsys.readouterr()
        cached(1)
        asyncio.run(awaited(5))
    said = capsys.readouterr().out
    assert f"[Memory] Read from the cache: {__name__}.simple(x=1, y=2)\n" in said
    assert "later(x=5)\n" in said
    assert "Calling" not in said


def test_what_programs_for_joblib_ask_of_a_function(tmp_path):
    before = time.time()
    fresh = expires_after(hours=1)
    memory = Memory(tmp_path, compress=3, verbose=0)
    cached = memory.cache(simple, ignore=["y"], cache_validation_callback=fresh)
    mapping = memory.cache(simple, mmap_mode="r")
    assert (cached.ignore, cached.mmap_mode, cached.compress) == (["y"], None, 3)
    assert cached.cache_validation_callback is fresh
    assert (mapping.ignore, mapping.mmap_mode) == ([], "r")
    assert before <= cached.timestamp <= time.time()
    assert cached.func_id == cached.explain(1).func_id == cached.call_and_shelve(1).func_id


def test_caches_are_loggers_as_joblibs_are(memory, caplog):
    cached = memory.cache(simple)
    caplog.set_level("DEBUG", "joblib")
    things = [memory, cached, cached.call_and_shelve(1)]
    for thing in (*things, *(pickle.loads(pickle.dumps(thing)) for thing in things)):
        caplog.clear()
        thing.warn("hot")
        thing.debug("warm")
        assert [record.getMessage() for record in caplog.records] == [f"[{thing}]: hot", f"[{thing}]: warm"]
        assert thing.format([1]) == "[1]"


def test_pickling(memory):
    cached = pickle.loads(pickle.dumps(memory.cache(simple)))
    assert cached(1) == 3
    assert pickle.loads(pickle.dumps(memory)).cache(simple)(1) == 3
    assert len(CALLS) == 1


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="mmap_mode"):
        Memory(tmp_path, mmap_mode="x")
    with pytest.raises(TypeError, match="nonsense"):
        Memory(tmp_path, backend="nonsense")
    with pytest.raises(TypeError, match="path"):
        Memory(5)
    with pytest.raises(ValueError, match="size"):
        Memory(tmp_path, size_limit="many")


def test_arguments_without_a_value_are_named(memory):
    cached = memory.cache(simple)
    with pytest.raises(UnhashableError, match=r"'y' of simple.*\['a'\].*ignore=\['y'\]"):
        cached(1, {"a": threading.Lock()})


def test_key_instead_of_arguments(memory):
    cached = memory.cache(simple, key=lambda x, y=2: x % 10)
    assert cached(1) == cached(11) == 3
    with pytest.raises(ValueError, match="key"):
        memory.cache(simple, key=5)


def process(path, alpha, verbose=False):
    return path


WAYS_TO_WRITE_A_CALL = {
    "in order": lambda f: f("a.csv", 0.1),
    "half by name": lambda f: f("a.csv", alpha=0.1),
    "by name": lambda f: f(alpha=0.1, path="a.csv"),
    "with the default": lambda f: f("a.csv", 0.1, False),
}
KEYS = {
    "some names": (lambda path, **_: path, "a.csv"),
    "all names": (lambda path, alpha, verbose: (path, alpha, verbose), ("a.csv", 0.1, False)),
    "names by themselves": (lambda *, verbose, **_: verbose, False),
    "every name": (lambda **named: named, {"path": "a.csv", "alpha": 0.1, "verbose": False}),
    "a name of its own": (lambda alpha, path, verbose, salt=5: (path, salt), ("a.csv", 5)),
    "other names": (lambda file, number, flag: (file, number, flag), ("a.csv", 0.1, False)),
    "another name, then names": (lambda file, **_: (file, _["alpha"]), ("a.csv", 0.1)),
    "places": (lambda *args: args, ("a.csv", 0.1, False)),
    "places without names": (lambda path, alpha, verbose, /: (path, alpha, verbose), ("a.csv", 0.1, False)),
}


@pytest.mark.parametrize("way", WAYS_TO_WRITE_A_CALL)
@pytest.mark.parametrize("name", KEYS)
def test_a_key_is_given_the_same_however_a_call_is_written(memory, name, way):
    key, expected = KEYS[name]
    found = []

    def watched(*args, **kwargs):
        found.append(key(*args, **kwargs))
        return found[-1]

    watched.__signature__ = inspect.signature(key)
    WAYS_TO_WRITE_A_CALL[way](memory.cache(process, key=watched))
    assert found == [expected]


def test_a_key_need_not_take_what_is_left_to_its_default(memory):
    for key in (lambda x: x, lambda value: value, str):
        cached = memory.cache(simple, key=key)
        assert [cached(1), cached(x=1)] == [3, 3]
        with pytest.raises(TypeError):
            cached(1, 3)
    assert memory.cache(simple, key=lambda value, y=2: (value, y))(1, 5) == 6


def test_a_key_of_additional_arguments(memory):
    found = []
    memory.cache(plain, key=lambda x, rest, **others: found.append((x, rest, others)))(1, 2, 3, 4, a=5)
    memory.cache(plain, key=lambda *args, **others: found.append((args, others)))(1, 2, 3, 4, a=5)
    memory.cache(plain, key=lambda x: found.append((x,)))(7)
    assert found == [(1, (3, 4), {"y": 2, "flag": False, "a": 5}), ((1, 2, 3, 4), {"flag": False, "a": 5}), (7,)]
    with pytest.raises(TypeError):
        memory.cache(plain, key=lambda x, **others: x)(1, 2, x=4)


def test_a_key_of_a_method(memory):
    class Model:
        @memory.cache(key=lambda x, **_: x)
        def named(self, x):
            return x

        @memory.cache(key=lambda model, number: number)
        def placed(self, x):
            return x

        @memory.cache(key=lambda self, x: (self.name, x))
        def of_the_owner(self, x):
            return self.name, x

        def bound(self, x):
            return self.name, x

        def __init__(self, name="model"):
            self.name = name

    assert [Model().named(3), Model().named(x=3), Model().placed(4), Model().placed(x=4)] == [3, 3, 4, 4]
    assert [Model(name).of_the_owner(1) for name in "ab"] == [("a", 1), ("b", 1)]
    for key in (lambda x: x, lambda x, **_: x, lambda number: number):
        one = memory.cache(Model("one").bound, key=key)
        assert one(5) == one(x=5) == ("one", 5)
        assert one.stats().hits == 1
    by_owner = [memory.cache(Model(name).bound, key=lambda self, x: (self.name, x)) for name in "ab"]
    assert [cached(1) for cached in by_owner] == [("a", 1), ("b", 1)]


def test_results_that_cannot_be_stored_are_returned(memory):
    cached = memory.cache(lambda x: threading.Lock())
    with pytest.warns(MemoryWriteWarning, match="could not be stored"):
        assert cached(1).acquire()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cached(1).acquire(), "the warning comes once"
    assert not cached.check_call_in_cache(1)
    assert cached.stats().failed_writes == 2
    assert memory.check().n_entries == 0


def test_errors_of_the_function_are_its_own(memory):
    def fails(x):
        CALLS.append(x)
        raise KeyError(x)

    cached = memory.cache(fails)
    for _ in range(2):
        with pytest.raises(KeyError):
            cached(1)
    assert len(CALLS) == 2


def test_recursion(memory):
    @memory.cache
    def fibonacci(n):
        CALLS.append(n)
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    assert fibonacci(30) == 832_040
    assert len(CALLS) == 31


def test_a_cached_function_that_is_closed_over_counts_as_its_function(tmp_path):
    def make(location, verbose):
        @Memory(location, verbose=verbose).cache
        def countdown(n):
            return n and countdown(n - 1)

        return countdown

    first, second = make(tmp_path / "a", 0), make(tmp_path / "b", 1)
    assert first.explain(1).func_id == second.explain(1).func_id
    assert first(3) == 0


def test_the_same_call_within_itself_is_no_deadlock(memory):
    depth = []

    @memory.cache(key=lambda x: 0)
    def again(x):
        depth.append(x)
        return x if x == 0 else again(x - 1)

    assert again(3) == 0
    assert len(depth) == 4


# -- identity --------------------------------------------------------------------------------------------------------


def function_from(tmp_path, body, name="f", module="generated"):
    """A function of a module whose source is `body`, as a fresh import would give it."""
    path = tmp_path / f"{module}.py"
    path.write_text(textwrap.dedent(body))
    os.utime(path, (next(MOMENTS),) * 2)  # older than this process
    space = {"__name__": module, "CALLS": CALLS}
    exec(compile(path.read_text(), str(path), "exec"), space)
    return space[name]


ORIGINAL = """
def f(x):
    CALLS.append(x)
    return {"a": x, 'b': [i for i in range(3)]}
"""

SAME = {
    "comments": """
def f(x):
    # a comment
    CALLS.append(x)  # another
    return {"a": x, 'b': [i for i in range(3)]}
""",
    "docstring": '''
def f(x):
    """What it does."""
    CALLS.append(x)
    return {"a": x, 'b': [i for i in range(3)]}
''',
    "layout": """


def f(
    x,
):
    CALLS.append(x)

    return {
        'a': (x),
        "b": [
            i
            for i in range(3)
        ],
    }
""",
    "decorator": """
def same(function):
    return function
@same
def f(x):
    CALLS.append(x)
    return {"a": x, 'b': [i for i in range(3)]}
""",
}

OTHER = {
    "constant": ORIGINAL.replace("3", "4"),
    "name": ORIGINAL.replace("'b'", "'c'"),
    "call": ORIGINAL.replace("    return", "    print()\n    return"),
    "default": ORIGINAL.replace("f(x)", "f(x, y=1)"),
    "operator": ORIGINAL.replace('"a": x', '"a": -x'),
}


@pytest.mark.parametrize("change", SAME)
def test_edits_that_change_no_result_are_hits(memory, tmp_path, change):
    memory.cache(function_from(tmp_path, ORIGINAL))(1)
    memory.cache(function_from(tmp_path, SAME[change]))(1)
    assert CALLS == [1]


@pytest.mark.parametrize("change", OTHER)
def test_edits_that_may_change_a_result_are_misses_and_keep_the_old(memory, tmp_path, change):
    first = memory.cache(function_from(tmp_path, ORIGINAL))
    first(1)
    second = memory.cache(function_from(tmp_path, OTHER[change]))
    explanation = second.explain(1)
    assert not explanation
    assert "its code changed" in explanation.reason or "other versions" in explanation.reason or change == "default"
    second(1)
    assert len(CALLS) == 2
    assert memory.cache(function_from(tmp_path, ORIGINAL)).check_call_in_cache(1), "undone: found again"


def test_source_newer_than_the_code_is_not_believed(memory, tmp_path):
    old = function_from(tmp_path, ORIGINAL)
    (tmp_path / "generated.py").write_text(OTHER["constant"])
    memory.cache(old)(1)
    new = function_from(tmp_path, OTHER["constant"])
    assert not memory.cache(new).check_call_in_cache(1)


def test_source_that_changed_before_the_code_came_here_is_not_believed(memory, tmp_path):
    """Code that another process sent: its file may be older than this process, and yet newer than the code."""
    old = function_from(tmp_path, ORIGINAL)
    new = function_from(tmp_path, OTHER["constant"])
    memory.cache(old)(1)
    assert not memory.cache(new).check_call_in_cache(1)


def test_a_function_sent_elsewhere_is_what_it_is_here(memory, tmp_path):
    """What has its source here, a cell of a notebook say, and only bytecode there."""
    here, helper = function_from(tmp_path, ORIGINAL), function_from(tmp_path, OTHER["name"], module="other")
    cached = memory.cache(here, depends=[helper])
    cached(1)
    make, parts, state = cached.__reduce__()
    os.unlink(tmp_path / "generated.py")
    os.unlink(tmp_path / "other.py")

    def sent(function):
        return types.FunctionType(function.__code__.replace(co_filename="elsewhere"), function.__globals__)

    options = dataclasses.replace(parts[2], depends=(sent(helper),))
    there = make(sent(here), parts[1], options, parts[3])
    assert not there.check_call_in_cache(1)
    there = make(sent(here), parts[1], dataclasses.replace(parts[2], depends=(sent(helper),)), parts[3])
    there.__setstate__(state)
    assert there.check_call_in_cache(1)


def test_functions_of_a_notebook(memory):
    import linecache

    def cell(number, body):
        name = f"<ipython-input-{number}>"
        linecache.cache[name] = (len(body), None, body.splitlines(True), name)
        space = {"__name__": "__main__", "CALLS": CALLS}
        exec(compile(body, name, "exec"), space)
        return space["f"]

    try:
        memory.cache(cell(1, ORIGINAL))(1)
        memory.cache(cell(7, "import os\n" + SAME["comments"]))(1)
        assert CALLS == [1]
        assert not memory.cache(cell(8, OTHER["constant"])).check_call_in_cache(1)
    finally:
        for number in (1, 7, 8):
            linecache.cache.pop(f"<ipython-input-{number}>", None)


def test_functions_without_source(memory):
    space = {"__name__": "nowhere", "CALLS": CALLS}
    exec(ORIGINAL, space)
    memory.cache(space["f"])(1)
    exec(SAME["docstring"], space)
    memory.cache(space["f"])(1)
    assert CALLS == [1]
    exec(OTHER["constant"], space)
    assert not memory.cache(space["f"]).check_call_in_cache(1)


def test_version_and_depends(memory, tmp_path):
    helper = tmp_path / "helper.txt"
    helper.write_text("one")

    def with_version(version=1, helps=simple):
        return memory.cache(plain, version=version, depends=[helps, str(helper), textwrap])

    with_version()(1)
    assert with_version()(1)
    assert CALLS == [1]
    assert "its version changed" in with_version(version=2).explain(1).reason
    assert "function" in with_version(helps=expires_after).explain(1).reason
    cached = with_version()
    assert cached.check_call_in_cache(1)
    helper.write_text("other")
    assert "helper.txt changed" in cached.explain(1).reason
    helper.write_text("one")
    assert cached.check_call_in_cache(1)
    with pytest.raises(TypeError, match="depends"):
        memory.cache(plain, depends=[5])
    with pytest.raises(TypeError, match=r"write depends=\['table.csv'\]"):
        memory.cache(plain, depends="table.csv")
    with pytest.raises(IsADirectoryError, match="name the files"):
        memory.cache(plain, depends=[tmp_path])
    absent = memory.cache(plain, depends=[tmp_path / "absent"])
    absent(1)
    assert absent.check_call_in_cache(1)
    (tmp_path / "absent").write_text("here")
    assert not absent.check_call_in_cache(1)


def test_dependencies_count_as_they_are_at_the_call(memory):
    module = types.ModuleType("fastpar_test_notebook")
    sys.modules[module.__name__] = module

    def cell(step):
        exec(
            f"""
import functools
def helper(x):
    return x + {step}
class Model:
    def predict(self, x):
        return x + {step}
    @functools.cached_property
    def late(self):
        return {step}
    @classmethod
    def make(cls):
        return cls()
class Derived(Model):
    pass
""",
            vars(module),
        )

    try:
        cell(1)
        ways = {
            "function": memory.cache(lambda x: 0 + module.helper(x), depends=[module.helper]),
            "class": memory.cache(lambda x: module.Model().predict(x), depends=[module.Model]),
            "base class": memory.cache(lambda x: module.Derived().predict(x), depends=[module.Derived]),
        }
        assert [ways[name](1) for name in ways] == [2, 2, 2]
        cell(1)
        assert all(ways[name].check_call_in_cache(1) for name in ways)
        cell(100)
        assert [ways[name](1) for name in ways] == [101, 101, 101]
        assert "nothing is stored" not in ways["function"].explain(2).reason
        module.helper = memory.cache(module.helper)
        assert ways["function"].check_call_in_cache(1), "a cache of its own changes nothing"
    finally:
        del sys.modules[module.__name__]


def test_a_partial_in_depends_is_the_same_in_another_process(memory):
    cached = memory.cache(plain, depends=[functools.partial(simple, 5)])
    cached(1)
    assert memory.cache(plain, depends=[functools.partial(simple, 5)]).check_call_in_cache(1)
    assert not memory.cache(plain, depends=[functools.partial(simple, 6)]).check_call_in_cache(1)
    assert "0x" not in "".join(cached._identity.parts())


def test_explain(memory):
    cached = memory.cache(simple)
    assert "nothing is stored" in cached.explain(1).reason
    cached(1)
    hit = cached.explain(1)
    assert hit.hit
    assert hit
    assert str(hit).startswith("hit: stored")
    assert "other arguments" in cached.explain(2).reason
    path = memory.store_backend.path(hit.func_id, hit.args_id)
    os.truncate(path, os.path.getsize(path) - 1)
    assert "damaged" in cached.explain(1).reason
    assert len(CALLS) == 1


# -- stores, limits, check -------------------------------------------------------------------------------------------


def age(memory, cached, argument, seconds):
    explanation = cached.explain(argument)
    moment = time.time() - seconds
    os.utime(memory.store_backend.path(explanation.func_id, explanation.args_id), (moment, moment))


def test_reduce_size_keeps_what_was_used_last(memory):
    cached = memory.cache(lambda x: b"x" * 10_000)
    for i in range(10):
        cached(i)
        age(memory, cached, i, 1000 - i)
    memory.reduce_size(bytes_limit=float("1e9"))
    with pytest.raises(TypeError, match="A size is"):
        memory.reduce_size(bytes_limit=[1])
    with pytest.raises(ValueError, match="A size is"):
        Memory(memory.location, size_limit=float("inf"))
    memory.reduce_size(bytes_limit="50K")
    assert [cached.check_call_in_cache(i) for i in range(10)] == [False] * 6 + [True] * 4
    memory.reduce_size(items_limit=3)
    memory.reduce_size(age_limit=datetime.timedelta(seconds=991.5))
    assert [i for i in range(10) if cached.check_call_in_cache(i)] == [9]
    memory.reduce_size(items_limit=1)
    assert cached.check_call_in_cache(9), "the description of the function is no result"
    assert memory.check().n_entries == 2
    memory.reduce_size(items_limit=0)
    assert memory.check().n_entries == 0, "with the last result goes the description"
    memory.reduce_size()
    with pytest.raises(ValueError, match="positive"):
        memory.reduce_size(age_limit=datetime.timedelta(-1))


def test_size_limit_is_enforced_as_it_goes(tmp_path):
    memory = Memory(tmp_path, verbose=0, size_limit="100K")
    cached = memory.cache(lambda x: b"x" * 10_000)
    for i in range(50):
        cached(i)
        age(memory, cached, i, 1000 - i)
        assert memory.check().n_bytes <= 110_000
    assert cached.check_call_in_cache(49)
    assert not cached.check_call_in_cache(0)
    other = Memory(tmp_path, verbose=0, size_limit="100K").cache(lambda x: b"y" * 90_000)
    other(1)
    assert memory.check().n_bytes <= 110_000, "the count is shared"


def test_use_keeps_a_result(tmp_path):
    memory = Memory(tmp_path, verbose=0, size_limit=60_000)
    cached = memory.cache(lambda x: b"x" * 10_000)
    for i in range(5):
        cached(i)
        age(memory, cached, i, 1000 - i)
    cached(0)
    cached(5)
    cached(6)
    assert cached.check_call_in_cache(0)


def test_age_limit_is_enforced_as_it_goes(tmp_path):
    memory = Memory(tmp_path, verbose=0)
    cached = memory.cache(simple)
    cached(1)
    age(memory, cached, 1, 100)
    limited = Memory(tmp_path, verbose=0, age_limit=datetime.timedelta(seconds=50)).cache(simple)
    limited(2)
    assert not cached.check_call_in_cache(1)
    assert cached.check_call_in_cache(2)


def damaged(content):
    yield "empty", b""
    yield "short", content[:40]
    yield "torn", content[: len(content) // 2]
    yield "cut by one", content[:-1]
    yield "foreign", b"something else"
    yield "flipped", bytes([*content[:-60], content[-60] ^ 1, *content[-59:]])
    yield "pickle of something", pickle.dumps(5)


@pytest.mark.parametrize("size", [1, 300_000])
def test_damaged_entries_are_misses_and_are_found_by_check(memory, size):
    cached = memory.cache(lambda n: b"x" * n)
    cached(size)
    explanation = cached.explain(size)
    path = memory.store_backend.path(explanation.func_id, explanation.args_id)
    with open(path, "rb") as file:
        whole = file.read()
    for what, content in damaged(whole):
        with open(path, "wb") as file:
            file.write(content)
        report = memory.check()
        assert [problem.args_id for problem in report.problems] == [explanation.args_id], what
        assert not report
        assert cached(size) == b"x" * size, what
        assert memory.check(), what
    with open(path, "wb") as file:
        file.write(whole[:50])
    assert not memory.check(fix=True)
    assert memory.check()
    assert not cached.check_call_in_cache(size)


def test_an_entry_whose_class_is_gone_is_a_miss(memory):
    class Local:
        pass

    Local.__qualname__ = "Gone"
    sys.modules[__name__].Gone = Local
    try:
        cached = memory.cache(lambda: [Local] and sys.modules[__name__].__dict__.get("Gone", int)())
        cached()
    finally:
        del sys.modules[__name__].Gone
    with pytest.warns(UserWarning, match="cannot be loaded"):
        assert cached() == 0


def test_a_folder_removed_by_hand_is_no_error(memory, tmp_path):
    import shutil

    cached = memory.cache(simple)
    cached(1)
    shutil.rmtree(tmp_path / "fastpar")
    assert [cached(1), cached(1)] == [3, 3]
    assert len(CALLS) == 2


def test_leftovers_of_writers_that_died_are_swept(memory):
    cached = memory.cache(simple)
    cached(1)
    parts = os.path.join(memory.store_backend.location, ".parts")
    with open(os.path.join(parts, "abandoned"), "wb") as file:
        file.write(b"half")
    assert memory.check()
    report = memory.check(fix=True)
    assert report.n_leftovers == 1
    assert os.listdir(parts) == []
    code = f"""
import os, sys, fcntl
descriptor = os.open({os.path.join(parts, "alive")!r}, os.O_CREAT | os.O_RDWR)
fcntl.flock(descriptor, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""
    writer = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert writer.stdout.readline() == b"locked\n"
    assert memory.check(fix=True).n_leftovers == 0, "its writer lives"
    writer.communicate()
    assert memory.check(fix=True).n_leftovers == 1


@pytest.fixture
def backends(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})


class ForeignBackend(StoreBackendBase):
    """A store as third parties write them for joblib."""

    def _open_item(self, f, mode):
        return open(f, mode)

    def _item_exists(self, location):
        return os.path.exists(location)

    def _move_item(self, src, dst):
        os.replace(src, dst)

    def create_location(self, location):
        os.makedirs(location, exist_ok=True)

    def clear_location(self, location):
        import shutil

        shutil.rmtree(location)

    def get_items(self):
        from types import SimpleNamespace

        for folder, _, files in os.walk(self.location):
            if "output.pkl" in files:
                path = os.path.join(folder, "output.pkl")
                moment = datetime.datetime.fromtimestamp(os.path.getmtime(path))
                yield SimpleNamespace(path=folder, size=os.path.getsize(path), last_access=moment)

    def configure(self, location, verbose=0, backend_options=None):
        self.location = location
        self.options = backend_options


def test_stores_written_for_joblib(tmp_path, backends):
    register_store_backend("foreign", ForeignBackend)
    memory = Memory(str(tmp_path), backend="foreign", verbose=0, backend_options={"a": 1})
    exercise(memory)
    assert pickle.loads(pickle.dumps(memory.cache(simple)))(1) == 3


def test_stores_of_our_own_interface(backends):
    class Dictionary(Store):
        def __init__(self, location, options):
            self.location = location
            self.content = {}

        def head(self, folder, digest, n_bytes):
            content = self.content.get((folder, digest))
            return None if content is None else content[:n_bytes]

        def open(self, folder, digest):
            import io

            content = self.content.get((folder, digest))
            return None if content is None else io.BytesIO(content)

        def write(self, folder, digest):
            import contextlib
            import io

            @contextlib.contextmanager
            def writing():
                file = io.BytesIO()
                yield file
                self.content[folder, digest] = file.getvalue()

            return writing()

        def remove(self, folder, digest):
            self.content.pop((folder, digest), None)

        def entries(self, folder=""):
            from fastpar.memory.store import Entry

            for (above, digest), content in list(self.content.items()):
                if above.startswith(folder):
                    yield Entry(above, digest, len(content), 0.0)

        def clear(self, folder=""):
            for entry in self.entries(folder):
                self.remove(entry.folder, entry.digest)

    register_store_backend("dictionary", Dictionary)
    exercise(Memory("anywhere", backend="dictionary", verbose=0))
    with pytest.raises(ValueError, match="string"):
        register_store_backend(5, Dictionary)


def test_the_local_store(memory):
    exercise(memory)


def test_the_fsspec_store(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    try:
        for location in ("memory://cache", f"file://{tmp_path}/cache"):
            memory = Memory(location, verbose=0)
            exercise(memory)
            assert pickle.loads(pickle.dumps(memory)).cache(simple).check_call_in_cache(1)
    finally:
        fsspec.filesystem("memory").store.clear()


def exercise(memory):
    """What every store must do."""
    memory.clear()
    CALLS.clear()
    cached, arrays = memory.cache(simple), memory.cache(lambda n: np.arange(n, dtype=int))
    assert [cached(1), cached(1), cached(2)] == [3, 3, 4]
    assert len(CALLS) == 2
    for _ in range(2):
        np.testing.assert_array_equal(arrays(100_000), np.arange(100_000))
    assert arrays.stats().hits == 1
    assert cached.call_and_shelve(1).get() == 3
    assert cached.explain(1)
    assert "other arguments" in cached.explain(7).reason
    assert memory.cache(simple, version=2).explain(1).reason.endswith("its version changed")
    report = memory.check()
    assert report
    assert report.n_entries == 5, "three results, two descriptions of functions"
    arrays.clear()
    assert not arrays.check_call_in_cache(100_000)
    memory.reduce_size(items_limit=1)
    assert memory.check().n_entries == 2, "one result and its description"
    memory.clear()
    assert memory.check().n_entries == 0
    cached(1)


# -- async -----------------------------------------------------------------------------------------------------------


def test_coroutines(memory):
    async def slow(x):
        CALLS.append(x)
        await asyncio.sleep(0)
        return x * 2

    cached = memory.cache(slow)

    async def main():
        found = await asyncio.gather(*[cached(3) for _ in range(10)])
        shelved = await cached.call_and_shelve(3)
        value, metadata = await cached.call(3)
        return found, shelved.get(), value, metadata["input_args"]

    assert asyncio.run(main()) == ([6] * 10, 6, 6, {"x": "3"})
    assert CALLS == [3, 3]
    assert asyncio.run(cached(3)) == 6
    assert asyncio.iscoroutinefunction(cached.func)


def test_coroutines_that_wait_leave_room_for_what_they_wait_for(memory):
    """More callers than the event loop has threads, of a function that needs another cached one."""

    async def inner(x):
        await asyncio.sleep(0)
        return x + 1

    inner = memory.cache(inner)

    async def outer(x):
        CALLS.append(x)
        return await inner(x) * 2

    outer = memory.cache(outer, key=lambda x: x)

    async def main():
        return await asyncio.wait_for(asyncio.gather(*[outer(3) for _ in range(100)]), 20)

    assert asyncio.run(main()) == [8] * 100
    assert CALLS == [3]


def test_a_coroutine_that_is_cancelled_lets_the_next_one_lead(memory):
    async def main():
        started, go_on = asyncio.Event(), asyncio.Event()

        async def slow(x):
            CALLS.append(x)
            started.set()
            await go_on.wait()
            return x

        cached = memory.cache(slow, key=lambda x: x)
        cached._identity._closes_over = False  # events have no value
        first, second = asyncio.ensure_future(cached(1)), asyncio.ensure_future(cached(1))
        await started.wait()
        first.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await second

    assert asyncio.run(main()) == 1
    assert CALLS == [1, 1]


def test_from_parallel_workers(memory):
    from fastpar import Parallel, delayed

    cached = memory.cache(simple)
    assert Parallel(4, backend="threading")(delayed(cached)(i % 3) for i in range(30)) == [i % 3 + 2 for i in range(30)]
    assert sorted(CALLS) == [(0, 2), (1, 2), (2, 2)]


IN_PROCESSES = """
import linecache, os, sys
from fastpar import Memory, Parallel, delayed

memory, log = Memory(sys.argv[1], verbose=0), sys.argv[1] + "/log"
source = '''
@memory.cache
def f(x):
    with open(log, "ab", buffering=0) as file:
        file.write(b"x")
    return x * 2

def calls_it(x):
    return f(x)
'''
# As in a cell of a notebook: its source is in this process only.
linecache.cache["<cell>"] = (len(source), None, source.splitlines(True), "<cell>")
exec(compile(source, "<cell>", "exec"))
parallel = Parallel(2, backend="processes")
assert parallel(delayed(f)(i % 3) for i in range(30)) == [i % 3 * 2 for i in range(30)]
assert parallel(delayed(calls_it)(i % 4) for i in range(40)) == [i % 4 * 2 for i in range(40)]
assert [shelved.get() for shelved in parallel(delayed(f.call_and_shelve)(i) for i in range(5))] == [0, 2, 4, 6, 8]
assert [f.check_call_in_cache(i) for i in range(6)] == [True] * 5 + [False]
assert os.path.getsize(log) == 5, "computed once each"
assert memory.check()
print("well")
"""


def test_from_worker_processes(python, tmp_path):
    done = python.run("-c", IN_PROCESSES, str(tmp_path))
    assert done.stdout == "well\n", done.stderr
