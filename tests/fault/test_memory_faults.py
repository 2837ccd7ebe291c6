"""The cache when things go wrong: processes that die, disks that fill up, evictors, and everybody at once."""

import errno
import gc
import os
import signal
import threading
import time
import warnings

import numpy as np
import pytest

from fastpar.errors import MemoryWriteWarning
from fastpar.memory import Memory, entries, flights, local

PROGRAM = """
import os, sys, time
from fastpar.memory import Memory
memory = Memory({location!r}, verbose=0)

@memory.cache
def compute(x):
    with open({log!r}, "ab", buffering=0) as log:
        log.write(b"x")
    {body}
    return x * 2
"""


@pytest.fixture(autouse=True)
def collected():
    yield
    gc.collect()


@pytest.fixture
def location(tmp_path):
    return str(tmp_path / "cache")


@pytest.fixture
def program(tmp_path, location):
    log = tmp_path / "log"
    log.write_bytes(b"")

    def make(body, then):
        return PROGRAM.format(location=location, log=str(log), body=body) + then

    make.n_computed = lambda: len(log.read_bytes())
    return make


def test_many_processes_on_one_key_compute_once(python, program):
    """All wait for the first to be inside, so that nobody can come too late to be in the way."""
    n = 40
    body = "sys.stdin.readline()"
    code = program(body, 'print("ready", flush=True); sys.stdin.readline(); print(compute(21), flush=True)')
    running = [python.start(code) for _ in range(n)]
    try:
        for process in running:
            assert process.stdout.readline() == "ready\n"
        for process in running:
            process.stdin.write("go\n")
            process.stdin.write("go on\n")
            process.stdin.flush()
        assert [process.communicate(timeout=100)[0] for process in running] == ["42\n"] * n
    finally:
        for process in running:
            process.kill()
            process.communicate()
    assert program.n_computed() == 1


@pytest.mark.slow
def test_two_hundred_processes_on_one_key_compute_once(location, tmp_path):
    """By fork, since two hundred interpreters take long to start."""
    log = tmp_path / "log"
    log.write_bytes(b"")

    def compute(x):
        with open(log, "ab", buffering=0) as file:
            file.write(b"x")
        time.sleep(0.2)  # long enough for all to arrive; whoever comes later finds a hit
        return x * 2

    cached = Memory(location, verbose=0).cache(compute, key=lambda x: x)
    gate, open_gate = os.pipe()
    children = []
    for _ in range(200):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(open_gate)
                os.read(gate, 1)
                status = 0 if cached(21) == 42 else 2
            finally:
                os._exit(status)
        children.append(pid)
    os.close(gate)
    os.close(open_gate)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 200
    assert len(log.read_bytes()) == 1


def test_when_the_computing_process_is_killed_another_computes(python, program):
    """The same code in both, or they would not wait for each other: what it is told decides."""
    code = program(
        'if sys.stdin.readline() == "stay\\n":\n        print("inside", flush=True)\n        sys.stdin.readline()',
        'print("ready", flush=True); print(compute(1), flush=True)',
    )
    first, second = python.start(code), python.start(code)
    try:
        assert first.stdout.readline() == second.stdout.readline() == "ready\n"
        first.stdin.write("stay\n")
        first.stdin.flush()
        second.stdin.write("go\n")
        second.stdin.flush()
        # One of them computes already, perhaps the second: then the first finds its result.
        said = first.stdout.readline()
        if said == "inside\n":
            first.send_signal(signal.SIGKILL)
        out, errors = second.communicate(timeout=20)
        assert (out, errors) == ("2\n", "")
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()
    assert program.n_computed() == (2 if said == "inside\n" else 1)


KILLED = """
import os, signal, sys
from fastpar.memory import Memory, local
memory = Memory({location!r}, verbose=0)
cached = memory.cache(lambda x: b"x" * 200_000)
cached(0)
cached.func.__code__ = (lambda x: b"y" * 200_000).__code__
cached = memory.cache(cached.func, version={version})
calls = 0
real = {call}

def dies(*args, **kwargs):
    global calls
    calls += 1
    if calls == {n}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **kwargs)

{call} = dies
cached(1)
print("survived")
"""


@pytest.mark.parametrize("call", ["os.open", "os.replace", "os.makedirs", "os.unlink", "local._lock"])
def test_a_writer_killed_at_any_step_leaves_nothing_wrong(python, location, call):
    code = KILLED.format(location=location, call=call, n="{n}", version="{version}")
    for n in range(1, 12):
        done = python.run("-c", code.format(n=n, version=n))
        memory = Memory(location, verbose=0)
        assert memory.check(), f"killed in {call} number {n}"
        if "survived" in done.stdout:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
    else:
        pytest.fail("never survived")
    memory.check(fix=True)
    assert os.listdir(os.path.join(location, "fastpar", ".parts")) == []


class FailsAt:
    """Lets a function of the system fail at its nth call."""

    def __init__(self, real, n, error):
        self.real, self.n, self.error = real, n, error
        self.calls = 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        if self.calls == self.n:
            raise OSError(self.error, os.strerror(self.error))
        return self.real(*args, **kwargs)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("call", ["open", "replace", "makedirs", "dup"])
def test_an_error_of_the_system_at_any_step_costs_no_result(location, monkeypatch, call, error):
    memory = Memory(location, verbose=0)
    for n in range(1, 8):
        cached = memory.cache(lambda x: x * 2, version=(call, n))
        with monkeypatch.context() as patched:
            failing = FailsAt(getattr(os, call), n, error)
            patched.setattr(local.os, call, failing)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                assert cached(n) == 2 * n
            said = [str(warning.message) for warning in caught]
            assert all("could not be stored" in text or "cannot be loaded" in text for text in said), said
        assert memory.check()
        assert cached(n) == 2 * n
        if failing.calls < n:
            break


def test_a_full_disk_is_one_warning_and_a_result(location, monkeypatch):
    def full(file, *args):
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    memory = Memory(location, verbose=0)
    cached = memory.cache(np.zeros)
    monkeypatch.setattr(entries, "write_object", full)
    with pytest.warns(MemoryWriteWarning, match="No space left") as caught:
        for size in (10, 20, 30):
            assert cached(size).shape == (size,)
    assert len(caught) == 1
    monkeypatch.undo()
    assert memory.check().n_entries == 0
    assert cached.stats().failed_writes == 3
    assert cached(10).shape == (10,)
    assert cached.check_call_in_cache(10)


def test_a_folder_that_cannot_be_written(tmp_path):
    if os.geteuid() == 0:
        location = "/proc/no such place"
    else:
        tmp_path.chmod(0o500)
        location = tmp_path / "cache"
    cached = Memory(location, verbose=0).cache(lambda x: -x)
    with pytest.warns(MemoryWriteWarning):
        assert cached(1) == -1


def test_threads_on_one_key_compute_once(location):
    """The computing thread waits until all others are known to wait for it."""
    n = 8
    everybody = threading.Event()
    calls = []

    def compute(x):
        calls.append(x)
        assert everybody.wait(30)
        return x

    cached = Memory(location, verbose=0).cache(compute, key=lambda x: x)

    class Counters(type(cached._counters)):
        __slots__ = ()

        def count_wait(self):
            super().count_wait()
            if self.waits == n - 1:
                everybody.set()

    cached._counters = Counters()
    cached._identity._closes_over = False  # events have no value
    found = []
    threads = [threading.Thread(target=lambda: found.append(cached(7))) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (found, calls) == ([7] * n, [7])
    assert cached.stats().hits == n - 1
    assert not flights._flights


def test_when_the_computing_thread_fails_the_next_one_computes(location):
    inside, waiting = threading.Event(), threading.Event()
    calls = []

    def compute(x):
        calls.append(x)
        if len(calls) == 1:
            inside.set()
            assert waiting.wait(30)
            raise KeyError("the first one")
        return x

    cached = Memory(location, verbose=0).cache(compute, key=lambda x: x)
    cached._identity._closes_over = False
    counters = {"__slots__": (), "count_wait": lambda self: waiting.set()}
    cached._counters = type("Counters", (type(cached._counters),), counters)()
    outcomes = {}

    def run(name):
        try:
            outcomes[name] = cached(5)
        except KeyError as error:
            outcomes[name] = error

    first = threading.Thread(target=run, args=("first",))
    first.start()
    assert inside.wait(30)
    second = threading.Thread(target=run, args=("second",))
    second.start()
    first.join()
    second.join()
    assert isinstance(outcomes["first"], KeyError)
    assert outcomes["second"] == 5


def test_a_child_forked_while_a_thread_computes_computes_itself(location):
    inside, go_on = threading.Event(), threading.Event()

    def compute(x):
        inside.set()
        assert go_on.wait(30)
        return x

    cached = Memory(location, verbose=0).cache(compute, key=lambda x: x)
    cached._identity._closes_over = False
    other = Memory(location, verbose=0).cache(lambda x: x + 1)
    thread = threading.Thread(target=cached, args=(1,))
    thread.start()
    assert inside.wait(30)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if not flights._flights and other(1) == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    go_on.set()
    thread.join()
    assert cached.check_call_in_cache(1)


def test_two_processes_that_wait_for_each_other_both_compute(python, location):
    """One holds a and wants b, the other holds b and wants a: the system refuses the second wait."""
    program = """
import sys
from fastpar.memory.local import LocalStore
store = LocalStore({location!r}, {{}})
with store.lease("f", {mine!r}):
    print("holds", flush=True)
    sys.stdin.readline()
    with store.lease("f", {other!r}):
        print("done", flush=True)
"""
    one = python.start(program.format(location=location, mine="a", other="b"))
    two = python.start(program.format(location=location, mine="b", other="a"))
    try:
        assert one.stdout.readline() == two.stdout.readline() == "holds\n"
        for process in (one, two):
            process.stdin.write("\n")
            process.stdin.flush()
        assert one.communicate(timeout=20)[0] == two.communicate(timeout=20)[0] == "done\n"
    finally:
        for process in (one, two):
            process.kill()
            process.communicate()


def test_readers_writers_and_evictors_at_once(python, location):
    """Every value read is right, whatever the others remove meanwhile; the store is sound afterwards."""
    code = f"""
import random, sys
import numpy as np
from fastpar.memory import Memory
memory = Memory({location!r}, verbose=0, size_limit=400_000)
draw = random.Random(int(sys.argv[1]))

@memory.cache
def values(n):
    return np.full(5000 + n, n)

for turn in range(300):
    n = draw.randrange(20)
    found = values(n)
    assert found.shape == (5000 + n,) and (found == n).all(), n
    if turn % 50 == 7:
        memory.reduce_size(items_limit=5)
    if turn % 100 == 31:
        values.clear()
    if turn % 100 == 77:
        memory.clear()
print("well")
"""
    running = [python.start(code.replace("sys.argv[1]", str(seed))) for seed in range(4)]
    for process in running:
        out, errors = process.communicate(timeout=100)
        assert (out, errors) == ("well\n", ""), errors
    report = Memory(location, verbose=0).check(fix=True)
    assert report, report
    assert report.n_bytes <= 1_000_000


@pytest.mark.parametrize("is_found", [False, True])
def test_a_folder_that_is_cleared_while_it_is_made_is_made_again(tmp_path, monkeypatch, is_found):
    """1. A writer makes the folder, or finds that another did. 2. A `clear` removes it. 3. The writer looks."""
    store = local.LocalStore(str(tmp_path), {})
    mkdir, clears = os.mkdir, iter([store.clear])

    def cleared(path, *args):
        if path.endswith("folder/00") and (clear := next(clears, None)):
            if is_found:
                mkdir(path, *args)
            clear("folder")
            raise FileExistsError(path) if is_found else FileNotFoundError(path)
        mkdir(path, *args)

    monkeypatch.setattr(os, "mkdir", cleared)
    with store.write("folder", "0" * 32) as file:
        file.write(b"kept")
    assert next(clears, None) is None
    assert [entry.digest for entry in store.entries()] == ["0" * 32]


def test_another_python_loads_a_pickled_memory(location):
    pythons = [path for path in os.environ.get("FASTPAR_TEST_PYTHONS", "").split(os.pathsep) if path]
    if not pythons:
        pytest.skip("FASTPAR_TEST_PYTHONS names no interpreters that have fastpar")
    import pickle
    import subprocess

    memory = Memory(location, verbose=0)
    content = pickle.dumps(memory).hex()
    code = f"import pickle; m = pickle.loads(bytes.fromhex({content!r})); print(m.eval(len, [1, 2]))"
    for path in pythons:
        done = subprocess.run([path, "-c", code], capture_output=True, text=True)
        assert done.stdout == "2\n", done.stderr


def test_a_part_that_is_swept_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    """1. A writer creates its part. 2. Another's sweep finds it unlocked and removes it. 3. The writer locks it."""
    store = local.LocalStore(str(tmp_path), {})
    create, sweeps = store._created_part, iter([store.sweep])

    def swept():
        made = create()
        next(sweeps, int)()
        return made

    monkeypatch.setattr(store, "_created_part", swept)
    with store.write("folder", "0" * 32) as file:
        file.write(b"kept")
    assert next(sweeps, None) is None
    assert [entry.digest for entry in store.entries()] == ["0" * 32]
