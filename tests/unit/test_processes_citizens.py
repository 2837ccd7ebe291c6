"""What tasks in worker processes log, warn of and print, and the settings they see: as in the serial loop."""

import contextlib
import io
import itertools
import logging
import multiprocessing
import os
import random
import sys
import threading
import warnings

import numpy as np
import pytest

from fastpar import Parallel, delayed, effective_n_jobs
from fastpar.engines.active import get_active_backend
from fastpar.engines.processes import notes, scribe


def parallel(n_jobs=2, **options):
    return Parallel(n_jobs, "processes", **options)


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO)
    return caplog


@pytest.fixture
def heard(monkeypatch):
    """What arrived in this process, before it was looked at."""
    messages = []
    hear = notes.hear

    def listen(message, pid, index):
        messages.append((pid, index))
        hear(message, pid, index)

    monkeypatch.setattr(notes, "hear", listen)
    return messages


# ---- logging


def speak(i, level=logging.INFO, name="tests.tasks"):
    logging.getLogger(name).log(level, "task %d says %s", i, "hello")
    return os.getpid()


@pytest.mark.parametrize("batch_size", ["auto", 1, 5])
def test_log_records_arrive_with_worker_and_task(log, batch_size):
    pids = parallel(batch_size=batch_size)(delayed(speak)(i) for i in range(20))
    records = log.records
    assert sorted((record.task_index, record.worker_pid, record.process) for record in records) == [
        (i, pid, pid) for i, pid in enumerate(pids)
    ]
    for record in records:
        assert record.getMessage() == f"task {record.task_index} says hello"
        assert (record.name, record.args, record.funcName) == ("tests.tasks", (record.task_index, "hello"), "speak")


def test_records_of_a_worker_keep_their_order(log):
    def speak_often(i):
        for n in range(50):
            logging.getLogger().info("%d", n)

    parallel()(delayed(speak_often)(i) for i in range(4))
    for i in range(4):
        assert [record.msg % record.args for record in log.records if record.task_index == i] == [
            str(n) for n in range(50)
        ]


def test_records_come_before_the_result_of_their_task(log):
    results = parallel(return_as="generator", batch_size=1)(delayed(speak)(i) for i in range(10))
    for i, _ in enumerate(results):
        assert i in {record.task_index for record in log.records}


def test_what_nobody_handles_is_not_sent(log, heard):
    parallel()(delayed(speak)(i, logging.DEBUG) for i in range(10))
    assert heard == []
    logging.getLogger("tests.tasks").setLevel(logging.ERROR)
    try:
        parallel()(delayed(speak)(i, logging.WARNING) for i in range(10))
        assert heard == []
    finally:
        logging.getLogger("tests.tasks").setLevel(logging.NOTSET)
    for handler in logging.root.handlers:
        handler.setLevel(logging.CRITICAL)
    parallel()(delayed(speak)(i, logging.ERROR) for i in range(10))
    assert heard == []
    logging.disable(logging.CRITICAL)
    try:
        parallel()(delayed(speak)(i, logging.CRITICAL) for i in range(10))
    finally:
        logging.disable(logging.NOTSET)
    assert heard == []
    parallel()(delayed(speak)(i, logging.CRITICAL) for i in range(10))
    assert len(heard) == 10


def test_a_logger_with_handlers_of_its_own(heard):
    logger, stream = logging.getLogger("tests.own"), io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(task_index)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        parallel()(delayed(speak)(i, name="tests.own.child") for i in range(3))
        parallel()(delayed(speak)(i, name="tests.other") for i in range(3))
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
    assert sorted(stream.getvalue().splitlines()) == [f"{i} task {i} says hello" for i in range(3)]
    assert len(heard) == 3


def test_a_handler_that_a_task_adds_runs_where_the_task_runs(tmp_path):
    def speak_to_file(i):
        logger = logging.getLogger("tests.in_task")
        handler = logging.FileHandler(tmp_path / str(i))
        logger.addHandler(handler)
        logger.error("in the worker")
        logger.removeHandler(handler)
        handler.close()

    parallel()(delayed(speak_to_file)(i) for i in range(3))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["in the worker\n"] * 3


def test_records_with_tracebacks_and_with_things_that_cannot_be_sent(log):
    def fail(i):
        try:
            raise KeyError(i)
        except KeyError:
            logging.getLogger().exception("with %s", threading.Lock(), extra={"lock": threading.Lock(), "number": i})

    parallel()(delayed(fail)(i) for i in range(2))
    for record in log.records:
        assert record.getMessage().startswith("with <unlocked _thread.lock")
        assert record.lock.startswith("<unlocked")
        assert record.exc_info[0] is KeyError
        assert (record.exc_info[1].args, record.number) == ((record.task_index,), record.task_index)
        assert "in fail\n" in record.exc_text
    assert len(log.records) == 2


def test_a_handler_that_raises_fails_the_call():
    class Handler(logging.Handler):
        def handle(self, record):
            raise OSError("no room for logs")

    handler = Handler()
    logging.root.addHandler(handler)
    try:
        with pytest.raises(OSError, match="no room for logs"):
            parallel()(delayed(speak)(i, logging.ERROR) for i in range(4))
    finally:
        logging.root.removeHandler(handler)
    assert parallel()([delayed(abs)(-1)] * 3) == [1] * 3


def test_records_of_workers_of_workers_arrive_too(log):
    def outer(i):
        return parallel()(delayed(speak)(10 * i + k) for k in range(2))

    parallel()(delayed(outer)(i) for i in range(2))
    assert sorted((record.args[0], record.task_index) for record in log.records) == [(0, 0), (1, 0), (10, 1), (11, 1)]


def test_a_call_does_not_import_logging(python):
    code = """
import sys
from fastpar import Parallel, delayed
print(Parallel(2, "processes")(delayed(abs)(-i) for i in range(2)), "logging" in sys.modules)
"""
    assert python.out(code) == "[0, 1] False\n"


# ---- warnings


class OwnWarning(UserWarning):
    pass


def warn(i, category=UserWarning):
    warnings.warn("attention", category, stacklevel=1)
    return i


def test_warnings_arrive_and_once_per_place_is_once_for_all_workers():
    for _ in range(2):  # the second time the workers have been told already, and the caller hears of it anew
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("default")
            parallel(batch_size=1)(delayed(warn)(i) for i in range(20))
        assert [(str(each.message), each.category, each.filename) for each in found] == [
            ("attention", UserWarning, __file__)
        ]


def test_every_warning_arrives_where_all_are_wanted():
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        parallel()(delayed(warn)(i, OwnWarning) for i in range(20))
    assert [each.category for each in found] == [OwnWarning] * 20


def test_filters_hold_in_tasks(heard):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parallel()(delayed(warn)(i) for i in range(4))
        assert heard == []
        warnings.simplefilter("error", OwnWarning)
        with pytest.raises(OwnWarning, match="attention"):
            parallel()(delayed(warn)(i, OwnWarning) for i in range(4))


def test_a_task_may_record_its_own_warnings(heard):
    def count():
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            warn(1)
        return len(found)

    assert parallel()([delayed(count)()] * 2) == [1, 1]
    assert heard == []


def test_filters_with_classes_of_main(python):
    code = """
import warnings
from fastpar import Parallel, delayed
class Own(UserWarning): pass
warnings.simplefilter("error", Own)
def f(i):
    try: warnings.warn("x", Own)
    except Own: return i
print(Parallel(2, "processes")(delayed(f)(i) for i in range(3)))
warnings.simplefilter("always", Own)
with warnings.catch_warnings(record=True) as found:
    Parallel(2, "processes")(delayed(f)(i) for i in range(3))
print([each.category is Own for each in found])
"""
    assert python.out(code) == "[0, 1, 2]\n[True, True, True]\n"


# ---- output


def say(i):
    print("task", i, end="\n" if i else "")
    print("error", i, file=sys.stderr)
    return i


def test_output_goes_to_a_replaced_stdout_in_the_calling_thread():
    class Stream(io.StringIO):
        def write(self, text):
            threads.add(threading.get_ident())
            return super().write(text)

    threads, stream = set(), Stream()
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(io.StringIO()) as errors:
        parallel(batch_size=1)(delayed(say)(i) for i in range(5))
    assert sorted(stream.getvalue().replace("task 0", "task 0\n").splitlines()) == [f"task {i}" for i in range(5)]
    assert sorted(errors.getvalue().splitlines()) == [f"error {i}" for i in range(5)]
    assert threads == {threading.get_ident()}


def test_output_is_captured_by_pytest(capsys):
    parallel()(delayed(say)(i) for i in (1, 2))
    out, err = capsys.readouterr()
    assert (sorted(out.splitlines()), sorted(err.splitlines())) == (["task 1", "task 2"], ["error 1", "error 2"])


def test_output_comes_before_the_result(capsys):
    results = parallel(return_as="generator", batch_size=1)(delayed(say)(i) for i in range(1, 6))
    seen = ""
    for i in results:
        seen += capsys.readouterr().out
        assert f"task {i}\n" in seen


def test_long_text_and_streams_as_files(capsys):
    def write():
        sys.stdout.write("x" * 1_000_000)
        sys.stdout.writelines(["a", "b"])
        return sys.stdout.isatty(), sys.stdout.writable(), sys.stdout.encoding, sys.stdout.fileno()

    assert parallel()([delayed(write)()]) == [(False, True, "utf-8", 1)]
    assert capsys.readouterr().out == "x" * 1_000_000 + "ab"


class Listener:
    def __init__(self):
        self.heard = []

    def send(self, kind, text):
        self.heard.append(text)


def print_interrupted(n):
    """What is heard of a line that is printed in two pieces, if a handler prints before line n of the tube's code.

    None if there is no such line.
    """
    listener, lines = Listener(), iter(range(n + 1))
    tube = scribe.Tube(listener, "stdout", None)

    def interrupt(frame, event, arg):
        if event == "line" and frame.f_code.co_filename == scribe.__file__ and next(lines, None) == n:
            tube.write("inner\n")
        return interrupt

    before = sys.gettrace()
    sys.settrace(interrupt)
    try:
        tube.write("outer ")
        tube.write("line\n")
    finally:
        sys.settrace(before)
    return "".join(listener.heard) if next(lines, None) is None else None


def test_who_prints_may_be_interrupted_by_who_prints():
    """By a signal handler or a `__del__`."""
    heard = list(itertools.takewhile(lambda text: text is not None, map(print_interrupted, itertools.count())))
    assert len(heard) > 10
    assert {text.replace("inner\n", "", 1) for text in heard} == {"outer line\n"}


def test_a_stdout_that_cannot_be_written_fails_the_call():
    class Full(io.StringIO):
        def write(self, text):
            raise OSError("the disk is full")

    with contextlib.redirect_stdout(Full()), pytest.raises(OSError, match="the disk is full"):
        parallel()(delayed(say)(i) for i in (1, 2))


SCRIPT = """
import os, sys
from fastpar import Parallel, delayed
def say(i):
    print("task", i)
    if i == 3: os._exit(1)
print("begin")
try:
    Parallel(2, "processes", batch_size=1)(delayed(say)(i) for i in range(4))
except Exception as error:
    print(type(error).__name__)
"""


def test_output_of_a_script_is_whole_and_in_its_place(python):
    """Also into a pipe or file, where Python holds output back, and of a worker that dies."""
    lines = python.out(SCRIPT, env={"PYTHONUNBUFFERED": ""}).splitlines()
    assert (lines[0], lines[-1]) == ("begin", "TerminatedWorkerError")
    assert "task 3" in lines
    assert all(line.startswith("task ") and len(line) == 6 for line in lines[1:-1])


def test_nothing_is_sent_where_nothing_is_said(heard):
    parallel()(delayed(abs)(i) for i in range(1_000))
    assert heard == []


# ---- settings


def test_the_error_state_of_numpy_holds_in_tasks():
    def divide():
        return np.float64(1) / np.float64(0)

    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        parallel()([delayed(divide)()] * 2)
    with np.errstate(divide="ignore"):
        assert parallel()([delayed(divide)()] * 2) == [np.inf] * 2
    with np.errstate(divide="warn"), pytest.warns(RuntimeWarning, match="divide by zero"):
        parallel()([delayed(divide)()] * 2)


@pytest.mark.parametrize("start_method", ["nursery", "fork", "spawn"])
def test_no_two_workers_draw_the_same_numbers(start_method):
    def draw():
        return random.random(), float(np.random.rand()), float(np.random.default_rng().random())

    random.seed(1)
    np.random.seed(1)
    drawn = parallel(start_method=start_method, batch_size=1)(delayed(draw)() for _ in range(8))
    for numbers in zip(*drawn, strict=True):
        assert len(set(numbers)) == 8


def test_nested_calls_use_the_remaining_cpus_and_then_none(monkeypatch):
    monkeypatch.setattr("fastpar.cpu.cpu_count", lambda: 8)

    def inner(level):
        here = type(get_active_backend()[0]).__name__, effective_n_jobs(-1)
        if level == 3:
            return [here]
        return [here, *Parallel(-1)(delayed(inner)(level + 1) for _ in range(4))[0]]

    found = parallel(2)(delayed(inner)(1) for _ in range(4))
    assert found == [[("ThreadingBackend", 4), ("SequentialBackend", 1), ("SequentialBackend", 1)]] * 4


def test_nested_worker_processes_never_wait_for_each_other():
    def outer(n):
        return parallel(3)(delayed(abs)(-i) for i in range(n))

    assert parallel(3)(delayed(outer)(n) for n in range(9)) == [list(range(n)) for n in range(9)]


# ---- multiprocessing


def put(shared, i):
    shared[i] = i * i
    process = multiprocessing.current_process()
    return process.name, process._identity


@pytest.mark.parametrize("start_method", ["nursery", "spawn", "fork"])
def test_workers_are_processes_to_multiprocessing(start_method):
    """They may talk to its managers, and are not all called MainProcess."""
    with multiprocessing.Manager() as manager:
        shared = manager.dict()
        tasks = [delayed(put)(shared, i) for i in range(4)]
        names = Parallel(2, "processes", start_method=start_method, batch_size=1)(tasks)
        assert dict(shared) == {i: i * i for i in range(4)}
    assert all(name == f"FastparProcess-{number}" for name, (number,) in names)
    assert multiprocessing.current_process().name == "MainProcess"
