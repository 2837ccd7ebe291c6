"""Ctrl-C: a real SIGINT at a known moment, with workers that sit in C code; it ends the call within 0.2 s.

The program under test says through its stdout where it is; nothing here depends on how long anything takes, but for the
limit itself. `hang` reads from a pipe without the GIL: C code that no signal reaches, unlike `time.sleep` in the main
thread.
"""

import signal
from time import monotonic

import pytest

LIMIT_S = 0.2

#: What each program begins with. A task that runs says so before it hangs.
PREAMBLE = """
import os, signal, sys, threading, time
from functools import partial
import fastpar
from fastpar import delayed

Parallel = partial(fastpar.Parallel, backend="threading")

pipe, _ = os.pipe()
running = threading.Semaphore(0)

def hang():
    running.release()
    os.read(pipe, 1)

def all_run(n):
    for _ in range(n):
        running.acquire()

def say(word):
    print(word, flush=True)

def work_again():
    assert Parallel(n_jobs=2, batch_size=1)(delayed(abs)(-x) for x in range(10)) == list(range(10))
    say("works again")
    os._exit(0)
"""

#: The call that is interrupted; another thread says "ready" once its tasks run.
CALLS = {
    "list": "Parallel(n_jobs=2, timeout={timeout})(delayed(hang)() for _ in range(10))",
    "generator": "list(Parallel(n_jobs=2, return_as='generator', timeout={timeout})([delayed(hang)()] * 10))",
    "unordered": "next(Parallel(n_jobs=2, return_as='generator_unordered', timeout={timeout})([delayed(hang)()] * 9))",
    "nested": "Parallel(n_jobs=2, timeout={timeout})(delayed(Parallel(n_jobs=1))([delayed(hang)()]) for _ in range(9))",
}

INTERRUPTED = """
threading.Thread(target=lambda: (all_run(2), say("ready")), daemon=True).start()
try:
    {call}
except KeyboardInterrupt:
    say("interrupted")
    work_again()
"""


def expect(program, *lines):
    """Read these lines from the program's output."""
    for line in lines:
        said = program.stdout.readline()
        assert said == f"{line}\n", said + program.stderr.read()


def interrupt_when_ready(python, code):
    """Start the program and send SIGINT when it says so; seconds until it said that it was interrupted."""
    program = python.start(PREAMBLE + code)
    expect(program, "ready")
    start_s = monotonic()
    program.send_signal(signal.SIGINT)
    expect(program, "interrupted")
    elapsed_s = monotonic() - start_s
    expect(program, "works again")
    assert program.wait(30) == 0
    return elapsed_s


@pytest.mark.slow
@pytest.mark.parametrize("timeout", [None, 100])
@pytest.mark.parametrize("call", CALLS)
def test_a_call_ends_at_once_and_the_next_works(python, call, timeout):
    code = INTERRUPTED.format(call=CALLS[call].format(timeout=timeout))
    assert interrupt_when_ready(python, code) < LIMIT_S


@pytest.mark.slow
@pytest.mark.parametrize("return_as", ["list", "generator", "generator_unordered"])
def test_an_exception_of_a_handler_ends_a_call_at_once(python, return_as):
    """It is no error of the source, after which running tasks are waited for; the list has no code to raise it in."""
    call = f"list(Parallel(n_jobs=2, return_as={return_as!r})([delayed(hang)()] * 10))"
    code = """
class Enough(Exception):
    pass

def handle(*_):
    raise Enough

signal.signal(signal.SIGINT, handle)
""" + INTERRUPTED.format(call=call).replace("KeyboardInterrupt", "Enough")
    assert interrupt_when_ready(python, code) < LIMIT_S


@pytest.mark.slow
def test_time_sleep_as_the_task(python):
    code = """
def nap():
    running.release()
    time.sleep(1000)
""" + INTERRUPTED.format(call="Parallel(n_jobs=2)(delayed(nap)() for _ in range(10))")
    assert interrupt_when_ready(python, code) < LIMIT_S


@pytest.mark.slow
def test_while_the_source_blocks(python):
    code = """
def source():
    yield delayed(hang)()
    yield delayed(hang)()
    all_run(2)
    say("ready")
    threading.Event().wait()
try:
    Parallel(n_jobs=2, batch_size=1, pre_dispatch="all")(source())
except KeyboardInterrupt:
    say("interrupted")
    work_again()
"""
    assert interrupt_when_ready(python, code) < LIMIT_S


@pytest.mark.slow
def test_while_the_calling_thread_runs_a_tiny_task_itself(python):
    """Small tasks make the calling thread help; one of them turns out to be long."""
    code = """
def tiny_or_long(place):
    if place == 5000 or threading.current_thread() is threading.main_thread() and place > 5000:
        say("ready")
        time.sleep(1000)
try:
    Parallel(n_jobs=2)(delayed(tiny_or_long)(place) for place in range(10_000))
except KeyboardInterrupt:
    say("interrupted")
    work_again()
"""
    program = python.start(PREAMBLE + code)
    expect(program, "ready")
    program.send_signal(signal.SIGINT)
    while (line := program.stdout.readline()) == "ready\n":
        pass  # the other worker has met a long one as well
    assert line == "interrupted\n", line + program.stderr.read()
    expect(program, "works again")


@pytest.mark.slow
def test_between_two_results_of_a_generator(python):
    code = """
results = Parallel(n_jobs=2, return_as="generator", batch_size=1)([delayed(abs)(-1), *[delayed(hang)()] * 5])
try:
    assert next(results) == 1
    say("ready")
    threading.Event().wait()
except KeyboardInterrupt:
    say("interrupted")
    results.close()
    work_again()
"""
    assert interrupt_when_ready(python, code) < LIMIT_S


@pytest.mark.slow
def test_in_a_loop_of_many_short_calls_the_object_stays_usable(python):
    """The signal comes wherever it comes: in reading, waiting, helping or ending a call."""
    code = """
parallel = Parallel(n_jobs=2)
for n in range(50):
    try:
        say("ready")
        while True:
            parallel(delayed(abs)(-x) for x in range(20))
    except KeyboardInterrupt:
        pass
    assert parallel(delayed(abs)(-x) for x in range(20)) == list(range(20)), n
say("done")
"""
    program = python.start(PREAMBLE + code)
    while (line := program.stdout.readline()) == "ready\n":
        program.send_signal(signal.SIGINT)
    assert line == "done\n", line + program.stderr.read()


@pytest.mark.slow
def test_a_handler_that_does_not_raise_does_not_end_the_call(python):
    code = """
gate = threading.Event()
signal.signal(signal.SIGINT, lambda *_: (say("handled"), gate.set()))
def task():
    running.release()
    gate.wait()
    return 1
threading.Thread(target=lambda: (all_run(2), say("ready")), daemon=True).start()
print(Parallel(n_jobs=2, timeout=100)([delayed(task)()] * 2), flush=True)
"""
    program = python.start(PREAMBLE + code)
    expect(program, "ready")
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=30)
    assert (out, err, program.returncode) == ("handled\n[1, 1]\n", "", 0)


@pytest.mark.slow
def test_an_interrupted_program_ends_though_its_workers_hang(python):
    """Nobody catches it: the interpreter prints the traceback and goes, with a worker in C code for ever."""
    code = """
threading.Thread(target=lambda: (all_run(2), say("ready")), daemon=True).start()
Parallel(n_jobs=2)(delayed(hang)() for _ in range(10))
"""
    program = python.start(PREAMBLE + code)
    expect(program, "ready")
    program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=30)
    assert program.returncode in (-signal.SIGINT, 130)
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert err.count("fastpar/") <= 6, err


def test_importing_fastpar_leaves_the_handler_alone():
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
