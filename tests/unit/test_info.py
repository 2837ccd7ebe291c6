"""`python -m fastpar`: the commands, and the report of `info`."""

import sys

import pytest

from fastpar import __main__, _info, cpu


def fake_module(monkeypatch, name, **contents):
    module = type(sys)(name)
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, name, module)


class TestMain:
    def test_no_command(self, capsys):
        assert __main__.main([]) == 2
        assert "usage: python -m fastpar" in capsys.readouterr().err

    @pytest.mark.parametrize("flag", ["-h", "--help", "help"])
    def test_help(self, capsys, flag):
        assert __main__.main([flag]) == 0
        out = capsys.readouterr().out
        assert all(command in out for command in __main__.COMMANDS)

    def test_wrong_command(self, capsys):
        assert __main__.main(["inof"]) == 2
        err = capsys.readouterr().err
        assert "no command 'inof'" in err
        assert "info" in err

    def test_arguments_and_exit_code_pass_through(self, monkeypatch):
        seen = []
        fake_module(monkeypatch, "fastpar.demo", main=lambda argv: seen.append(argv) or 7)
        assert __main__.main(["demo", "--fast", "3"]) == 7
        assert seen == [["--fast", "3"]]


class TestInfo:
    @pytest.fixture(autouse=True)
    def engines(self, monkeypatch):
        fake_module(monkeypatch, "fastpar.engines.active", available=lambda: {"threading": "ready"})

    def test_report(self, capsys):
        assert _info.main([]) == 0
        report = capsys.readouterr().out
        for title in _info.SECTIONS:
            assert f"{title}\n" in report
        assert "not available" not in report
        assert "  threading: ready\n" in report
        assert "zlib, gzip, bz2, lzma, xz" in report

    def test_help(self, capsys):
        assert _info.main(["--help"]) == 0
        assert "usage" in capsys.readouterr().out

    def test_arguments(self, capsys):
        assert _info.main(["--what"]) == 2
        assert "--what" in capsys.readouterr().err

    def test_says_which_limit_decides(self, monkeypatch):
        monkeypatch.setenv("FASTPAR_MAX_CPUS", "1")
        monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "lots")
        lines = list(_info.cpus())
        assert lines[0].startswith("1, which is the limit of ")
        assert "FASTPAR_MAX_CPUS" in lines[0]
        (ignored,) = [line for line in lines if "LOKY_MAX_CPU_COUNT" in line]
        assert ignored.startswith("   -")
        assert "ignored" in ignored

    def test_every_limit_is_listed(self):
        text = "\n".join(_info.cpus())
        assert all(limit.source in text for limit in cpu.cpu_count(explain=True).limits)

    def test_a_section_that_fails_leaves_the_others(self, monkeypatch):
        fake_module(monkeypatch, "fastpar.engines.active")
        report = _info.lines()
        assert report[report.index("Engines") + 1].startswith("  not available: ImportError")
        assert "Codecs" in report

    def test_missing_codecs_are_named(self, monkeypatch):
        monkeypatch.setitem(_info.CODECS, "future", ("fastpar_no_such_package.module", "fastpar_no_such_module"))
        assert "future is not installed" in list(_info.codecs())

    def test_numpy_is_found_to_have_a_library(self):
        assert any("threads" in line for line in _info.native_libraries())

    def test_build_with_or_without_the_gil(self, monkeypatch):
        monkeypatch.setattr(_info.sysconfig, "get_config_var", lambda name: 0)
        assert _info._gil() == "with the GIL"
        monkeypatch.setattr(_info.sysconfig, "get_config_var", lambda name: 1)
        monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
        assert _info._gil() == "free-threaded build, the GIL is off"
        monkeypatch.setattr(sys, "_is_gil_enabled", lambda: True, raising=False)
        assert _info._gil() == "free-threaded build, the GIL is on"
