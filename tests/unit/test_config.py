"""Settings: which value counts, and how the written ones are read."""

import math
import subprocess
import sys
from contextvars import copy_context

import numpy as np
import pytest

import fastpar
from fastpar import config
from fastpar.config import DEFAULTS, Default

FIELDS = sorted(DEFAULTS._fields)


def test_default_shows_its_value():
    assert repr(Default(None)) == "default(None)"
    assert repr(DEFAULTS.max_nbytes) == "default('1M')"


def test_config_is_frozen():
    with pytest.raises(AttributeError):
        DEFAULTS.n_jobs = 3
    with pytest.raises(AttributeError):
        DEFAULTS.anything_else = 3


class TestResolve:
    def test_argument_beats_context_beats_default(self):
        context = DEFAULTS._replace(verbose=7)
        assert config.resolve("verbose", 3, context) == 3
        assert config.resolve("verbose", DEFAULTS.verbose, context) == 7
        assert config.resolve("verbose", DEFAULTS.verbose, DEFAULTS) == 0

    def test_falsy_values_are_values(self):
        context = DEFAULTS._replace(max_nbytes="2M", temp_folder="/somewhere", verbose=5)
        assert config.resolve("max_nbytes", None, context) is None
        assert config.resolve("temp_folder", None, context) is None
        assert config.resolve("verbose", 0, context) == 0

    def test_none_in_the_context_is_a_value_too(self):
        assert config.resolve("max_nbytes", DEFAULTS.max_nbytes, DEFAULTS._replace(max_nbytes=None)) is None

    def test_n_jobs_none_means_not_passed(self):
        assert config.resolve("n_jobs", None, DEFAULTS._replace(n_jobs=2)) == 2
        assert config.resolve("n_jobs", None, DEFAULTS._replace(n_jobs=None)) is None
        assert config.resolve("n_jobs", None, DEFAULTS) is None

    def test_a_caller_may_bring_its_own_default(self):
        assert config.resolve("verbose", Default(4), DEFAULTS) == 4
        assert config.resolve("verbose", Default(4), DEFAULTS._replace(verbose=1)) == 1

    @pytest.mark.parametrize("name", FIELDS)
    def test_every_field_has_a_default(self, name):
        assert config.resolve(name, getattr(DEFAULTS, name), DEFAULTS) == getattr(DEFAULTS, name).default_value


class TestContext:
    def test_activate_and_restore(self):
        token = config.activate(DEFAULTS._replace(n_jobs=2))
        assert config.current().n_jobs == 2
        config.restore(token)
        assert config.current() is DEFAULTS

    def test_other_contexts_do_not_see_it(self):
        copy_context().run(config.activate, DEFAULTS._replace(n_jobs=2))
        assert config.current() is DEFAULTS


class TestNJobs:
    @pytest.mark.parametrize(
        ("n_jobs", "n_cpus", "expected"),
        [
            (None, 8, 1),
            (1, 8, 1),
            (3, 8, 3),
            (100, 8, 100),
            (-1, 8, 8),
            (-2, 8, 7),
            (-8, 8, 1),
            (-9, 8, 1),
            (-1, 1, 1),
            (-2, 1, 1),
            (np.int64(-1), 8, 8),
            (np.uint8(2), 8, 2),
            (np.array(2), 8, 2),
        ],
    )
    def test_rules(self, n_jobs, n_cpus, expected):
        result = config.parse_n_jobs(n_jobs, n_cpus)
        assert result == expected
        assert type(result) is int

    def test_zero_names_the_fix(self):
        with pytest.raises(ValueError, match=r"n_jobs=0 .*n_jobs=-1"):
            config.parse_n_jobs(0, 4)

    @pytest.mark.parametrize(
        ("n_jobs", "fix"),
        [
            (2.0, "write n_jobs=2$"),
            ("2", "write n_jobs=2, without quotes$"),
            (" -1", "write n_jobs=-1, without quotes$"),
            ("two", "of type str$"),
            (True, "not True of type bool$"),
            (math.nan, "of type float$"),
            (math.inf, "of type float$"),
            ([2], "of type list$"),
        ],
    )
    def test_other_types_name_the_argument_and_the_fix(self, n_jobs, fix):
        with pytest.raises(TypeError, match=fix):
            config.parse_n_jobs(n_jobs, 4)


class TestBatchSize:
    @pytest.mark.parametrize(("given", "expected"), [("auto", None), (1, 1), (np.int32(50), 50)])
    def test_rules(self, given, expected):
        assert config.parse_batch_size(given) == expected

    @pytest.mark.parametrize("given", [0, -1, "Auto", "3", ""])
    def test_values(self, given):
        with pytest.raises(ValueError, match="batch_size must be"):
            config.parse_batch_size(given)

    @pytest.mark.parametrize("given", [None, 1.0, True, [1]])
    def test_types(self, given):
        with pytest.raises(TypeError, match="batch_size must be"):
            config.parse_batch_size(given)


class TestVerbose:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (0, 0),
            (True, 1),
            (False, 0),
            (50, 50),
            (2.5, 2.5),
            (-1, 0),
            (np.float32(0.5), 0.5),
            (np.int8(3), 3),
        ],
    )
    def test_rules(self, given, expected):
        result = config.parse_verbose(given)
        assert result == expected
        assert type(result) is not bool

    @pytest.mark.parametrize("given", [None, "5", [5]])
    def test_types(self, given):
        with pytest.raises(TypeError, match="verbose must be a number"):
            config.parse_verbose(given)

    def test_nan(self):
        with pytest.raises(ValueError, match="nan"):
            config.parse_verbose(math.nan)


class TestTimeout:
    @pytest.mark.parametrize(
        ("given", "expected"), [(None, None), (1, 1.0), (0.25, 0.25), (np.float32(2), 2.0), (math.inf, None)]
    )
    def test_rules(self, given, expected):
        assert config.parse_timeout(given) == expected

    @pytest.mark.parametrize("given", [0, -1, -0.5, math.nan])
    def test_values(self, given):
        with pytest.raises(ValueError, match="timeout must be"):
            config.parse_timeout(given)

    @pytest.mark.parametrize("given", ["3", True, [3], 1j])
    def test_types(self, given):
        with pytest.raises(TypeError, match="timeout must be a number of seconds or None"):
            config.parse_timeout(given)


class TestMemory:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (None, None),
            (0, 0),
            (1000, 1000),
            (np.int64(7), 7),
            ("1K", 1024),
            ("500K", 500 * 1024),
            ("1M", 2**20),
            ("1.5M", 3 * 2**19),
            (".5g", 2**29),
            ("2G", 2**31),
            ("1T", 2**40),
            (" 10 M ", 10 * 2**20),
            (1e6, 1_000_000),
            (float("inf"), None),
        ],
    )
    def test_rules(self, given, expected):
        assert config.parse_memory(given) == expected

    @pytest.mark.parametrize(
        "given", [float("nan"), "", "M", "1", "1000", "-1M", "1MB", "1e3M", "1.2.3M", "infM", "9" * 400 + "M", -1]
    )
    def test_values(self, given):
        with pytest.raises(ValueError, match="bytes_limit must"):
            config.parse_memory(given, "bytes_limit")

    @pytest.mark.parametrize("given", [[1], True, b"1M"])
    def test_types(self, given):
        with pytest.raises(TypeError, match="max_nbytes must"):
            config.parse_memory(given)


class TestChoice:
    @pytest.mark.parametrize(
        ("name", "value"), [(name, value) for name in config.CHOICES for value in config.CHOICES[name]]
    )
    def test_allowed(self, name, value):
        assert config.parse_choice(name, value) == value

    @pytest.mark.parametrize("value", ["thread", "", 1, [], np.arange(2)])
    def test_others_list_what_is_allowed(self, value):
        with pytest.raises(ValueError, match=r"^prefer=.*None, 'processes', 'threads'$"):
            config.parse_choice("prefer", value)


class TestPreDispatch:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("all", None),
            (7, 7),
            (np.int16(7), 7),
            (2.5, 2),
            (0.5, 1),
            ("7", 7),
            ("n_jobs", 4),
            ("2*n_jobs", 8),
            ("2 * n_jobs", 8),
            ("3 * n_jobs + 1", 13),
            ("1.5*n_jobs", 6),
            ("n_jobs/3", 1),
            ("0.1*n_jobs", 1),
            ("n_jobs//3", 1),
            ("n_jobs-1", 3),
            ("10-4-3", 3),
            ("100/5/2", 10),
            ("2+3*n_jobs", 14),
            ("(2+3)*n_jobs", 20),
            ("-(-n_jobs)", 4),
            ("--n_jobs", 4),
            ("+n_jobs", 4),
            ("2*-n_jobs+10", 2),
            ("7%n_jobs", 3),
            ("((((n_jobs))))", 4),
            (".5*n_jobs", 2),
        ],
    )
    def test_values(self, given, expected):
        assert config.parse_pre_dispatch(given, 4) == expected

    @pytest.mark.parametrize(
        "given", [0, -1, "0", "-1", "n_jobs-4", "n_jobs//5", "-n_jobs", math.nan, math.inf, "-0.5"]
    )
    def test_less_than_one(self, given):
        with pytest.raises(ValueError, match=r"pre_dispatch must be at least 1, got .*'all'"):
            config.parse_pre_dispatch(given, 4)

    @pytest.mark.parametrize(
        ("given", "reason"),
        [
            ("", "ends too early"),
            ("2*", "ends too early"),
            ("(n_jobs", r"'\)' is missing"),
            ("n_jobs)", r"'\)' is not expected"),
            ("2 n_jobs", "'n_jobs' is not expected"),
            ("2n_jobs", "'2n_jobs' is not a number"),
            ("n_job", "'n_job' is not expected"),
            ("n_jobs**2", r"'\*' is not expected"),
            ("1..2", "'1..2' is not a number"),
            ("1e9", "'1e9' is not a number"),
            ("n_jobs/0", "divides by zero"),
            ("n_jobs//0", "divides by zero"),
            ("n_jobs%(1-1)", "divides by zero"),
            ("auto", "'auto' is not expected"),
            ("__import__('os')", '"\'" is not expected'),
            ("n_jobs.real", "'n_jobs.real' is not expected"),
            ("n_jobs if 1 else 2", "'if' is not expected"),
            ("[1]", r"'\[' is not expected"),
            ("１²", "is not expected"),
            ("(" * 21 + "1" + ")" * 21, "nests deeper"),
            ("-" * 21 + "1", "nests deeper"),
            ("9" * 17, "largest number"),
            ("1.0" + "9" * 100 + "*" + "9" * 17, "largest number"),
            ("99999999*99999999*9", "largest number"),
            ("1+" * 100 + "1", "more than 200 characters"),
        ],
    )
    def test_nonsense_says_why(self, given, reason):
        with pytest.raises(ValueError, match=reason) as caught:
            config.parse_pre_dispatch(given, 4)
        assert "'2*n_jobs'" in str(caught.value)

    @pytest.mark.parametrize("given", [None, True, [1], 1j])
    def test_types(self, given):
        with pytest.raises(TypeError, match="pre_dispatch must be"):
            config.parse_pre_dispatch(given, 4)


def test_import_stays_light():
    """The package's own `__init__` is left out: this is about what config and its imports load."""
    heavy = ["re", "ast", "typing", "inspect", "dataclasses", "enum", "logging", "numpy", "subprocess"]
    probe = (
        f"import sys; package = type(sys)('fastpar'); package.__path__ = {list(fastpar.__path__)}; "
        "sys.modules['fastpar'] = package; import fastpar.config; "
        f"print(sorted(set({heavy}) & set(sys.modules)))"
    )
    # -S: site may load anything; what is there without it was loaded by the module.
    found = subprocess.run([sys.executable, "-S", "-c", probe], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
