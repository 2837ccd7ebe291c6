"""Compatibility table, part 1: what a call of `Parallel` returns, raises and prints."""

import contextlib
import functools
import io
import re
import threading
from operator import neg

from rows import Table, check, raised, without_times

table = Table()


def squares(lib, n, **options):
    options = {"n_jobs": 2, "backend": "threading"} | options
    return lib.Parallel(**options)(lib.delayed(pow)(i, 2) for i in range(n))


# ------------------------------------------------------------------------------------------------- results


@table.same([0, 1, 4, 9, 16])
def list_in_order(lib):
    return squares(lib, 5)


@table.same([])
def no_tasks(lib):
    return squares(lib, 0)


@table.same(list)
def type_of_results(lib):
    return type(squares(lib, 3))


@table.same([0, 1, 4, 9])
def serial_list(lib):
    return squares(lib, 4, n_jobs=1)


@table.same(([0, 1, 4, 9], True))
def generator_in_order(lib):
    results = squares(lib, 4, return_as="generator")
    return list(results), iter(results) is results


@table.same({0, 1, 4, 9})
def generator_unordered(lib):
    return set(squares(lib, 4, return_as="generator_unordered"))


@table.same([0, 1, 4])
def serial_generator(lib):
    results = squares(lib, 3, n_jobs=1, return_as="generator")
    return [next(results) for _ in range(3)]


@table.same("ValueError")
def unknown_return_as(lib):
    return raised(lambda: squares(lib, 3, return_as="tuple"), ValueError)


@table.same([[0, 1, 4], [0, 1]])
def context_manager(lib):
    with lib.Parallel(n_jobs=2, backend="threading") as parallel:
        return [parallel(lib.delayed(pow)(i, 2) for i in range(n)) for n in (3, 2)]


@table.same([[0, -1], [0, -1]])
def object_called_again(lib):
    parallel = lib.Parallel(n_jobs=2, backend="threading")
    return [parallel(lib.delayed(neg)(i) for i in range(2)) for _ in range(2)]


@table.same("RuntimeError")
def object_called_while_it_runs(lib):
    parallel = lib.Parallel(n_jobs=2, backend="threading", return_as="generator")
    results = parallel(lib.delayed(neg)(i) for i in range(8))
    error = raised(lambda: parallel(lib.delayed(neg)(i) for i in range(8)), RuntimeError)
    list(results)
    return error


@table.same([[0, -1], [0, -1], [0, -1]])
def nested_calls(lib):
    def inner(_):
        return lib.Parallel(n_jobs=2)(lib.delayed(neg)(i) for i in range(2))

    return lib.Parallel(n_jobs=2, backend="threading")(lib.delayed(inner)(i) for i in range(3))


@table.same((3, 3, 3))
def counters_after_a_call(lib):
    parallel = lib.Parallel(n_jobs=2, backend="threading", batch_size=1)
    parallel(lib.delayed(neg)(i) for i in range(3))
    return parallel.n_dispatched_tasks, parallel.n_completed_tasks, parallel.n_dispatched_batches


@table.same((4, None))
def n_tasks_of_sized_and_unsized_input(lib):
    parallel = lib.Parallel(n_jobs=1)
    counts = []
    for tasks in ([lib.delayed(neg)(i) for i in range(4)], (lib.delayed(neg)(i) for i in range(4))):
        parallel(tasks)
        counts.append(parallel.n_tasks)
    return tuple(counts)


@table.same("Parallel(n_jobs=3)")
def representation(lib):
    return repr(lib.Parallel(n_jobs=3))


# ------------------------------------------------------------------------------------------------- delayed


@table.same((neg, (1,), {}))
def delayed_is_a_tuple(lib):
    return lib.delayed(neg)(1)


@table.same((dict, (), {"function": 1, "self": 2}))
def delayed_takes_any_keyword(lib):
    return lib.delayed(dict)(function=1, self=2)


def documented(x):
    """Has a name and a text."""
    return x


@table.same(("documented", "Has a name and a text.", documented))
def delayed_looks_like_its_function(lib):
    wrapped = lib.delayed(documented)
    return wrapped.__name__, wrapped.__doc__, wrapped.__wrapped__


@table.same([8])
def delayed_of_a_partial(lib):
    return lib.Parallel(n_jobs=1)([lib.delayed(functools.partial(pow, 2))(3)])


@table.same([-1, -2])
def tuples_made_by_hand(lib):
    return lib.Parallel(n_jobs=2, backend="threading")([(neg, (1,), {}), (neg, (2,), {})])


# ------------------------------------------------------------------------------------- how far, how much at once


@table.same([[0, 1, 4, 9]] * 8)
def forms_of_pre_dispatch(lib):
    forms = ("all", "2*n_jobs", "n_jobs", "1.5*n_jobs", "2 * n_jobs + 1", "(n_jobs + 1) // 2", 1, 3)
    return [squares(lib, 4, pre_dispatch=form) for form in forms]


@table.same(2)
def pre_dispatch_bounds_what_is_read(lib):
    read, go = [], threading.Event()

    def source():
        for i in range(6):
            read.append(i)
            yield lib.delayed(go.wait)(10)

    results = lib.Parallel(n_jobs=2, backend="threading", pre_dispatch=2, batch_size=1, return_as="generator")(source())
    n_read = len(read)
    go.set()
    list(results)
    return n_read


@table.same([[0, 1, 4, 9]] * 3)
def forms_of_batch_size(lib):
    return [squares(lib, 4, batch_size=size) for size in ("auto", 1, 100)]


@table.same(["ValueError"] * 3)
def wrong_batch_sizes(lib):
    return [raised(lambda size=size: squares(lib, 4, batch_size=size), ValueError) for size in (0, -1, "many")]


@table.same("ValueError")
def n_jobs_zero(lib):
    return raised(lambda: squares(lib, 4, n_jobs=0), ValueError)


# -------------------------------------------------------------------------------------------------- errors


@table.same(["ZeroDivisionError"] * 3)
def error_of_a_task(lib):
    def run(**options):
        return lib.Parallel(**options)(lib.delayed(divmod)(1, i) for i in (1, 0, 2))

    return [
        raised(lambda options=options: run(**options), ZeroDivisionError)
        for options in ({"n_jobs": 1}, {"n_jobs": 2, "backend": "threading"}, {"n_jobs": 2, "prefer": "threads"})
    ]


@table.same(["KeyError"] * 2)
def error_of_the_iterable(lib):
    def source():
        yield lib.delayed(neg)(1)
        raise KeyError("source")

    return [raised(lambda n=n: lib.Parallel(n_jobs=n, backend="threading")(source()), KeyError) for n in (1, 2)]


@table.same([0, -1])
def next_call_after_an_error(lib):
    parallel = lib.Parallel(n_jobs=2, backend="threading")
    raised(lambda: parallel(lib.delayed(divmod)(1, 0) for _ in range(2)), ZeroDivisionError)
    return parallel(lib.delayed(neg)(i) for i in range(2))


@table.same(("TimeoutError", "TimeoutError"))
def timeout(lib):
    import multiprocessing

    go = threading.Event()

    def run():
        lib.Parallel(n_jobs=2, backend="threading", timeout=0.02)(lib.delayed(go.wait)(0.1) for _ in range(2))

    return raised(run, multiprocessing.TimeoutError), raised(run, multiprocessing.TimeoutError)


@table.same([True, True])
def timeout_without_effect_on_one_worker(lib):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joblib says so
        return lib.Parallel(n_jobs=1, timeout=0.0001)(lib.delayed(bool)(1) for _ in range(2))


# ------------------------------------------------------------------------------------------------ messages


def messages(lib, n, **options):
    with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()) as out:
        squares(lib, n, **options)
    return without_times(err.getvalue()), without_times(out.getvalue())


@table.same(([], []))
def silent_by_default(lib):
    return messages(lib, 3)


@table.same("[Parallel(n_jobs=2)]: Using backend ThreadingBackend with 2 concurrent workers.")
def first_message(lib):
    return messages(lib, 4, verbose=1)[0][0]


@table.same("[Parallel(n_jobs=2)]: Done 4 out of 4 | elapsed: T finished")
def last_message(lib):
    return messages(lib, 4, verbose=1)[0][-1]


@table.same((True, False))
def messages_go_to_stdout_from_50_on(lib):
    at_49, at_50 = messages(lib, 4, verbose=49), messages(lib, 4, verbose=50)
    return at_49[1] == [] and at_50[0] == [], at_49[0] == []


@table.same(
    [
        "[Parallel(n_jobs=1)]: Done 1 tasks | elapsed: T",
        "[Parallel(n_jobs=1)]: Done 2 tasks | elapsed: T",
        "[Parallel(n_jobs=1)]: Done 3 tasks | elapsed: T",
        "[Parallel(n_jobs=1)]: Done 3 out of 3 | elapsed: T finished",
    ]
)
def messages_of_a_serial_call(lib):
    return messages(lib, 3, n_jobs=1, verbose=20)[0][-4:]


@table.same(["0.0s", "1.0s", "59.9s", "1.0min", "1.5min", "120.0min"])
def short_times(lib):
    return [lib.logger.short_format_time(t).strip() for t in (0, 1, 59.9, 60.1, 90, 7200)]


@table.same(["1.0s, 0.0min", "90.0s, 1.5min"])
def long_times(lib):
    return [lib.logger.format_time(t) for t in (1, 90)]


@table.same("[<Logger object>]: hello")
def logger_text(lib):
    import logging

    records = []
    handler = logging.Handler()
    handler.emit = records.append
    log = logging.getLogger()
    log.addHandler(handler)
    try:
        lib.Logger(depth=2).warn("hello")
    finally:
        log.removeHandler(handler)
    return re.sub(r"<.*Logger object at .*>", "<Logger object>", records[0].getMessage())


@table.tests()
def test_calls(row, library, expected):
    check(row, library, expected)
