"""What travels to workers, and how often: functions, closures, constants, arrays."""

import gc
import os
import weakref
from functools import partial

import numpy as np
import pytest

from fastpar import Parallel, delayed
from fastpar.engines.processes import luggage as luggage_module
from fastpar.engines.processes import pickling
from fastpar.engines.processes.arguments import Arrays
from fastpar.engines.processes.repertoire import MAX_STRONG, Repertoire
from fastpar.engines.processes.warehouse import Warehouse


def parallel(n_jobs=2, **options):
    return Parallel(n_jobs, "processes", **options)


@pytest.fixture
def sent(monkeypatch):
    """The bytes of each parcel that is packed in this process."""
    sizes = []
    pack = luggage_module.pack

    def weigh(pickled, buffers, stock, attachments=()):
        parcel = pack(pickled, buffers, stock, attachments)
        attached = sum(len(segment) for _, segment in attachments)
        sizes.append(len(pickled) + sum(buffer.raw().nbytes for buffer in buffers) + attached)
        return parcel

    monkeypatch.setattr(luggage_module, "pack", weigh)
    return sizes


MB = 1 << 20


@pytest.mark.parametrize("options", [{}, {"on_error": "return"}, {"retries": 1}])
def test_a_closure_goes_once_to_each_worker(sent, options):
    ballast = list(range(4_000_000))  # 10 MB and more of pickle

    def pick(i):
        return ballast[i]

    assert parallel(**options)(delayed(pick)(i) for i in range(10_000)) == ballast[:10_000]
    large = [size for size in sent if size > MB]
    assert 1 <= len(large) <= 2
    assert sum(sent) < 2 * max(large) + 2 * MB


@pytest.mark.parametrize("options", [{}, {"on_error": "return"}, {"retries": 1}])
@pytest.mark.parametrize("by_name", [False, True])
def test_large_text_goes_a_few_times(sent, options, by_name):
    """As an argument of every task: at first with its batch, from its second coming on once to each worker."""
    text = "x" * MB
    tasks = [delayed(length)(value=text) if by_name else delayed(length)(text) for _ in range(50)]
    assert parallel(batch_size=1, **options)(tasks) == [MB] * 50
    assert sum(size > MB // 2 for size in sent) <= 4


@pytest.mark.parametrize("make", [partial, lambda function, ballast: Holder(ballast).length, lambda _, b: b.__len__])
def test_partials_and_methods_go_once_to_each_worker(sent, make):
    function = make(length, b"x" * MB)
    found = parallel(batch_size=1)(delayed(function)() for _ in range(50))
    assert found == [MB] * 50
    assert sum(size > MB // 2 for size in sent) <= 2


def total(array, i):
    return float(array[-1]) + i


def holding(array):
    return lambda i: float(array[-1]) + i


class Model:
    def __init__(self, array):
        self.array = array

    def predict(self, i):
        return float(self.array[-1]) + i

    __call__ = predict


@pytest.mark.parametrize("n_jobs", [2, 4])
@pytest.mark.parametrize(
    "make", [holding, lambda array: partial(total, array), lambda array: Model(array).predict, Model]
)
def test_every_worker_gets_the_arrays_that_a_function_holds(make, n_jobs):
    """Also one that comes later, in the place of another that died, and is told of a function again."""
    function = make(np.full(MB, 0.5))  # more than max_nbytes: in a segment beside the pickle
    assert parallel(n_jobs, batch_size=1)(delayed(function)(i) for i in range(40)) == [i + 0.5 for i in range(40)]
    tasks = [delayed(function)(0), delayed(os._exit)(1), *(delayed(function)(i) for i in range(20))]
    found = parallel(n_jobs, batch_size=1, on_error="return")(tasks)
    assert found[:1] + found[2:] == [0.5, *(i + 0.5 for i in range(20))]


class MakesAnArray:
    """Whose array is there for its pickle only."""

    def __init__(self, ballast):
        self.ballast = ballast

    def __call__(self, i):
        return i

    def __reduce__(self):
        return made_of, (np.full(MB, 0.5), self.ballast)


def made_of(array, ballast):
    assert array[-1] == 0.5
    return MakesAnArray(ballast)


@pytest.mark.parametrize("ballast", [b"", b"x" * MB])  # large: the pickle is in a segment too
def test_an_array_that_was_made_for_a_pickle_is_made_again(ballast):
    function = partial(MakesAnArray(ballast))
    tasks = [delayed(function)(i) for i in range(20)]
    assert parallel(4, batch_size=1)(tasks) == list(range(20))


class Wrapped:
    """A callable such as libraries make for each task, which counts its own calls."""

    def __init__(self):
        self.note = "__main__"  # only a text
        self.n_calls = 0

    def __call__(self, _):
        self.n_calls += 1
        return self.n_calls


def test_callables_of_one_task_stay_apart():
    assert parallel(batch_size=5)(delayed(Wrapped())(i) for i in range(20)) == [1] * 20


def test_a_callable_of_many_tasks_goes_once_to_each_worker(sent):
    measure = Measure(b"x" * MB)
    assert parallel(batch_size=1)(delayed(measure)() for _ in range(50)) == [MB] * 50
    assert sum(size > MB // 2 for size in sent) <= 3  # the first time it is one of a kind


class Measure:
    def __init__(self, value):
        self.value = value

    def __call__(self):
        return len(self.value)


def test_a_text_that_says_main_is_pickled_by_name(monkeypatch):
    monkeypatch.setattr(pickling, "_dumps_by_value", None)
    assert pickling.dumps(["__main__", Wrapped()])[1] == []


def length(value):
    return len(value)


class Holder:
    def __init__(self, value):
        self.value = value

    def length(self):
        return len(self.value)


@pytest.mark.parametrize("constant", [b"x" * MB, "x" * MB])
@pytest.mark.parametrize("batch_size", [1, "auto"])
def test_a_large_constant_goes_once_to_each_worker(sent, constant, batch_size):
    found = parallel(batch_size=batch_size)(delayed(length_and)(constant, i, other=constant) for i in range(300))
    assert found == [(MB, i, MB) for i in range(300)]
    assert sum(size // (MB // 2) for size in sent) // 2 <= 4  # the first time, and as a constant to each worker


def length_and(value, i, other):
    return len(value), i, len(other)


def test_a_list_that_changes_between_tasks_arrives_as_it_is(sent):
    growing = []

    def tasks():
        for i in range(50):
            growing.append(i)
            yield delayed(len)(growing)

    assert parallel(batch_size=1, pre_dispatch=1)(tasks()) == list(range(1, 51))


def test_functions_that_are_gone_are_forgotten_on_both_sides():
    """Each of 60 lambdas brings 5 MB; neither side has more than a few of them at a time."""

    def make(i):
        ballast = np.full(5 * MB // 8, i).tobytes()
        return lambda: (ballast[0], n_known())

    found = parallel(batch_size=1)(delayed(make(i))() for i in range(60))
    assert [first for first, _ in found] == list(range(60))
    assert max(known for _, known in found) < 12


def n_known():
    from fastpar.engines.processes.arguments import repertoire

    return len(repertoire)


@pytest.fixture
def arrays():
    arrays = Arrays(Warehouse(0), 1_000_000, "r")
    yield arrays
    arrays.close()


def test_a_number_ends_with_its_function(arrays):
    known = Repertoire(arrays)

    def function():
        pass

    number = known.find(function).number
    assert known.find(function).number == number
    function = None
    gc.collect()
    assert arrays.gone == [number]
    assert not known._entries


def test_methods_are_found_again_and_end_with_their_object(arrays):
    known = Repertoire(arrays)
    holder = Holder(b"a")
    gone = weakref.ref(holder)
    number = known.find(holder.length).number
    assert known.find(holder.length).number == number
    assert known.find(Holder(b"a").length).number != number
    del holder
    gc.collect()
    assert gone() is None
    assert number in arrays.gone


def test_few_things_are_kept_alive(arrays):
    known = Repertoire(arrays)
    methods = [bytes([i]).__len__ for i in range(3 * MAX_STRONG)]
    numbers = [known.find(str(i) * 40_000).number for i in range(3 * MAX_STRONG)]
    assert len(known._entries) == MAX_STRONG
    assert arrays.gone == numbers[:-MAX_STRONG]
    assert len({known.find(method).number for method in methods}) == len(methods)
    known.close()


def test_what_came_once_is_no_constant_yet(arrays):
    known, mentioned = Repertoire(arrays), []

    def mention(value):
        mentioned.append(value)
        return 7

    large, small = "x" * 100_000, "x" * 10
    assert known.lighten(large, mention) is large
    assert known.lighten(large, mention).number == 7
    assert known.lighten(small, mention) is known.lighten(small, mention) is small
    assert mentioned == [large]


def test_a_callable_of_one_task_goes_with_its_task():
    alive = weakref.WeakSet()

    def tasks():
        for i in range(60):
            function = Wrapped()
            alive.add(function)
            yield delayed(function)(i)

    most = 0
    for _ in Parallel(2, "processes", return_as="generator", batch_size=1, pre_dispatch=2)(tasks()):
        most = max(most, len(alive))
    assert most < 10
