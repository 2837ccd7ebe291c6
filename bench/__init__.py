"""Benchmarks: one question a file, rivals and limits in the same run, every answer asserted.

    python -m bench run t01 t06       # some rows, in detail
    python -m bench report            # all rows: a Markdown table, and a dated JSON under bench/results
    python -m pytest bench            # all rows under pytest-benchmark

A checkout comes first on the path of these commands. If nobody has compiled it in place, the installed
fastpar is meant, so the checkout moves to the end.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

CORE = ROOT / "fastpar" / "_core"
if not [*CORE.glob("dispatch*.so"), *CORE.glob("dispatch*.pyd")]:
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT] + [str(ROOT)]
    import fastpar  # noqa: F401 -- now, for pytest puts the checkout back in front
