"""How another interpreter like this one is started."""

from __future__ import annotations

import sys


def command(code: str) -> list[str]:
    """The command line that runs `code` with this interpreter, its flags, and its module path."""
    path = [str(entry) for entry in sys.path]
    return [sys.executable, *_flags(), "-c", f"import sys; sys.path[:] = {path!r}; {code}"]


def _flags() -> list[str]:
    """Those of this interpreter that change what code means."""
    letters = {
        "E": sys.flags.ignore_environment,
        "s": sys.flags.no_user_site,
        "B": sys.flags.dont_write_bytecode,
        "I": sys.flags.isolated,
    }
    flags = ["-O"] * sys.flags.optimize + [f"-W{option}" for option in sys.warnoptions]
    flags += [f"-X{name}" if value is True else f"-X{name}={value}" for name, value in sys._xoptions.items()]
    return flags + [f"-{letter}" for letter, is_set in letters.items() if is_set]
