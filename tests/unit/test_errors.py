"""Notes on a task's error: which task it was, whatever its arguments are, never at the price of the error itself."""

import os
import pickle
import sys
import threading
from dataclasses import dataclass

import pytest

from fastpar import Parallel, delayed
from fastpar.errors import (
    BackendUnavailableError,
    CallInProgressError,
    FastparError,
    ForkedRunError,
    TerminatedWorkerError,
    add_task_note,
    describe_call,
    finished_results,
    text_of,
    timeout_error,
    user_traceback,
)


def function(*args, **kwargs):
    pass


class Loud:
    """An object whose repr goes wrong."""

    def __init__(self, error):
        self.error = error

    def __repr__(self):
        raise self.error


class Lines:
    def __repr__(self):
        return "first\n  second\r\n\tthird"


def refuse(self, *args):
    raise KeyError("not bound")


class TestDescribeCall:
    def test_reads_like_the_call(self):
        assert describe_call(function, (1, "a"), {"key": [2]}) == "function(1, 'a', key=[2])"

    @pytest.mark.parametrize(
        "args",
        [
            ("x" * 10**6,),
            (b"x" * 10**6,),
            (list(range(10**5)),),
            ({str(i): i for i in range(10**4)},),
            ([[[[[[["deep"] * 100] * 100] * 100]]]],),
            tuple(range(10**4)),
            (10**4000,),
        ],
    )
    def test_is_bounded_whatever_the_arguments(self, args):
        assert len(describe_call(function, args, {})) < 2000
        assert len(describe_call(function, (), {f"key{i}": value for i, value in enumerate(args)})) < 2000

    def test_an_array_is_bounded_too(self):
        import numpy as np

        assert len(describe_call(function, (np.zeros((500, 500)),), {})) < 500

    def test_is_one_line(self):
        assert describe_call(function, (Lines(),), {"key": Lines()}).splitlines() == [
            "function(first second third, key=first second third)"
        ]

    @pytest.mark.parametrize("error", [ValueError("loud"), RecursionError(), MemoryError()])
    def test_a_repr_that_raises_is_replaced(self, error):
        assert "Loud" in describe_call(function, (Loud(error),), {})

    def test_an_argument_that_holds_itself(self):
        loop = []
        loop.append(loop)
        assert len(describe_call(function, (loop,), {})) < 500

    def test_a_callable_without_a_name_is_shown_by_its_repr(self):
        import functools

        assert describe_call(functools.partial(function, 1), (2,), {}).endswith("(2)")

    def test_a_repr_that_says_no_string(self):
        class Wrong:
            def __repr__(self):
                return 3

        assert "Wrong" in describe_call(function, (Wrong(),), {})

    def test_what_refuses_to_be_looked_at_is_named_by_its_type(self):
        class Proxy:
            __class__ = property(refuse)
            __getattr__ = __repr__ = refuse

        assert describe_call(Proxy(), (Proxy(),), {}) == "<Proxy>(<Proxy>)"


@dataclass(frozen=True)
class Frozen(Exception):
    pass


class TestText:
    def test_is_what_str_gives(self):
        assert text_of(ValueError("the error")) == "the error"

    def test_of_a_class_that_has_none(self):
        class Mute(ValueError):
            def __str__(self):
                return None  # noqa: PLE0307 -- what goes wrong

        assert text_of(Mute()) == "(its text cannot be had)"

    def test_is_text_and_no_more(self):
        class Text(str):
            __slots__ = ()

        class Lazy(ValueError):
            def __str__(self):
                return Text("the error")

        assert type(text_of(Lazy())) is str


class TestNote:
    def test_names_index_function_and_arguments(self):
        error = ValueError("x")
        add_task_note(error, 7, (function, (1,), {"key": 2}))
        assert error.__notes__ == ["in task 7 of fastpar.Parallel: function(1, key=2)"]

    def test_comes_after_the_users_own(self):
        error = ValueError("x")
        error.__notes__ = ["mine"]
        add_task_note(error, 7, (function, (), {}))
        assert error.__notes__[0] == "mine"

    def test_of_an_exception_that_is_raised_again_and_again_stay_few(self):
        error = ValueError("always the same object")
        for index in range(100):
            add_task_note(error, index, (function, (), {}))
        assert len(error.__notes__) <= 10
        assert "task 99 " in error.__notes__[-1]

    def test_the_users_notes_are_never_dropped(self):
        error = ValueError()
        error.__notes__ = [f"mine {i}" for i in range(50)]
        for index in range(100):
            add_task_note(error, index, (function, (), {}))
        assert error.__notes__[:50] == [f"mine {i}" for i in range(50)]

    def test_nested_calls_each_add_theirs(self):
        def fail():
            raise ValueError("x")

        def inner():
            Parallel(n_jobs=2, backend="threading")([delayed(fail)()])

        with pytest.raises(ValueError, match="x") as caught:
            Parallel(n_jobs=2, backend="threading")([delayed(inner)()])
        assert len(caught.value.__notes__) == 2

    def test_that_cannot_be_written_costs_nothing_but_itself(self):
        class Stubborn(ValueError):
            def __setattr__(self, name, value):
                raise AttributeError(name)

            def add_note(self, note):
                raise TypeError("no notes")

        def fail():
            raise Stubborn("the error")

        for n_jobs in (1, 2):
            with pytest.raises(Stubborn, match="the error"):
                Parallel(n_jobs=n_jobs, backend="threading")([delayed(fail)()])

    def test_is_written_on_a_frozen_dataclass(self):
        error = Frozen()
        add_task_note(error, 7, (function, (), {}))
        assert error.__notes__ == ["in task 7 of fastpar.Parallel: function()"]

    def test_notes_that_are_no_list_stay_as_they_are(self):
        def fail():
            error = ValueError("the error")
            error.__notes__ = "mine"
            raise error

        for n_jobs in (1, 2):
            with pytest.raises(ValueError, match="the error") as caught:
                Parallel(n_jobs=n_jobs, backend="threading")([delayed(fail)()])
            assert caught.value.__notes__ == "mine"


class TestTraceback:
    def test_begins_with_the_users_frame(self):
        def fail():
            raise ValueError

        with pytest.raises(ValueError) as caught:
            Parallel(n_jobs=2, backend="threading")([delayed(fail)()])
        assert user_traceback(caught.value).tb_frame.f_code is sys._getframe().f_code

    def test_is_whole_on_request(self, monkeypatch):
        monkeypatch.setenv("FASTPAR_FULL_TRACEBACK", "1")
        error = ValueError()
        try:
            raise error
        except ValueError:
            assert user_traceback(error) is error.__traceback__


@pytest.mark.parametrize(
    ("error", "bases"),
    [
        (BackendUnavailableError("x"), (FastparError, ValueError)),
        (CallInProgressError("x"), (FastparError, RuntimeError)),
        (ForkedRunError("x"), (FastparError, RuntimeError)),
        (timeout_error("x"), (FastparError, TimeoutError)),
    ],
)
def test_our_errors_are_also_what_users_already_catch(error, bases):
    assert isinstance(error, bases) and all(isinstance(error, base) for base in bases)


def test_a_timeout_is_multiprocessings_too_which_is_what_joblib_raises():
    import multiprocessing

    assert isinstance(timeout_error("x"), multiprocessing.TimeoutError)


BACKENDS = ["threading", "processes"]


def fail_at(i, n):
    if i == n:
        raise ZeroDivisionError(i)
    return -i


class TestFinishedResults:
    def test_of_the_serial_loop(self):
        for options in ({}, {"progress": lambda *_: None}):
            with pytest.raises(ZeroDivisionError) as caught:
                Parallel(1, **options)(delayed(fail_at)(i, 3) for i in range(9))
            assert finished_results(caught.value) == {0: 0, 1: -1, 2: -2}

    @pytest.mark.parametrize("batch_size", [1, 5, "auto"])
    @pytest.mark.parametrize("backend", BACKENDS)
    def test_they_are_those_of_their_tasks(self, backend, batch_size):
        with pytest.raises(ZeroDivisionError) as caught:
            Parallel(2, backend, batch_size=batch_size)(delayed(fail_at)(i, 40) for i in range(100))
        found = finished_results(caught.value)
        assert found == {i: -i for i in found}
        assert 40 not in found
        assert len(found) >= 1

    @pytest.mark.parametrize("backend", BACKENDS)
    def test_those_before_the_failure_in_its_own_batch_count(self, backend):
        with pytest.raises(ZeroDivisionError) as caught:
            Parallel(2, backend, batch_size=10)(delayed(fail_at)(i, 7) for i in range(10))
        assert finished_results(caught.value) == {i: -i for i in range(7)}

    @pytest.mark.parametrize("backend", ["threading", "sequential"])
    def test_of_a_run_that_its_source_or_a_ctrl_c_ends(self, backend):
        def source(kind):
            for i in range(4):
                yield delayed(abs)(i)
            done.wait(5)
            raise kind

        for kind in (KeyError, KeyboardInterrupt):
            done = threading.Event()
            done.set()
            with pytest.raises(kind) as caught:
                Parallel(2, backend, batch_size=1, pre_dispatch=1)(source(kind))
            found = finished_results(caught.value)
            assert found.items() <= {i: i for i in range(4)}.items()
            assert found[0] == 0

    def test_of_a_dead_worker(self):
        with pytest.raises(TerminatedWorkerError) as caught:
            Parallel(2, "processes", batch_size=1)(delayed(exit_at)(i, 8) for i in range(9))
        found = finished_results(caught.value)
        assert found == {i: i for i in found}
        assert 8 not in found
        assert len(found) >= 4  # the other worker may have had some that were not there yet

    def test_an_exception_class_that_refuses_attributes(self):
        class Odd(Exception):
            __slots__ = ()

            def __setattr__(self, name, value):
                raise AttributeError(name)

        def fail(i):
            if i:
                raise Odd
            return "here"

        with pytest.raises(Odd) as caught:
            Parallel(1)(delayed(fail)(i) for i in range(2))
        assert finished_results(caught.value) == {0: "here"}

    def test_they_do_not_travel_with_the_exception(self):
        with pytest.raises(ZeroDivisionError) as caught:
            Parallel(1)(delayed(fail_at)(i, 3) for i in range(9))
        assert finished_results(pickle.loads(pickle.dumps(caught.value))) == {}
        assert finished_results(ValueError()) == {}


def exit_at(i, n):
    if i == n:
        os._exit(1)
    return i
