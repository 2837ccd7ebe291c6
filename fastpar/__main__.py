"""`python -m fastpar COMMAND`: hands the rest of the command line to the module that knows the command."""

from __future__ import annotations

import sys
from importlib import import_module

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from collections.abc import Sequence

#: Command: the module whose `main(argv)` does it, imported only then, and one line for the help.
COMMANDS = {
    "info": ("fastpar._info", "what fastpar sees here: versions, CPUs and why that many, engines, libraries"),
    "demo": ("fastpar.demo", "the main job on a real photograph: serial against parallel, as a table and a picture"),
}


def usage() -> str:
    """Return the help text."""
    commands = "\n".join(f"  {name:6}{text}" for name, (_, text) in COMMANDS.items())
    return f"usage: python -m fastpar COMMAND [ARGUMENTS]\n\ncommands:\n{commands}\n"


def main(argv: Sequence[str]) -> int:
    """Run one command and return the exit code: the command's, or 2 for a command that does not exist."""
    if not argv:
        sys.stderr.write(usage())
        return 2
    name, *arguments = argv
    if name in ("-h", "--help", "help"):
        sys.stdout.write(usage())
        return 0
    if name not in COMMANDS:
        sys.stderr.write(f"fastpar has no command {name!r}\n\n{usage()}")
        return 2
    status: int = import_module(COMMANDS[name][0]).main(arguments)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
