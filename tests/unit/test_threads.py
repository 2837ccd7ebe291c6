"""The thread pool: who is reused, who ends, and what happens when the system gives no more threads."""

import threading

import pytest

from fastpar import Parallel, delayed
from fastpar.engines.threads import ENGINE


def hold(n_jobs, gate, **settings):
    """A generator whose first `n_jobs` tasks all run now, each telling its thread, until `gate` opens."""
    running = threading.Barrier(n_jobs + 1, timeout=30)

    def task():
        running.wait()
        gate.wait()
        return threading.current_thread()

    # With a timeout the calling thread runs no tasks itself.
    results = Parallel(n_jobs=n_jobs, backend="threading", return_as="generator", batch_size=1, timeout=60, **settings)(
        delayed(task)() for _ in range(n_jobs)
    )
    running.wait()
    return results


def workers(n_jobs):
    """The threads of a call that keeps `n_jobs` tasks running at once."""
    gate = threading.Event()
    results = hold(n_jobs, gate)
    gate.set()
    return set(results)


def idle(n):
    """Wait until n workers of the pool are parked: the last thing they do, which nothing announces."""
    for thread in [thread for thread in threading.enumerate() if thread.name.startswith("fastpar-")]:
        while thread.is_alive() and ENGINE.pool.n_idle < n:
            thread.join(0.001)


class TestReuse:
    def test_the_next_call_has_the_same_workers(self):
        first = workers(3)
        idle(3)
        assert workers(3) == first

    def test_the_last_to_come_is_the_first_to_go(self):
        workers(3)
        idle(3)
        parallel = Parallel(n_jobs=2, timeout=60, backend="threading")
        last = parallel([delayed(threading.current_thread)()])
        idle(3)
        assert parallel([delayed(threading.current_thread)()]) == last

    def test_calls_at_once_share_the_pool_and_no_worker(self):
        gate = threading.Event()
        first, second = hold(2, gate), hold(2, gate)
        gate.set()
        assert set(first).isdisjoint(second)

    def test_workers_are_daemons_with_a_name(self):
        for worker in workers(2):
            assert worker.daemon
            assert worker.name.startswith("fastpar-")

    def test_a_worker_that_ran_a_failing_task_is_kept(self):
        def fail():
            raise SystemExit(threading.current_thread().name)

        workers(2)
        idle(2)
        n_threads = threading.active_count()
        for _ in range(5):
            with pytest.raises(SystemExit):
                Parallel(n_jobs=2, timeout=60, backend="threading")([delayed(fail)()])
            idle(2)
        assert threading.active_count() == n_threads


class TestClose:
    def test_ends_the_idle_threads(self):
        those = workers(3)
        idle(3)
        ENGINE.pool.close()
        assert not any(thread.is_alive() for thread in those)
        assert ENGINE.pool.n_idle == 0

    def test_waits_for_no_task(self):
        gate = threading.Event()
        results = hold(2, gate)
        ENGINE.pool.close()
        gate.set()
        those = set(results)
        for thread in those:
            thread.join(10)
        assert len(those) == 2 and not any(thread.is_alive() for thread in those)

    def test_calls_after_it_work(self):
        ENGINE.pool.close()
        assert Parallel(n_jobs=2, backend="threading")(delayed(abs)(-x) for x in range(10)) == list(range(10))

    def test_twice_is_once(self):
        ENGINE.pool.close()
        ENGINE.pool.close()


class TestNoMoreThreads:
    @pytest.fixture
    def starts(self, monkeypatch):
        """Lets the first `allowed` starts of a thread succeed and all others fail; counts them."""

        class Starts:
            allowed, asked = 0, 0

        start = threading.Thread.start

        def limited(thread):
            if thread.name.startswith("fastpar-"):
                Starts.asked += 1
                if Starts.asked > Starts.allowed:
                    raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", limited)
        return Starts

    @pytest.mark.parametrize("allowed", [1, 2, 3])
    def test_fewer_workers_do_the_work(self, starts, allowed):
        starts.allowed = allowed
        names = Parallel(n_jobs=8, batch_size=1, timeout=60, backend="threading")(
            delayed(lambda: threading.current_thread().name)() for _ in range(100)
        )
        assert 1 <= len(set(names)) <= allowed

    @pytest.mark.parametrize("return_as", ["list", "generator", "generator_unordered"])
    def test_none_at_all_is_an_error(self, starts, return_as):
        parallel = Parallel(n_jobs=2, return_as=return_as, backend="threading")
        with pytest.raises(RuntimeError, match="can't start new thread"):
            list(parallel(delayed(abs)(x) for x in range(100)))
        starts.allowed = 100
        assert sorted(parallel(delayed(abs)(x) for x in range(10))) == list(range(10))

    @pytest.mark.parametrize("has_started", [False, True])
    @pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt])
    def test_what_a_signal_handler_raises_meanwhile_ends_the_call(self, monkeypatch, has_started, error):
        start = threading.Thread.start

        def interrupted(thread):
            if has_started:
                start(thread)
            raise error("of a handler")

        monkeypatch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(error, match="of a handler"):
            Parallel(n_jobs=2, backend="threading")(delayed(abs)(x) for x in range(100))

    def test_parked_workers_do_without_new_ones(self, starts):
        starts.allowed = 2
        workers(2)
        idle(2)
        names = Parallel(n_jobs=4, batch_size=1, timeout=60, backend="threading")(
            delayed(lambda: threading.current_thread().name)() for _ in range(100)
        )
        assert 1 <= len(set(names)) <= 2


class TestContext:
    def test_tasks_see_the_callers_context_and_do_not_change_it(self):
        from contextvars import ContextVar

        variable = ContextVar("variable", default="default")

        def task(value):
            before = variable.get()
            variable.set(value)
            return before

        token = variable.set("the caller's")
        try:
            parallel = Parallel(n_jobs=3, batch_size=1, timeout=60, backend="threading")
            seen = set(parallel(delayed(task)(x) for x in range(30)))
            assert variable.get() == "the caller's"
            assert "default" not in seen
        finally:
            variable.reset(token)

    def test_the_next_call_on_the_same_workers_sees_its_own(self):
        from contextvars import ContextVar

        variable = ContextVar("variable")
        for value in range(3):
            token = variable.set(value)
            assert set(Parallel(n_jobs=2, backend="threading")(delayed(variable.get)() for _ in range(10))) == {value}
            variable.reset(token)
