"""How programs end, and how they are started: the interpreter goes in silence, whatever runs."""

import pytest

pytestmark = pytest.mark.slow

PREAMBLE = """
import atexit, os, sys, threading
from functools import partial
import fastpar
from fastpar import delayed

Parallel = partial(fastpar.Parallel, backend="threading")
pipe, _ = os.pipe()
running = threading.Semaphore(0)
def hang():
    running.release()
    os.read(pipe, 1)
def works():
    assert list(Parallel(n_jobs=2)(delayed(abs)(-x) for x in range(50))) == list(range(50))
"""

ENDS = {
    "after a call": "works()",
    "a generator that is alive": (
        "g = Parallel(n_jobs=2, return_as='generator')(delayed(abs)(x) for x in range(9**9)); next(g)"
    ),
    "a generator in a cycle": (
        "box = [Parallel(n_jobs=2, return_as='generator')(delayed(abs)(x) for x in range(9**9))]; box.append(box)"
    ),
    "while tasks run": (
        "g = Parallel(n_jobs=2, return_as='generator', timeout=9)([delayed(hang)()] * 9); running.acquire()"
    ),
    "a call from atexit": "works(); atexit.register(works)",
    "the first call from atexit": "atexit.register(works)",
    "a generator closed from atexit": (
        "g = Parallel(n_jobs=2, return_as='generator')(delayed(abs)(x) for x in range(99)); atexit.register(g.close)"
    ),
    "a call in a thread that ends last": ("threading.Timer(0.05, works).start()"),
    "a daemon thread that calls for ever": (
        "threading.Thread(target=lambda: [works() for _ in iter(int, 1)], daemon=True).start(); works()"
    ),
    "a Parallel object in a global": "p = Parallel(n_jobs=2); p([delayed(abs)(1)])",
}


@pytest.mark.parametrize("end", ENDS)
def test_the_interpreter_ends_in_silence(python, end):
    assert python.out(PREAMBLE + ENDS[end] + "\nprint('end')", timeout_s=30) == "end\n"


SCRIPT = """
from fastpar import Parallel, delayed
def square(x):
    return x * x
print(Parallel(n_jobs=2)(delayed(square)(x) for x in range(5)))
"""
SAYS = "[0, 1, 4, 9, 16]\n"


def test_python_dash_c(python):
    assert python.out(SCRIPT) == SAYS


def test_a_script_on_standard_input(python):
    done = python.run("-", stdin=SCRIPT)
    assert (done.stdout, done.stderr, done.returncode) == (SAYS, "", 0)


def test_a_script_without_a_main_guard(python, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = python.run("script.py")
    assert (done.stdout, done.stderr, done.returncode) == (SAYS, "", 0)


def test_python_dash_m(python, tmp_path):
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "__main__.py").write_text(SCRIPT)
    done = python.run("-m", "program")
    assert (done.stdout, done.stderr, done.returncode) == (SAYS, "", 0)


def test_the_interactive_interpreter(python):
    done = python.run("-i", "-q", stdin=SCRIPT.replace("\nprint", "\n\nprint"))
    assert done.stdout == SAYS


@pytest.mark.parametrize("options", [["-O"], ["-OO"], ["-I"], ["-X", "dev"], ["-W", "error"], ["-X", "importtime"]])
def test_options_of_the_interpreter(python, options):
    code = f"import sys; sys.path.append({python.environment['PYTHONPATH']!r})\n{SCRIPT}"
    done = python.run(*options, "-c", code)
    assert (done.stdout, done.returncode) == (SAYS, 0), done.stderr
    assert "importtime" in options or done.stderr == ""
