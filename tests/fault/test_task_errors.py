"""Whatever a task raises arrives as it is: its type, attributes and traceback, with a note and few frames of ours."""

import gc
import sys
import threading
import traceback
import weakref

import pytest

import fastpar
from fastpar import Parallel, delayed, shutdown
from fastpar.errors import CallInProgressError

OURS = fastpar.__file__.rpartition("__init__")[0]
RETURN_AS = ("list", "generator", "generator_unordered")


def our_frames(error):
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if frame.filename.startswith((OURS, "fastpar/"))]


def raise_it(error):
    raise error


def call(task, n_jobs=2, return_as="list", n_before=3, **settings):
    """Run some harmless tasks and this one; consume everything."""
    parallel = Parallel(n_jobs=n_jobs, backend="threading", return_as=return_as, **settings)
    return list(parallel([*(delayed(abs)(x) for x in range(n_before)), task]))


class OddConstructorError(Exception):
    """Cannot be made from its args."""

    def __init__(self, a, *, b):
        super().__init__("odd")
        self.a, self.b = a, b


class UnpicklableError(Exception):
    def __init__(self):
        super().__init__(threading.Lock())

    def __reduce__(self):
        raise TypeError("never")


class SlotsError(Exception):
    __slots__ = ("value",)


class AbruptError(BaseException):
    pass


class HostileError(Exception):
    """Most of what one may do with it goes wrong."""

    def __str__(self):
        raise RuntimeError("str")

    __repr__ = __str__

    def __eq__(self, other):
        raise RuntimeError("eq")

    __hash__ = None


ERRORS = {
    "odd constructor": OddConstructorError(1, b=2),
    "unpicklable": UnpicklableError(),
    "slots": SlotsError(),
    "BaseException": AbruptError(),
    "hostile": HostileError(),
    "KeyboardInterrupt": KeyboardInterrupt(),
    "SystemExit": SystemExit(3),
    "GeneratorExit": GeneratorExit(),
    "MemoryError": MemoryError("a task's own"),
    "RecursionError": RecursionError(),
    "TimeoutError": TimeoutError("a task's own"),
    "CallInProgressError": CallInProgressError("a task's own"),
    "StopAsyncIteration": StopAsyncIteration(),
}


class TestArrival:
    @pytest.mark.parametrize("n_jobs", [1, 2])
    @pytest.mark.parametrize("return_as", RETURN_AS)
    @pytest.mark.parametrize("name", ERRORS)
    def test_the_very_object_arrives(self, name, return_as, n_jobs):
        error = ERRORS[name]
        with pytest.raises(type(error)) as caught:
            call(delayed(raise_it)(error), n_jobs, return_as)
        assert caught.value is error
        assert len(our_frames(error)) <= 3
        assert traceback.extract_tb(error.__traceback__)[-1].name == "raise_it"
        del caught
        error.__traceback__ = None

    def test_stop_iteration_of_a_task_is_no_end_of_the_results(self):
        with pytest.raises(StopIteration):
            call(delayed(next)(iter(())))
        for return_as in RETURN_AS[1:]:
            with pytest.raises(RuntimeError, match="StopIteration"):  # as in any generator: PEP 479
                call(delayed(next)(iter(())), return_as=return_as)

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_cause_and_context_are_the_tasks_own(self, n_jobs):
        def fail():
            try:
                raise KeyError("inner")
            except KeyError as error:
                raise ValueError("outer") from error

        with pytest.raises(ValueError, match="outer") as caught:
            call(delayed(fail)(), n_jobs)
        assert isinstance(caught.value.__cause__, KeyError)

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_an_error_raised_inside_a_handler_of_the_caller_keeps_that_context_only(self, n_jobs):
        with pytest.raises(ValueError) as caught:
            try:
                raise KeyError("the caller's")
            except KeyError:
                call(delayed(raise_it)(ValueError()), n_jobs)
        assert isinstance(caught.value.__context__, KeyError)
        assert caught.value.__context__.__context__ is None

    @pytest.mark.parametrize("n_jobs", [1, 2])
    @pytest.mark.parametrize("return_as", RETURN_AS)
    def test_few_of_our_frames_come_between_the_users(self, return_as, n_jobs):
        with pytest.raises(ZeroDivisionError) as caught:
            call(delayed(divmod)(1, 0), n_jobs, return_as)
        names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert names[0] == "test_few_of_our_frames_come_between_the_users"
        assert len(our_frames(caught.value)) <= 3

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_nested_calls_add_at_most_three_frames_each(self, n_jobs):
        def inner():
            call(delayed(divmod)(1, 0), n_jobs)

        with pytest.raises(ZeroDivisionError) as caught:
            call(delayed(inner)(), n_jobs)
        assert len(our_frames(caught.value)) <= 6

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_the_same_object_raised_in_many_calls_does_not_grow(self, n_jobs):
        error = ValueError("module level")
        for _ in range(100):
            with pytest.raises(ValueError, match="module level"):
                call(delayed(raise_it)(error), n_jobs)
        assert len(error.__notes__) <= 10


class TestStop:
    def test_the_first_error_stops_the_run_whatever_its_place(self):
        """Task 0 waits until the error of task 1 has arrived: it could wait for ever for its turn."""
        gate, arrived = threading.Event(), []

        def first():
            gate.wait()

        try:
            tasks = [delayed(first)(), *[delayed(raise_it)(ValueError("second"))] * 9]
            Parallel(n_jobs=2, batch_size=1, backend="threading")(tasks)
        except ValueError as error:
            arrived.append(error)
        gate.set()
        assert str(arrived[0]) == "second"

    def test_what_is_queued_is_dropped_and_what_runs_is_let_go(self):
        gate, begun = threading.Event(), []

        def work(place):
            begun.append(place)
            gate.wait()

        tasks = [delayed(work)(0), delayed(raise_it)(ValueError()), *(delayed(work)(place) for place in range(50))]
        with pytest.raises(ValueError):
            Parallel(n_jobs=2, batch_size=1, pre_dispatch="all", timeout=60, backend="threading")(tasks)
        gate.set()
        Parallel(n_jobs=4, backend="threading")(delayed(abs)(x) for x in range(100))
        assert len(begun) <= 2

    def test_the_rest_of_a_batch_is_not_started(self):
        begun = []
        tasks = [delayed(raise_it)(ValueError()), *[delayed(begun.append)(0)] * 99]
        with pytest.raises(ValueError):
            Parallel(n_jobs=2, batch_size=100, backend="threading")(tasks)
        assert begun == []

    @pytest.mark.parametrize("return_as", RETURN_AS[1:])
    def test_a_generator_gives_what_came_before_and_then_raises_and_then_is_at_its_end(self, return_as):
        results = Parallel(n_jobs=2, return_as=return_as, batch_size=1, pre_dispatch=1, backend="threading")(
            [delayed(abs)(-1), delayed(abs)(-2), delayed(raise_it)(ValueError()), delayed(abs)(-3)]
        )
        assert [next(results), next(results)] == [1, 2]
        with pytest.raises(ValueError):
            next(results)
        assert list(results) == []


class TestResources:
    def test_too_deep_recursion_in_tasks(self):
        def deep(n):
            return deep(n + 1)

        with pytest.raises(RecursionError):
            call(delayed(deep)(0))
        assert call(delayed(abs)(-1)) == [0, 1, 2, 1]

    def test_a_caller_near_the_limit_of_recursion(self):
        def descend(n):
            if n == 0:
                return Parallel(n_jobs=2, backend="threading")([delayed(abs)(-1)])
            return descend(n - 1)

        errors = 0
        for depth in range(sys.getrecursionlimit(), 0, -1):
            try:
                assert descend(depth) == [1]
                break
            except RecursionError:
                errors += 1
        assert errors > 0
        assert descend(1) == [1]

    def test_a_real_shortage_of_memory_in_a_task(self):
        with pytest.raises(MemoryError):
            call(delayed(bytearray)(sys.maxsize))
        assert call(delayed(abs)(-1)) == [0, 1, 2, 1]

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_what_cannot_be_pickled_needs_no_pickle(self, n_jobs):
        lock, file = threading.Lock(), sys.stdout
        results = Parallel(n_jobs=n_jobs, backend="threading")([delayed(lambda x: x)(lock), delayed(lambda x: x)(file)])
        assert results == [lock, file]


class Large:
    pass


def refuse(thing):
    raise ValueError("no")


@pytest.mark.parametrize("return_as", ["list", "generator"])
@pytest.mark.parametrize("backend", ["threading", "processes"])
def test_a_failed_call_keeps_nothing_when_its_error_has_gone(backend, return_as):
    """Not only when the collector comes: what the call held may be large."""
    large = Large()
    reference = weakref.ref(large)
    gc.disable()
    try:
        with pytest.raises(ValueError) as caught:
            list(Parallel(2, backend, return_as=return_as)([delayed(refuse)(large)] * 4))
        del large, caught
        shutdown()  # without a GIL a thread frees itself what it has made, when it next runs or ends
        assert reference() is None
    finally:
        gc.enable()
