"""The other half of the crash table: what happens to the caller while a worker is at any stage of a task.

Whatever it is, the call ends soon, the next one works, and no worker goes on with what nobody waits for.
"""

import os
import signal
import threading
import time
import warnings

import numpy as np
import pytest
from snapshot import children
from waiting import is_gone, wait_until

from fastpar import Parallel, delayed
from fastpar.engines.processes.engine import POOL

SOON_S = 10.0  # tens of milliseconds, on a machine that has nothing else to do


def parallel(**options):
    return Parallel(2, "processes", **options)


# ---- the stages: at each, a worker tells who it is and then stays there


def stay(folder):
    (folder / str(os.getpid())).touch()
    threading.Event().wait()


class StayInPickle:
    def __init__(self, folder, home):
        self.folder, self.home = folder, home

    def __reduce__(self):
        if os.getpid() == self.home:
            return stay, (self.folder,)  # in the worker that unpickles it
        return stay(self.folder)


def give_back(value):
    return value


def result_that_stays(folder):
    return StayInPickle(folder, None)


def stay_before_sending(folder, n_bytes):
    """The result is in its segment, and has not been sent yet."""
    from fastpar.engines.processes import worker

    pack = worker.pack

    def pack_and_stay(*args):
        pack(*args)
        stay(folder)

    worker.pack = pack_and_stay
    return np.ones(n_bytes, np.uint8)


STAGES = {
    "running": delayed(stay),
    "unpickling": lambda folder: delayed(give_back)(StayInPickle(folder, os.getpid())),
    "pickling the result": delayed(result_that_stays),
    "sending a large result": lambda folder: delayed(stay_before_sending)(folder, 4_000_000),
}
at_every_stage = pytest.mark.parametrize("stage", STAGES)


def pids_in(folder):
    return [int(path.name) for path in folder.iterdir()]


def assert_ended(folder):
    """Nothing is left of the call whose workers wrote into the folder."""
    wait_until(lambda: all(is_gone(pid) for pid in pids_in(folder)))
    assert set(POOL._all.values()) == set(POOL._idle)
    assert parallel()(delayed(abs)(-i) for i in range(20)) == list(range(20))


# ---- what happens to the caller


@at_every_stage
def test_ctrl_c(stage, tmp_path):
    """The signal comes once two workers are where they should be, from a thread that sees them arrive."""

    def interrupt():
        wait_until(lambda: len(pids_in(tmp_path)) == 2)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        parallel(batch_size=1)([STAGES[stage](tmp_path)] * 4)
    thread.join()
    assert_ended(tmp_path)


@at_every_stage
def test_timeout(stage, tmp_path):
    with pytest.raises(TimeoutError):
        parallel(batch_size=1, timeout=0.3)([STAGES[stage](tmp_path)] * 4)
    assert_ended(tmp_path)


@at_every_stage
def test_a_generator_is_closed(stage, tmp_path):
    results = parallel(batch_size=1, return_as="generator")([STAGES[stage](tmp_path)] * 4)
    wait_until(lambda: len(pids_in(tmp_path)) == 2)
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < SOON_S
    assert_ended(tmp_path)


@at_every_stage
def test_the_source_raises(stage, tmp_path):
    def tasks():
        yield delayed(abs)(-1)
        yield STAGES[stage](tmp_path)
        wait_until(lambda: len(pids_in(tmp_path)) == 1)
        raise LookupError("the source")

    results = parallel(batch_size=1, return_as="generator", pre_dispatch=2)(tasks())
    with pytest.raises(LookupError):
        list(results)
    assert_ended(tmp_path)


@pytest.mark.parametrize("moment", ["explain", "restore_error"])
def test_what_we_do_ourselves_raises(monkeypatch, moment):
    """While a batch is in nobody's hands: it could not be sent, or its results are being taken in."""

    def fail(*args):
        raise LookupError(moment)

    monkeypatch.setattr(f"fastpar.engines.processes.session.{moment}", fail)
    culprit = threading.Lock() if moment == "explain" else "no number"
    with pytest.raises(LookupError, match=moment):
        parallel(batch_size=2)(delayed(abs)(culprit if x == 7 else x) for x in range(20))
    monkeypatch.undo()
    assert parallel()(delayed(abs)(-x) for x in range(20)) == list(range(20))


@at_every_stage
def test_another_task_raises(stage, tmp_path):
    def fail():
        wait_until(lambda: len(pids_in(tmp_path)) == 1)
        raise LookupError("another task")

    with pytest.raises(LookupError):
        parallel(batch_size=1)([STAGES[stage](tmp_path), delayed(fail)()])
    assert_ended(tmp_path)


@at_every_stage
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_the_caller_forks(stage, tmp_path):
    """The child has a pool of its own, and leaves the parent's call alone; the parent's call goes on."""
    results = parallel(batch_size=1, return_as="generator")([delayed(abs)(-1), STAGES[stage](tmp_path)])
    wait_until(lambda: len(pids_in(tmp_path)) == 1)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if parallel()(delayed(abs)(-i) for i in range(5)) == list(range(5)) else 2
            results.close()
            POOL.close()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert next(results) == 1
    assert not any(is_gone(worker) for worker in pids_in(tmp_path))
    results.close()
    assert_ended(tmp_path)


PROGRAM = """
import os, pathlib, sys
sys.path.insert(0, {tests!r})
from test_processes_parent import STAGES, Parallel
folder = pathlib.Path({folder!r})
Parallel(2, "processes", batch_size=1, start_method={method!r})([STAGES[{stage!r}](folder)] * 4)
"""


@at_every_stage
@pytest.mark.parametrize("method", ["nursery", "spawn", "fork"])
def test_the_caller_is_killed(stage, method, tmp_path, python):
    tests = os.path.dirname(__file__)
    python.environment["PYTHONPATH"] += os.pathsep + os.path.dirname(tests)
    program = python.start(PROGRAM.format(tests=tests, folder=str(tmp_path), stage=stage, method=method))
    wait_until(lambda: len(pids_in(tmp_path)) == 2, 30.0)
    nurseries = {int(parent_of(pid)) for pid in pids_in(tmp_path)}
    program.kill()
    program.communicate()
    wait_until(lambda: all(is_gone(pid) for pid in [*pids_in(tmp_path), *nurseries]), 2.0)


def parent_of(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[1]


ENDS = {
    "sys.exit in a loop": "for _ in results: sys.exit(5)",
    "os._exit": "next(results); os._exit(5)",
    "the generator is kept": "keep = [results, next(results)]; sys.exit(5)",
    "in a thread": "import threading; threading.Thread(target=list, args=(results,), daemon=True).start(); sys.exit(5)",
}


@pytest.mark.parametrize("end", ENDS)
def test_the_interpreter_ends_with_tasks_running(end, python):
    code = f"""
import os, sys, time
from fastpar import Parallel, delayed
def name(i):
    if i: time.sleep(60)
    return os.getpid()
results = Parallel(2, "processes", return_as="generator", batch_size=1)(delayed(name)(i) for i in range(4))
children = open("/proc/self/task/%d/children" % os.getpid()).read().split()
print(*children, flush=True)
{ENDS[end]}
"""
    start = time.monotonic()
    done = python.run("-c", code)
    assert (done.returncode, done.stderr) == (5, "")
    assert time.monotonic() - start < 30
    wait_until(lambda: all(is_gone(int(pid)) for pid in done.stdout.split()), 2.0)


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_a_daemonic_process_calls(context, python):
    (python.directory / "daemonic.py").write_text(f"""
import multiprocessing, os
from fastpar import Parallel, delayed
def inside():
    print(Parallel(2, "processes")(delayed(abs)(-x) for x in (1, 2)), flush=True)
def forever():
    Parallel(2, "processes")(delayed(print)(os.getpid(), flush=True) for x in (1, 2))
if __name__ == "__main__":
    process = multiprocessing.get_context({context!r}).Process(target=inside, daemon=True)
    process.start(); process.join(); print(process.exitcode)
""")
    done = python.run("daemonic.py")
    assert (done.stdout, done.stderr) == ("[1, 2]\n0\n", "")


def test_a_nested_call_ends_with_its_worker(tmp_path):
    """Workers of a worker go when that is killed."""

    def outer(folder):
        Parallel(2, "processes", batch_size=1)(delayed(stay)(folder) for _ in range(2))

    results = parallel(return_as="generator")([delayed(outer)(tmp_path)])
    wait_until(lambda: len(pids_in(tmp_path)) >= 1)
    results.close()
    assert_ended(tmp_path)


def test_fork_workers_end_with_their_call():
    before = children()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pids = parallel(start_method="fork", batch_size=1)(delayed(os.getpid)() for _ in range(6))
    assert all(is_gone(pid) for pid in pids)
    assert children() == before
