"""What users may ask of worker processes and of the tasks in them: options, retries, time limits, failures in place."""

import multiprocessing
import os
import pkgutil
import sys
import threading
import time

import numpy as np
import pytest
from waiting import is_gone

from fastpar import Parallel, delayed
from fastpar.engines.attempts import TaskFailure
from fastpar.engines.processes.engine import POOL
from fastpar.engines.processes.options import parse
from fastpar.errors import RemoteTaskError, TerminatedWorkerError


def parallel(n_jobs=2, **options):
    return Parallel(n_jobs, "processes", **options)


def pids_of(n_jobs, **options):
    return set(parallel(n_jobs, batch_size=1, **options)(delayed(slow_pid)() for _ in range(8 * n_jobs)))


def slow_pid():
    time.sleep(0.005)
    return os.getpid()


# ---- workers


def test_fewer_jobs_take_fewer_of_the_same_workers():
    four = pids_of(4)
    two = pids_of(2)
    assert len(four) == 4
    assert len(two) == 2
    assert two < four
    assert pids_of(4) == four


def test_concurrent_calls_have_workers_of_their_own():
    found, barrier = {}, threading.Barrier(2)

    def call(name):
        barrier.wait()
        found[name] = set(parallel(batch_size=1)(delayed(nap)() for _ in range(4)))

    def nap():
        time.sleep(0.1)  # so that both calls are under way
        return os.getpid()

    threads = [threading.Thread(target=call, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found["a"].isdisjoint(found["b"])


def hold(n_bytes):
    kept.append(np.ones(n_bytes, np.uint8))
    return os.getpid()


kept: list[object] = []


def test_workers_that_have_grown_are_replaced():
    pids = parallel(max_worker_memory="300M", batch_size=1)(delayed(hold)(400 << 20) for _ in range(3))
    assert len(set(pids)) == 3
    small = parallel(max_worker_memory="300M", batch_size=1)(delayed(hold)(1_000) for _ in range(6))
    assert len(set(small)) <= 2


def test_a_number_of_tasks_per_worker_by_joblibs_name():
    pids = Parallel(2, "multiprocessing", maxtasksperchild=3, batch_size=1)(delayed(os.getpid)() for _ in range(12))
    assert max(pids.count(pid) for pid in pids) <= 3


def test_a_number_of_tasks_per_worker_holds_within_batches():
    """Tiny tasks come in batches of hundreds: a worker that is full leaves the rest of its batch to its successor."""
    pids = parallel(max_tasks_per_worker=5)(delayed(os.getpid)() for _ in range(40))
    assert max(pids.count(pid) for pid in pids) <= 5


@pytest.mark.parametrize("warm", [False, True])
def test_modules_are_imported_in_workers_that_are_there_already(tmp_path, monkeypatch, warm):
    name = f"fastpar_test_preloaded_{warm}"
    (tmp_path / f"{name}.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))

    def is_there():
        return name in sys.modules

    if warm:
        assert parallel()([delayed(is_there)()] * 2) == [False, False]
    assert parallel(preload=[name])([delayed(is_there)()] * 2) == [True, True]


def test_a_module_that_cannot_be_preloaded_ends_the_call():
    with pytest.raises(ModuleNotFoundError, match="antigravity_that_is_not_there") as info:
        parallel(preload="antigravity_that_is_not_there", on_error="return")([delayed(abs)(1)] * 2)
    assert info.value.__notes__ == ["in a worker process, of preload='antigravity_that_is_not_there'"]
    assert parallel()([delayed(abs)(1)] * 2) == [1, 1]


@pytest.mark.parametrize("preload", ["this", ["this", "antigravity"]])
def test_modules_are_imported_before_the_fork(capfd, monkeypatch, preload):
    monkeypatch.setenv("BROWSER", "true")  # what one of them opens
    def is_there():
        return "this" in sys.modules, os.getppid()

    try:
        found = parallel(preload=preload)([delayed(is_there)()] * 2)
    finally:
        capfd.readouterr()  # it speaks
    assert [there for there, _ in found] == [True, True]


@pytest.mark.parametrize("given", [
    {"context": multiprocessing.get_context("spawn")}, {"context": "loky"}, {"start_method": "forkserver"},
])
def test_contexts_and_start_methods(given):
    assert parallel(**given)(delayed(abs)(-i) for i in range(4)) == [0, 1, 2, 3]
    assert parse(given).start_method in ("nursery", "spawn")


def test_a_context_may_be_the_backend():
    assert Parallel(2, multiprocessing.get_context("fork"))(delayed(abs)(-i) for i in range(4)) == [0, 1, 2, 3]


def test_variables_for_workers():
    look = [delayed(os.getenv)("FASTPAR_TEST_OPTION"), delayed(os.getenv)("OMP_NUM_THREADS")]
    env = {"FASTPAR_TEST_OPTION": "set", "OMP_NUM_THREADS": 7}
    assert parallel(env=env)(look) == ["set", "7"]
    assert parallel()(look)[0] is None
    assert "FASTPAR_TEST_OPTION" not in os.environ


@pytest.mark.parametrize(("given", "error", "text"), [
    ({"max_tasks_per_worker": 0}, ValueError, "max_tasks_per_worker=0 must be at least 1"),
    ({"max_tasks_per_worker": "many"}, TypeError, "integer"),
    ({"idle_worker_timeout": -1}, ValueError, "idle_worker_timeout"),
    ({"max_worker_memory": "much"}, ValueError, "max_worker_memory"),
    ({"start_method": "threads"}, ValueError, "start_method='threads' is not known"),
])
def test_options_that_make_no_sense_are_named(given, error, text):
    with pytest.raises(error, match=text):
        parallel(**given)([delayed(abs)(1)] * 2)


# ---- tasks that fail


def fail_until(path, n, act):
    """Fails until it has been tried n times, which the file at `path` counts."""
    with open(path, "a") as file:
        file.write("x")
    if os.path.getsize(path) < n:
        act()
    return os.getpid()


def raise_error():
    raise ValueError("on purpose")


def die():
    os._exit(9)


def hang():
    time.sleep(60)


@pytest.mark.parametrize(("act", "options"), [(raise_error, {}), (die, {}), (hang, {"task_timeout": 0.2})])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_task_is_tried_again(tmp_path, act, options, batch_size):
    tasks = [delayed(abs)(-i) for i in range(4)]
    tasks[2] = delayed(fail_until)(tmp_path / "n", 3, act)
    found = parallel(retries=2, batch_size=batch_size, **options)(tasks)
    assert found[:2] + found[3:] == [0, 1, 3]
    assert found[2] > 0
    assert (tmp_path / "n").read_text() == "xxx"


@pytest.mark.parametrize(("act", "kind", "options"), [
    (raise_error, ValueError, {}), (die, TerminatedWorkerError, {}), (hang, TimeoutError, {"task_timeout": 0.2}),
])
@pytest.mark.parametrize("retries", [0, 1])
def test_failures_come_in_place(tmp_path, act, kind, options, retries):
    tasks = [delayed(abs)(-i) for i in range(6)]
    tasks[3] = delayed(fail_until)(tmp_path / "n", 99, act)
    found = parallel(on_error="return", retries=retries, **options)(tasks)
    failure = found.pop(3)
    assert found == [0, 1, 2, 4, 5]
    assert isinstance(failure, TaskFailure)
    assert (failure.index, failure.n_attempts) == (3, retries + 1)
    assert isinstance(failure.error, kind)
    assert failure.call.startswith("fail_until(")
    assert (tmp_path / "n").read_text() == "x" * (retries + 1)


def count_and_raise(path, kind):
    with open(path, "ab", buffering=0) as file:
        file.write(b"x")
    raise kind(3)


BACKENDS = ["processes", "threading", "sequential"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("retries", [0, 1, 3])
@pytest.mark.parametrize("on_error", ["raise", "return"])
def test_a_task_is_tried_so_often_and_no_oftener(tmp_path, backend, retries, on_error):
    task = delayed(count_and_raise)(tmp_path / "n", ValueError)
    call = Parallel(2, backend, retries=retries, on_error=on_error)
    if on_error == "raise":
        with pytest.raises(ValueError, match="3") as info:
            call([task])
        assert info.value.__notes__[0].startswith("in task 0 of fastpar.Parallel: count_and_raise(")
    else:
        assert call([task])[0].n_attempts == retries + 1
    assert (tmp_path / "n").read_text() == "x" * (retries + 1)


def fail_variously(path, n_good, acts):
    """Do one thing after the other; "well" from the try `n_good` on."""
    with open(path, "ab", buffering=0) as file:
        file.write(b"x")
    n = os.path.getsize(path)
    if n < n_good:
        acts[(n - 1) % len(acts)]()
    return "well"


@pytest.mark.parametrize("acts", [(raise_error, die), (die, raise_error), (raise_error, hang), (hang, die)])
@pytest.mark.parametrize("retries", [1, 2, 3])
def test_what_raises_and_what_kills_counts_together(tmp_path, acts, retries):
    call = parallel(retries=retries, on_error="return", task_timeout=0.2)
    assert call([delayed(fail_variously)(tmp_path / "well", retries + 1, acts)]) == ["well"]
    (failure,) = call([delayed(fail_variously)(tmp_path / "n", 99, acts)])
    assert failure.n_attempts == retries + 1
    assert (tmp_path / "n").read_text() == "x" * (retries + 1)


def fail_within(path):
    """A call inside of a task, whose failures are its own, and then a death."""
    with open(path, "ab", buffering=0) as file:
        file.write(b"x")
    Parallel(1, retries=2, on_error="return")([delayed(raise_error)()])
    os._exit(9)


def test_tries_of_a_nested_call_do_not_count(tmp_path):
    (failure,) = parallel(retries=2, on_error="return")([delayed(fail_within)(tmp_path / "n")])
    assert failure.n_attempts == 3
    assert (tmp_path / "n").read_text() == "xxx"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_is_no_exception_ends_the_call(tmp_path, backend, kind):
    with pytest.raises(kind):
        Parallel(2, backend, retries=2, on_error="return")([delayed(count_and_raise)(tmp_path / "n", kind)])
    assert (tmp_path / "n").read_text() == "x"


@pytest.mark.parametrize("backend", BACKENDS)
def test_progress_counts_no_failures_of_other_calls(backend):
    seen = []
    failures = Parallel(1, on_error="return")([delayed(raise_error)()])
    (found,) = Parallel(2, backend, progress=lambda *counts: seen.append(counts))([delayed(max)(failures)])
    assert isinstance(found, TaskFailure)
    assert seen[-1] == (1, 1, 0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("return_as", ["list", "generator"])
def test_progress_counts_failures_that_are_results(backend, return_as):
    seen = []
    call = Parallel(
        2, backend, on_error="return", return_as=return_as, progress=lambda *counts: seen.append(counts), batch_size=1
    )
    found = list(call(delayed(divmod)(1, i) for i in (0, 0, 1)))
    assert [isinstance(one, TaskFailure) for one in found] == [True, True, False]
    assert seen[-1] == (3, 3, 2)


class Unpicklable(Exception):
    def __init__(self, lock):
        super().__init__("with a lock")
        self.lock = lock


@pytest.mark.parametrize("on_error", ["raise", "return"])
def test_an_error_that_cannot_be_sent_arrives_as_text(on_error):
    def fail():
        raise Unpicklable(threading.Lock())

    call = parallel(on_error=on_error)
    if on_error == "return":
        error = call([delayed(fail)()] * 2)[1].error
    else:
        with pytest.raises(RemoteTaskError) as caught:
            call([delayed(fail)()] * 2)
        error = caught.value
    assert isinstance(error, RemoteTaskError)
    assert (error.type_name.rpartition(".")[2], error.text) == ("Unpicklable", "with a lock")
    assert "in fail\n" in str(error.__cause__)


def test_a_task_that_takes_too_long_is_named_and_its_worker_killed(tmp_path):
    def linger(i):
        (tmp_path / str(i)).write_text(str(os.getpid()))
        if i == 5:
            time.sleep(60)
        return i

    start = time.monotonic()
    with pytest.raises(TimeoutError, match=r"task_timeout=0\.3 s") as caught:
        parallel(task_timeout=0.3, batch_size=1)(delayed(linger)(i) for i in range(6))
    assert 0.3 <= time.monotonic() - start < 10
    assert any("in task 5 of" in note and "linger(5)" in note for note in caught.value.__notes__)
    deadline = time.monotonic() + 5
    while not is_gone(int((tmp_path / "5").read_text())) and time.monotonic() < deadline:
        os.sched_yield()
    assert is_gone(int((tmp_path / "5").read_text()))
    assert parallel(task_timeout=30)(delayed(abs)(-i) for i in range(4)) == [0, 1, 2, 3]


@pytest.mark.parametrize("moment", ["session.timeout_error", "pool.Worker.kill"])
def test_the_task_after_one_that_took_too_long_is_not_to_blame(tmp_path, monkeypatch, moment):
    """The slow task ends between the look at it and the verdict or the kill, and the next one has begun by then."""
    for place in range(2):
        os.mkfifo(tmp_path / f"gate{place}")

    def pass_gate(place):
        if not (tmp_path / f"open{place}").exists():
            (tmp_path / f"gate{place}").read_bytes()
        return place

    def goes_on_late(*args):
        (board,) = (worker.board for worker in POOL._all.values() if worker.board.place == 0)
        (tmp_path / "open0").touch()
        (tmp_path / "gate0").write_bytes(b"")
        while board.place != 1:
            os.sched_yield()
        seen.append(moment)
        (tmp_path / "open1").touch()
        return goes_on(*args)

    moment, seen = f"fastpar.engines.processes.{moment}", []
    goes_on = pkgutil.resolve_name(moment)
    monkeypatch.setattr(moment, goes_on_late)
    assert parallel(task_timeout=0.2, batch_size=2)(delayed(pass_gate)(place) for place in range(2)) == [0, 1]
    assert seen == [moment]


def test_the_limit_is_for_each_task_and_not_for_their_sum():
    assert parallel(task_timeout=0.5, batch_size=20)(delayed(time.sleep)(0.05) for _ in range(40)) == [None] * 40
