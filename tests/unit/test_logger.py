"""joblib's logging helpers."""

import logging

import numpy as np
import pytest

from fastpar import logger
from fastpar.logger import Logger, PrintTime


@pytest.mark.parametrize(
    ("seconds", "long", "short"),
    [
        (0, "0.0s, 0.0min", "   0.0s"),
        (12.34, "12.3s, 0.2min", "  12.3s"),
        (60, "60.0s, 1.0min", "  60.0s"),
        (60.1, "60.1s, 1.0min", " 1.0min"),
        (3600, "3600.0s, 60.0min", "60.0min"),
    ],
)
def test_times(seconds, long, short):
    assert logger.format_time(seconds) == long
    assert logger.short_format_time(seconds) == short


class TestPformat:
    def test_depth(self):
        assert logger.pformat([[[[1]]]], depth=2) == "[[[...]]]"

    def test_arrays_are_abridged_and_the_options_come_back(self):
        before = np.get_printoptions()
        assert logger.pformat(np.arange(100) / 3).startswith("array([ 0., ..., 33.]")
        assert np.get_printoptions() == before

    def test_options_come_back_after_an_error(self):
        class Unprintable:
            def __repr__(self):
                raise RuntimeError

        before = np.get_printoptions()
        with pytest.raises(RuntimeError):
            logger.pformat(Unprintable())
        assert np.get_printoptions() == before


class Named(Logger):
    def __repr__(self):
        return "Named()"


class TestLogger:
    @pytest.mark.parametrize(("method", "level"), [("warn", "WARNING"), ("debug", "DEBUG")])
    def test_own_name(self, caplog, method, level):
        caplog.set_level(logging.DEBUG)
        getattr(Named(name="mine"), method)("100% done")
        assert caplog.record_tuples == [("mine", getattr(logging, level), "[Named()]: 100% done")]

    def test_default_name(self, caplog):
        Named().warn("careful")
        assert caplog.records[0].name == "joblib"

    def test_info_goes_to_the_root_logger(self, caplog):
        caplog.set_level(logging.INFO)
        Named(name="mine").info("hello")
        assert caplog.record_tuples == [("root", logging.INFO, "[Named()]: hello")]

    def test_format(self):
        assert Logger(depth=1).format([[1]]) == "[[...]]"


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

    monkeypatch.setattr(logger.time, "time", lambda: Clock.now)
    return Clock


class TestPrintTime:
    def test_since_the_last_call_and_in_total(self, clock, capsys):
        print_time = PrintTime()
        clock.now += 30
        print_time("first")
        clock.now += 60
        print_time("second")
        print_time("all", total=True)
        assert (
            capsys.readouterr().err == "first: 30.0s, 0.5min\nsecond: 60.0s, 1.0min\nall: 90.00s, 1.5 min\n"
        )

    def test_not_both(self):
        with pytest.raises(ValueError, match="logfile or a logdir"):
            PrintTime(logfile="a", logdir="b")

    def test_file(self, clock, tmp_path, capsys):
        PrintTime(logfile=tmp_path / "deep/er/log")("hello")
        text = (tmp_path / "deep/er/log").read_text()
        assert text.startswith("\nLogging joblib python script\n\n---")
        assert text.endswith("---\nhello: 0.0s, 0.0min\n")

    def test_file_without_a_directory(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        PrintTime(logfile="log")("hello")
        assert "hello" in (tmp_path / "log").read_text()

    def test_old_files_are_kept(self, tmp_path, capsys):
        for run in range(12):
            PrintTime(logdir=tmp_path)(f"run {run}")
        names = {path.name: path.read_text().splitlines()[-1].split(":")[0] for path in tmp_path.iterdir()}
        assert names == {"joblib.log": "run 11"} | {f"joblib.log.{n}": f"run {11 - n}" for n in range(1, 10)}

    def test_a_file_that_cannot_be_written_does_not_stop_the_program(self, tmp_path, capsys):
        path = tmp_path / "log"
        print_time = PrintTime(logfile=path)
        path.unlink()
        path.mkdir()
        with pytest.warns(RuntimeWarning, match="could not write"):
            print_time("hello")
        assert "hello" in capsys.readouterr().err
