"""Fresh interpreters: to time their start, and to measure memory where nobody else has been before.

    python -m bench.isolation MODULE INDEX CONTENDER SIZE     # what `sample_in_fresh_process` runs

Children find the same fastpar as their parent, wherever that is.
"""

import gc
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench import ROOT
from bench.harness import Case, Contender, LeftOutError, Timed, cases_in

TIMEOUT_S = 300
STATUS = Path("/proc/self/status")


def _environment() -> dict[str, str]:
    import fastpar

    home = Path(fastpar.__file__).resolve().parents[1]
    entries = [str(home)] if home == ROOT else []  # an installed package is found without help
    if "PYTHONPATH" in os.environ:
        entries.append(os.environ["PYTHONPATH"])
    return os.environ | {"PYTHONPATH": os.pathsep.join(entries)}


def fresh_interpreter(code: str) -> Callable[[], str]:
    """A function that runs code in a new interpreter, from start to exit, and returns what it printed."""
    environment = _environment()
    command = [sys.executable, "-c", code]

    def run() -> str:
        done = subprocess.run(  # in a neutral place: `-c` looks into the current directory first
            command, env=environment, cwd="/", capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{code!r} failed: {done.stderr}")
        return done.stdout.strip()

    return run


def require_module(name: str) -> None:
    """Leave the contender out if a module that its children import is not there."""
    if importlib.util.find_spec(name) is None:
        raise LeftOutError(f"{name} is not installed")


def peak_memory(function: Timed) -> tuple[float, object]:
    """A measure: how far the resident memory of this process rises above its present size, in MB."""
    if not STATUS.exists():
        raise LeftOutError("peak memory is measured on Linux only")
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest mark so far
    before = _status_mb("VmRSS")
    answer = function()
    return max(0.0, _status_mb("VmHWM") - before), answer


def _status_mb(name: str) -> float:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024 / 1e6


def sample_in_fresh_process(case: Case, contender: Contender, n: int) -> tuple[float, object]:
    """One sample of a contender, taken in a process of its own. The answer has to survive JSON."""
    index = cases_in(case.module).index(case)
    command = [sys.executable, "-m", "bench.isolation", case.module, str(index), contender.name, str(n)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{case.stem}, {contender.name}: {done.stderr}")
    reply = json.loads(done.stdout)
    if "left_out" in reply:
        raise LeftOutError(reply["left_out"])
    return reply["figure"], reply["answer"]


def _sample_here(module: str, index: str, name: str, n: str) -> dict[str, object]:
    case = cases_in(module)[int(index)]
    contender = next(contender for contender in case.contenders if contender.name == name)
    try:
        with contender.ready(case.quick) as timed:
            timed()
        with contender.ready(int(n)) as timed:
            figure, answer = case.measure(timed)
    except LeftOutError as error:
        return {"left_out": str(error)}
    return {"figure": figure, "answer": answer}


if __name__ == "__main__":
    print(json.dumps(_sample_here(*sys.argv[1:])))  # noqa: T201 -- the reply to the parent
