"""The user's iterable misbehaves: its errors arrive as they are, once what runs has ended, and the next call works."""

import itertools
import threading

import pytest

from fastpar import Parallel, delayed

RETURN_AS = ("list", "generator", "generator_unordered")


class Oops(Exception):
    """What the sources raise."""


def failing(n_good, task=abs):
    """A source that gives `n_good` tasks and then raises."""
    for place in range(n_good):
        yield delayed(task)(place)
    raise Oops(n_good)


@pytest.mark.parametrize(("n_jobs", "backend"), [(1, None), (2, "threading"), (2, "processes")])
@pytest.mark.parametrize("return_as", RETURN_AS)
@pytest.mark.parametrize("n_good", [0, 1, 30])
def test_an_error_of_the_source_arrives_as_it_is(n_good, return_as, n_jobs, backend):
    parallel = Parallel(n_jobs, backend, return_as=return_as, batch_size=1)
    with pytest.raises(Oops) as caught:
        list(parallel(failing(n_good)))
    assert caught.value.args == (n_good,)
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert not hasattr(caught.value, "__notes__")
    assert sorted(parallel(delayed(abs)(-x) for x in range(20))) == list(range(20))


def test_it_arrives_after_the_running_tasks_have_ended():
    running, may_end = threading.Barrier(3, timeout=30), threading.Event()
    log = []

    def task():
        running.wait()
        may_end.wait()
        log.append("task")

    def source():
        yield from (delayed(task)() for _ in range(2))
        running.wait()
        threading.Timer(0.01, may_end.set).start()  # the call is waiting by then, or will find the tasks ended
        raise Oops

    with pytest.raises(Oops):
        Parallel(n_jobs=2, batch_size=1, pre_dispatch="all", backend="threading")(source())
    assert log == ["task", "task"]


def test_what_was_queued_when_the_source_failed_is_dropped():
    begun, gate = [], threading.Event()

    def task(place):
        begun.append(place)
        gate.wait()

    def source():
        yield from (delayed(task)(place) for place in range(50))
        threading.Timer(0.01, gate.set).start()
        raise Oops

    with pytest.raises(Oops):
        Parallel(n_jobs=2, batch_size=1, pre_dispatch="all", backend="threading")(source())
    assert len(begun) <= 2


class Mislabelled(list):
    """A list whose length is not how many tasks it holds."""

    def __init__(self, tasks, length):
        super().__init__(tasks)
        self.length = length

    def __len__(self):
        return self.length


@pytest.mark.parametrize("length", [0, 3, 17, 20, 1000])
@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("return_as", RETURN_AS)
def test_a_length_that_is_wrong_loses_nothing(return_as, n_jobs, length):
    tasks = Mislabelled([delayed(abs)(-place) for place in range(17)], length)
    results = Parallel(n_jobs=n_jobs, return_as=return_as, batch_size=1, backend="threading")(tasks)
    assert sorted(results) == list(range(17))


@pytest.mark.parametrize("return_as", RETURN_AS[1:])
def test_a_generator_does_not_end_where_a_wrong_length_says(return_as):
    gate = threading.Event()
    tasks = Mislabelled([delayed(abs)(-1), delayed(gate.wait)()], length=1)
    results = Parallel(n_jobs=2, return_as=return_as, batch_size=1, timeout=60, backend="threading")(tasks)
    assert next(results) == 1
    threading.Timer(0.01, gate.set).start()
    assert list(results) == [True]


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("item", [7, abs, (abs, 1), (abs, (1,), {}, 0), ("abs", (1,), {}), None])
def test_what_is_no_task_is_named_with_its_place_and_the_fix(item, n_jobs):
    with pytest.raises(TypeError, match=r"item 2 is .*write delayed\(f\)\(x\) for x in xs"):
        Parallel(n_jobs=n_jobs, backend="threading")([delayed(abs)(0), delayed(abs)(1), item])


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("iterable", [7, None, abs])
def test_what_is_no_iterable_is_a_type_error(iterable, n_jobs):
    parallel = Parallel(n_jobs=n_jobs, backend="threading")
    with pytest.raises(TypeError, match="not iterable"):
        parallel(iterable)
    assert parallel([delayed(abs)(-1)]) == [1]


@pytest.mark.parametrize("return_as", RETURN_AS)
def test_a_source_may_call_parallel_itself(return_as):
    def source():
        for place in range(10):
            (inner,) = Parallel(n_jobs=2, backend="threading")([delayed(abs)(-place)])
            yield delayed(abs)(inner)

    assert sorted(Parallel(n_jobs=2, return_as=return_as, backend="threading")(source())) == list(range(10))


def test_a_source_may_be_the_results_of_another_call():
    first = Parallel(n_jobs=2, return_as="generator", backend="threading")(delayed(abs)(-x) for x in range(100))
    second = Parallel(n_jobs=2, return_as="generator", backend="threading")(delayed(pow)(x, 2) for x in first)
    assert list(itertools.islice(second, 10)) == [x * x for x in range(10)]
    second.close()
    first.close()


@pytest.mark.parametrize("error", [StopIteration, GeneratorExit, KeyboardInterrupt, SystemExit])
def test_special_exceptions_of_an_iterator_mean_what_they_mean_in_a_loop(error):
    class Source:
        n_read = 0

        def __iter__(self):
            return self

        def __next__(self):
            self.n_read += 1
            if self.n_read > 5:
                raise error
            return delayed(abs)(self.n_read)

    parallel = Parallel(n_jobs=2, backend="threading")
    if error is StopIteration:
        assert parallel(Source()) == [1, 2, 3, 4, 5]
    else:
        with pytest.raises(error):
            parallel(Source())
        assert parallel([delayed(abs)(-1)]) == [1]
