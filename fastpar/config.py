"""Settings of a call: which value counts, and what the values mean.

Owns the contextvar that `parallel_config` sets, the rule "argument, then context, then default", and the
parsers that turn what users write (`n_jobs=-1`, `"2*n_jobs"`, `"1M"`) into numbers or into an error that
names the argument and the fix. The context managers themselves live in `engines.active`.

Every thread may enter: the values are immutable and a contextvar belongs to its context, with the GIL or
without it. `re`, `ast` and `dataclasses` are not imported, because `import fastpar` pays for this module.
"""

from __future__ import annotations

import operator
from collections import namedtuple
from contextvars import ContextVar, Token
from math import inf, isfinite, isnan
from os import fsdecode

from fastpar import _expression

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from typing import Any, SupportsIndex

    Number = int | float

MEMORY_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

CHOICES: dict[str, tuple[str | None, ...]] = {
    "prefer": (None, "processes", "threads"),
    "require": (None, "sharedmem"),
    "mmap_mode": (None, "r", "r+", "w+", "c"),
    "return_as": ("list", "generator", "generator_unordered"),
}


class Default:
    """Marks a parameter that nobody set, and carries the value it then has.

    Parameters
    ----------
    default_value : object
        What `resolve` gives when neither the argument nor the context says otherwise.

    Notes
    -----
    `None` cannot play this part: `temp_folder=None` is a value, and overrides a context.

    Examples
    --------
    >>> Default(None)
    default(None)
    """

    __slots__ = ("default_value",)

    def __init__(self, default_value: object) -> None:
        self.default_value = default_value

    def __repr__(self) -> str:
        return f"default({self.default_value!r})"


class Config(
    namedtuple(
        "Config",
        [
            "backend",
            "n_jobs",
            "verbose",
            "temp_folder",
            "max_nbytes",
            "mmap_mode",
            "prefer",
            "require",
        ],
    )
):
    """The values a context set, as the user wrote them; `Default` where it set none.

    Immutable; `_replace` makes a changed copy. What a context sets for its backend, the backend holds.
    """

    __slots__ = ()


#: What `Parallel` and `parallel_config` show in their signatures, and what holds outside any context.
DEFAULTS = Config(
    backend=Default(None),
    n_jobs=Default(None),
    verbose=Default(0),
    temp_folder=Default(None),
    max_nbytes=Default("1M"),
    mmap_mode=Default("r"),
    prefer=Default(None),
    require=Default(None),
)

_active: ContextVar[Config] = ContextVar("fastpar_config", default=DEFAULTS)


def current() -> Config:
    """Return the configuration of the calling context."""
    return _active.get()


def activate(config: Config) -> Token[Config]:
    """Make `config` current in this context, until `restore` gets the token returned here."""
    return _active.set(config)


def restore(token: Token[Config]) -> None:
    """Undo the `activate` that returned `token`.

    Raises
    ------
    ValueError
        When called in another context than `activate` was, as the contextvar requires.
    """
    _active.reset(token)


def resolve(name: str, explicit: Any, config: Config) -> Any:
    """Return the value that counts: the argument, else the context's, else the default.

    Parameters
    ----------
    name : str
        A field of `Config`.
    explicit : object
        The argument as passed; a `Default` means that it was not.
    config : Config
        The context's values, usually `current()`.

    Notes
    -----
    `n_jobs=None` is read as "not passed", in the argument and in the context, as in joblib: libraries
    hand their own `n_jobs=None` through and expect the context to decide.
    """
    if _is_set(name, explicit):
        return explicit
    configured = getattr(config, name)
    if _is_set(name, configured):
        return configured
    default = explicit if isinstance(explicit, Default) else getattr(DEFAULTS, name)
    return default.default_value


def _is_set(name: str, value: object) -> bool:
    return not isinstance(value, Default) and (value is not None or name != "n_jobs")


# ------------------------------------------------------------------------------------------- parsers


def _integer(name: str, value: SupportsIndex, wanted: str) -> int:
    """Return `value` as an int; NumPy's integers pass, bools, floats and strings do not."""
    if isinstance(value, bool):
        raise _wrong_type(name, value, wanted)
    try:
        return operator.index(value)
    except TypeError:
        raise _wrong_type(name, value, wanted) from None


def _number(name: str, value: Any, wanted: str) -> Number:
    """Return `value` as an int or float, and no nan; what Python would read out of a string does not pass."""
    if isinstance(value, (str, bytes, bytearray)):
        raise _wrong_type(name, value, wanted)
    try:
        number = value if isinstance(value, int) else float(value)
    except TypeError:
        raise _wrong_type(name, value, wanted) from None
    if isnan(number):
        raise ValueError(f"{name} must be {wanted}, not nan")
    return number


def _wrong_type(name: str, value: object, wanted: str) -> TypeError:
    fix = ""
    if isinstance(value, float) and isfinite(value):
        fix = f"; write {name}={int(value)}"
    elif isinstance(value, str) and value.strip().lstrip("-").isdecimal():
        fix = f"; write {name}={value.strip()}, without quotes"
    return TypeError(f"{name} must be {wanted}, not {value!r} of type {type(value).__name__}{fix}")


def parse_n_jobs(n_jobs: SupportsIndex | None, n_cpus: int) -> int:
    """Return the number of workers that `n_jobs` asks for, at least 1.

    Parameters
    ----------
    n_jobs : int or None
        A count; -1 for all CPUs, -2 for all but one, and so on; None, when no context configured one, is 1.
    n_cpus : int
        The CPUs that may be used, from `cpu.budget()`.

    Raises
    ------
    ValueError
        For 0, which has no meaning.
    TypeError
        For what is no integer. joblib truncates floats and reads strings; True meant "one worker" there.
    """
    if n_jobs is None:
        return 1
    count = _integer("n_jobs", n_jobs, "an integer or None")
    if count == 0:
        raise ValueError("n_jobs=0 has no meaning; write n_jobs=1 for one worker, n_jobs=-1 for all CPUs")
    return count if count > 0 else max(1, n_cpus + 1 + count)


def parse_retries(retries: SupportsIndex) -> int:
    """Return how often a failed task is tried again.

    Raises
    ------
    ValueError
        For a negative number.
    TypeError
        For what is no integer.
    """
    count = _integer("retries", retries, "an integer from 0 on")
    if count < 0:
        raise ValueError(f"retries={count} is negative; write retries=0 to try each task once")
    return count


def parse_count(value: SupportsIndex | None, name: str) -> int | None:
    """Return a number of things, None where none is given.

    Raises
    ------
    ValueError
        For a number below 1.
    TypeError
        For what is neither an integer nor None.
    """
    if value is None:
        return None
    count = _integer(name, value, "an integer or None")
    if count < 1:
        raise ValueError(f"{name}={count} must be at least 1, or left out")
    return count


def parse_folder(value: Any, name: str = "temp_folder") -> str | None:
    """Return the path of a folder, None where none is given.

    Raises
    ------
    TypeError
        For what is no path.
    """
    if value is None:
        return None
    try:
        return fsdecode(value)
    except TypeError:
        raise TypeError(f"{name} must be a path or None, not {value!r}") from None


def parse_batch_size(batch_size: SupportsIndex | str) -> int | None:
    """Return the number of tasks in a batch, or None for 'auto'.

    Raises
    ------
    ValueError
        For less than 1, and for a string other than 'auto'.
    TypeError
        For what is neither a string nor an integer.
    """
    if isinstance(batch_size, str):
        if batch_size == "auto":
            return None
        raise ValueError(f"batch_size must be 'auto' or an integer, not {batch_size!r}")
    size = _integer("batch_size", batch_size, "'auto' or an integer")
    if size < 1:
        raise ValueError(f"batch_size must be at least 1, got {size}; batch_size='auto' chooses for you")
    return size


def parse_verbose(verbose: Number) -> Number:
    """Return the verbosity: 0 is silent, and so is anything below; False and True are 0 and 1.

    Raises
    ------
    TypeError, ValueError
        For what is no number, and for nan.
    """
    number = _number("verbose", verbose, "a number")
    return max(0, +number)  # the sign turns True into 1


def parse_timeout(timeout: float | None, name: str = "timeout") -> float | None:
    """Return the seconds a task may take, or None for no limit.

    Raises
    ------
    ValueError
        For zero, negative numbers and nan.
    TypeError
        For what is no number.
    """
    if timeout is None:
        return None
    wanted = "a number of seconds or None"
    if isinstance(timeout, bool):
        raise _wrong_type(name, timeout, wanted)
    seconds = float(_number(name, timeout, wanted))
    if seconds <= 0:
        raise ValueError(f"{name} must be positive, got {timeout!r}; write {name}=None for no limit")
    return None if seconds == inf else seconds


def parse_memory(value: float | str | None, name: str = "max_nbytes") -> int | None:
    """Return a size in bytes, or None for no threshold.

    Parameters
    ----------
    value : float, str or None
        Bytes (``1e6`` will do), or a number with a unit: '500K', '1.5M', '2G', '1T', each 1024 times the one before.
    name : str
        The argument that the error message is about.

    Raises
    ------
    ValueError
        For a negative size and a string of another form.
    TypeError
        For what is neither a number, a string nor None.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return _memory_text(value, name)
    wanted = "a number of bytes, a string like '1M', or None"
    if isinstance(value, bool):
        raise _wrong_type(name, value, wanted)
    number = _number(name, value, wanted)
    if number == inf:
        return None
    size = int(number)
    if size < 0:
        raise ValueError(f"{name} must not be negative, got {size}; write {name}=None to switch it off")
    return size


def _memory_text(text: str, name: str) -> int:
    number, unit = text.strip()[:-1].rstrip(), text.strip()[-1:].upper()
    if unit in MEMORY_UNITS and len(number) < 20 and number.replace(".", "", 1).isdecimal():
        return int(float(number) * MEMORY_UNITS[unit])
    raise ValueError(f"{name} must look like '500K', '1M' or '2G', got {text!r}; write bytes as an integer")


def parse_choice(name: str, value: str | None) -> str | None:
    """Return `value` when it is one of `CHOICES[name]`.

    Raises
    ------
    ValueError
        For any other value, listing those that are allowed.
    """
    allowed = CHOICES[name]
    if not isinstance(value, (str, type(None))) or value not in allowed:
        raise ValueError(f"{name}={value!r} is not valid, expected one of {', '.join(map(repr, allowed))}")
    return value


def parse_pre_dispatch(value: SupportsIndex | float | str, n_jobs: int) -> int | None:
    """Return how far ahead of completed work the tasks may be consumed, or None for 'all' at once.

    Parameters
    ----------
    value : int, float or str
        A number of batches, 'all', or arithmetic on `n_jobs`: numbers, + - * / // % and parentheses.
    n_jobs : int
        The number of workers.

    Raises
    ------
    ValueError
        For zero, negative numbers and text that is no such arithmetic.
    TypeError
        For what is neither a number nor a string.

    Notes
    -----
    The text is read by the grammar of `_expression`, never evaluated by Python. A fraction is truncated,
    except that a result between 0 and 1 counts as 1: '0.4*n_jobs' must not fail on a small machine only.
    """
    if isinstance(value, str):
        if value == "all":
            return None
        amount = _expression.evaluate(value, n_jobs)
    elif isinstance(value, float):
        amount = value
    else:
        amount = _integer("pre_dispatch", value, "an integer, 'all' or an expression like '2*n_jobs'")
    if not 0 < amount <= _expression.MAX_VALUE:  # written so that nan fails too
        meaning = f", which is {amount} with n_jobs={n_jobs}" if isinstance(value, str) else ""
        raise ValueError(f"pre_dispatch must be at least 1, got {value!r}{meaning}; 'all' means no limit")
    return max(1, int(amount))
