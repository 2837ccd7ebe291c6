"""A disk that is really full: a file system of a few megabytes, mounted for one program alone."""

import shutil
import subprocess
import sys

import pytest

BEGIN = """
import os, sys, warnings
import numpy as np
from fastpar import Memory, Parallel, delayed, dump, load

small, large = np.arange(10_000.0), np.arange(1_000_000.0)  # 80 kB, 8 MB
"""


@pytest.fixture
def on_small_disk(python, tmp_path):
    """A function that runs a program in a folder with room for 4 MB, and returns what it printed."""
    unshare = shutil.which("unshare")
    command = [unshare, "--user", "--map-root-user", "--mount", "sh", "-c"]
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = f"mount -t tmpfs -o size=4m tmpfs {folder} && cd {folder} && "
    if unshare is None or subprocess.run([*command, mount + "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody mount a file system of its own")

    def run(code):
        program = tmp_path / "program.py"
        program.write_text(BEGIN + code)
        done = subprocess.run(
            [*command, f"{mount} exec {sys.executable} {program}"],
            env=python.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run


def test_dump_keeps_the_old_file(on_small_disk):
    assert on_small_disk("""
for compress in (0, 1):
    noise = np.random.default_rng(0).bytes(8_000_000)
    dump(small, "file", compress=compress)
    for value in (large if compress == 0 else noise, noise):
        try:
            dump(value, "file", compress=compress)
        except OSError as error:
            print(error.strerror)
    assert (load("file") == small).all()
    print(os.listdir("."))
""") == "No space left on device\nNo space left on device\n['file']\n" * 2


def test_memory_returns_what_it_cannot_store(on_small_disk):
    assert on_small_disk("""
memory = Memory(".", verbose=0)
make = memory.cache(np.arange)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert [make(n).size for n in (1_000_000, 10_000, 2_000_000)] == [1_000_000, 10_000, 2_000_000]
print([type(one.message).__name__ for one in caught], "No space left" in str(caught[0].message))
print(make.check_call_in_cache(10_000), make.check_call_in_cache(1_000_000), bool(memory.check()))
""") == "['MemoryWriteWarning'] True\nTrue False True\n"


def test_arrays_find_room_elsewhere(on_small_disk):
    assert on_small_disk("""
def mean(array):
    return float(array.mean())

parallel = Parallel(2, "processes", temp_folder=".", max_nbytes=1_000)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(parallel(delayed(mean)(large) for _ in range(3)))
    print([array.size for array in parallel(delayed(np.zeros)(1_000_000) for _ in range(3))])
    print(parallel(delayed(mean)(small) for _ in range(3)))
print(sorted({"has no room" in str(one.message) and "temp_folder" in str(one.message) for one in caught}))
""") == "[499999.5, 499999.5, 499999.5]\n[1000000, 1000000, 1000000]\n[4999.5, 4999.5, 4999.5]\n[True]\n"
