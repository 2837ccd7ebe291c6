"""What a call shows while it runs. Clocks and streams are the tests' own: nothing waits."""

import io
import sys

import numpy as np
import pytest

from fastpar.progress import Bar, Callback, Lines, Reporter, Several, Tqdm, bar_line, make_reporter, parse_progress


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def fileno(self):
        raise OSError


@pytest.fixture
def clock():
    return Clock()


def counts_printed(verbose, n_total, known):
    """The counts at which joblib's lines come when tasks end one by one."""
    stream = io.StringIO()
    lines = Lines("P", verbose, "B", 1, stream=stream)
    total = n_total if known else None
    lines.start(total)
    for n_done in range(1, n_total + 1):
        lines.update(n_done, total)
    lines.finish(n_total, total, completed=True)
    return [int(line.split()[2]) for line in stream.getvalue().splitlines()]


class TestLines:
    @pytest.mark.parametrize("known", [True, False])
    @pytest.mark.parametrize(
        ("verbose", "expected"),
        [
            (1, [49, 100]),
            (5, [17, 71, 100]),
            (10, [1, 4, 7, 12, 17, 24, 31, 40, 49, 60, 71, 84, 97, 100]),
            (11, list(range(1, 101))),
            (50, list(range(1, 101))),
            (100, list(range(1, 101))),
        ],
    )
    def test_counts_of_joblib(self, verbose, expected, known):
        printed = counts_printed(verbose, 100, known)
        if not known:  # the end is not known to be the end before `finish`
            printed = list(dict.fromkeys(printed))
        assert printed == expected

    def test_total_known(self, clock):
        stream = io.StringIO()
        lines = Lines("Parallel(n_jobs=2, backend='threading')", 10, "ThreadingBackend", 2, stream=stream, clock=clock)
        lines.start(100)
        clock.now += 3
        lines.update(25, 100)
        clock.now += 87
        lines.finish(100, 100, completed=True)
        assert stream.getvalue().splitlines() == [
            "[Parallel(n_jobs=2, backend='threading')]: Using backend ThreadingBackend with 2 concurrent workers.",
            "[Parallel(n_jobs=2, backend='threading')]: Done  25 out of 100 | elapsed:    3.0s remaining:    9.0s",
            "[Parallel(n_jobs=2, backend='threading')]: Done 100 out of 100 | elapsed:  1.5min finished",
        ]

    def test_total_unknown(self, clock):
        stream = io.StringIO()
        lines = Lines("Parallel(n_jobs=1, backend='threading')", 10, "SequentialBackend", 1, stream=stream, clock=clock)
        lines.start(None)
        lines.update(1, None)
        lines.update(8, 10)
        lines.finish(10, 10, completed=True)
        assert stream.getvalue().splitlines() == [
            "[Parallel(n_jobs=1, backend='threading')]: Done   1 tasks      | elapsed:    0.0s",
            "[Parallel(n_jobs=1, backend='threading')]: Done   8 out of  10 | elapsed:    0.0s remaining:    0.0s",
            "[Parallel(n_jobs=1, backend='threading')]: Done  10 out of  10 | elapsed:    0.0s finished",
        ]

    def test_many_tasks_at_once_give_one_line(self):
        stream = io.StringIO()
        lines = Lines("P", 10, "B", 1, stream=stream)
        lines.start(1000)
        lines.update(500, 1000)
        lines.update(501, 1000)
        assert stream.getvalue().count("\n") == 1

    def test_a_call_that_failed_is_not_finished(self):
        stream = io.StringIO()
        lines = Lines("P", 10, "B", 1, stream=stream)
        lines.start(10)
        lines.finish(3, 10, 1, completed=False)
        assert stream.getvalue() == ""

    @pytest.mark.parametrize(("verbose", "name"), [(0.5, "err"), (49, "err"), (50, "out"), (100, "out")])
    def test_stream(self, capsys, verbose, name):
        Lines("P", verbose, "B", 2).start(10)
        captured = capsys.readouterr()
        assert "Using backend" in getattr(captured, name)
        assert captured.out + captured.err == getattr(captured, name)

    def test_no_console(self, monkeypatch):
        monkeypatch.setattr(sys, "stderr", None)
        Lines("P", 1, "B", 2).start(10)

    @pytest.mark.parametrize("verbose", [0.1, 1, 2, 5, 9.9, 10])
    def test_counts_are_where_joblibs_rule_puts_them(self, verbose):
        """joblib prints at n when the square root of n / scale and of (n + 1) / scale differ by a whole number."""
        scale = 0.5 * (11 - verbose) ** 2
        root = np.floor(np.sqrt(np.arange(1000) / scale)).astype(int)
        expected = [n for n in range(1, 999) if root[n + 1] > root[n]]
        assert counts_printed(verbose, 999, known=True) == [*expected, 999]


class TestBar:
    def test_terminal(self, clock):
        stream = Terminal()
        bar = Bar(stream=stream, clock=clock)
        bar.start(4)
        clock.now += 2
        bar.update(1, 4)
        clock.now += 6
        bar.finish(4, 4, completed=True)
        drawn = stream.getvalue().split("\r")
        assert drawn == [
            "",
            "  0% [                              ] 0/4",
            " 25% [#######                       ] 1/4, 2.0 s each, 6.0s left",
            "100% [##############################] 4/4, 2.0 s each, took 8.0s\n",
        ]

    def test_a_shorter_line_covers_a_longer_one(self, clock):
        stream = Terminal()
        bar = Bar(stream=stream, clock=clock)
        bar.start(None)
        clock.now += 1000
        bar.update(1, None)
        longer = stream.getvalue().split("\r")[-1]
        clock.now += 1000
        bar.update(2000, None)
        assert len(stream.getvalue().split("\r")[-1]) == len(longer)

    def test_ten_redraws_a_second(self, clock):
        stream = Terminal()
        bar = Bar(stream=stream, clock=clock)
        bar.start(10_000)
        for n_done in range(10_000):
            clock.now += 0.001
            bar.update(n_done, 10_000)
        assert 95 <= stream.getvalue().count("\r") <= 102

    def test_lines_that_stay_are_sparse(self, clock):
        stream = io.StringIO()
        bar = Bar(stream=stream, clock=clock)
        bar.start(None)
        for n_done in range(1, 4801):
            clock.now += 0.125
            bar.update(n_done, None)
        times = [line.split(", ")[-1] for line in stream.getvalue().splitlines()]
        assert times[:8] == ["1.0s", "2.0s", "4.0s", "8.0s", "16.0s", "32.0s", "1:04", "2:04"]
        assert len(times) == 7 + 8
        bar.finish(4800, None, completed=True)
        assert stream.getvalue().splitlines()[-1].endswith("4800/4800, 8.0/s, took 10:00")
        assert "\r" not in stream.getvalue()

    def test_short_calls_leave_one_line(self, clock):
        stream = io.StringIO()
        bar = Bar(stream=stream, clock=clock)
        bar.start(2)
        bar.update(1, 2)
        bar.finish(2, 2, completed=True)
        assert stream.getvalue() == "100% [##############################] 2/2, took 0.0s\n"

    def test_an_abandoned_call_stays_where_it_was(self, clock):
        stream = io.StringIO()
        bar = Bar(stream=stream, clock=clock)
        bar.start(8)
        clock.now += 1
        bar.finish(2, 8, 1, completed=False)
        assert stream.getvalue() == " 25% [#######                       ] 2/8, 1 failed, 2.0/s, took 1.0s\n"

    def test_stderr_of_the_moment(self, capsys):
        bar = Bar()
        bar.start(1)
        bar.finish(1, 1, completed=True)
        captured = capsys.readouterr()
        assert captured.err.startswith("100%")
        assert captured.out == ""

    def test_no_console(self, monkeypatch):
        monkeypatch.setattr(sys, "stderr", None)
        bar = Bar()
        bar.start(1)
        bar.update(1, 1)
        bar.finish(1, 1, completed=True)

    @pytest.mark.parametrize("columns", [1, 2, 10, 20, 40, 80, 200])
    def test_fits_the_terminal(self, columns):
        for n_total in (None, 0, 7, 10**9):
            line = bar_line(n_total or 0, n_total, 3, 12345.6, columns)
            assert len(line) < columns
            assert "\n" not in line

    def test_nothing_to_do(self):
        assert bar_line(0, 0, 0, 0.0, 80) == "100% [##############################] 0/0"

    @pytest.mark.parametrize(
        ("n_done", "elapsed", "expected"),
        [(30_000, 1.0, "30000/s"), (5, 1.0, "5.0/s"), (1, 90.0, "90.0 s each"), (1, 3725.0, "1:02:05")],
    )
    def test_units(self, n_done, elapsed, expected):
        assert expected in bar_line(n_done, None, 0, elapsed, 80)


class TestTqdm:
    def test_follows_the_counts(self, capsys, monkeypatch):
        tqdm = pytest.importorskip("tqdm")
        monkeypatch.setattr(tqdm.tqdm, "monitor_interval", 0)  # it would start a thread that stays
        reporter = Tqdm()
        reporter.start(None)
        reporter.update(3, None)
        reporter.update(5, 8)
        bar = reporter._bar
        assert (bar.n, bar.total) == (5, 8)
        reporter.finish(8, 8, completed=True)
        assert (bar.n, bar.total, bar.disable) == (8, 8, True)
        assert "8/8" in capsys.readouterr().err

    def test_missing(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
        with pytest.raises(ImportError, match=r"pip install tqdm; progress=True"):
            make_reporter("P", progress="tqdm")


class TestCallback:
    def test_called_at_the_start_and_at_changes(self):
        calls = []
        reporter = Callback(lambda *counts: calls.append(counts))
        reporter.start(None)
        reporter.update(1, None)
        reporter.update(1, None)
        reporter.update(2, 3)
        reporter.update(2, 3, 1)
        reporter.finish(3, 3, 1, completed=True)
        assert calls == [(0, None, 0), (1, None, 0), (2, 3, 0), (2, 3, 1), (3, 3, 1)]

    def test_the_end_is_not_told_twice(self):
        calls = []
        reporter = Callback(lambda *counts: calls.append(counts))
        reporter.start(1)
        reporter.update(1, 1)
        reporter.finish(1, 1, completed=True)
        assert calls == [(0, 1, 0), (1, 1, 0)]

    def test_its_errors_are_the_callers(self):
        def fail(done, total, failed):
            raise RuntimeError("mine")

        with pytest.raises(RuntimeError, match="mine"):
            Callback(fail).start(1)


class TestMaking:
    def test_nobody_wants_to_hear(self):
        assert make_reporter("P") is None
        assert make_reporter("P", verbose=0, progress=False) is None

    @pytest.mark.parametrize(
        ("options", "kind"),
        [({"verbose": 1}, Lines), ({"progress": True}, Bar), ({"progress": print}, Callback)],
    )
    def test_kinds(self, options, kind):
        assert type(make_reporter("P", **options)) is kind

    def test_both(self):
        calls = []
        reporter = make_reporter("P", verbose=0.1, progress=lambda *counts: calls.append(counts))
        assert type(reporter) is Several
        reporter.start(2)
        reporter.update(1, 2)
        reporter.finish(2, 2, completed=False)
        assert calls == [(0, 2, 0), (1, 2, 0), (2, 2, 0)]

    @pytest.mark.parametrize("value", [None, True, False, "tqdm", print])
    def test_accepted(self, value):
        assert parse_progress(value) is value

    @pytest.mark.parametrize("value", [1, "bar", [], np.arange(3), 0.5])
    def test_refused(self, value):
        with pytest.raises(TypeError, match="progress must be True"):
            parse_progress(value)

    def test_the_base_class_shows_nothing(self, capsys):
        reporter = Reporter()
        reporter.start(1)
        reporter.update(1, 1)
        reporter.finish(1, 1, completed=True)
        assert capsys.readouterr() == ("", "")
