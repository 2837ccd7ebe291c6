"""Files that are cut, changed, or could not be written: an error that says so, never a crash or a wrong answer."""

import errno
import io
import os
import pickle
import signal
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastpar.errors import CorruptFileError, PersistError
from fastpar.persist import atomic, dump, load

VALUE = {"array": np.arange(40.0), "list": [1, "two"], "fortran": np.ones((3, 4), order="F"), "none": None}


def content_of(value, compress=0):
    file = io.BytesIO()
    dump(value, file, compress=compress)
    return file.getvalue()


def same(found):
    np.testing.assert_equal(found, VALUE)
    return True


@pytest.mark.parametrize("compress", [0, "zlib", "lzma"])
def test_a_file_cut_anywhere_is_an_error(tmp_path, compress):
    content = content_of(VALUE, compress)
    path = tmp_path / "cut"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        for mode in (None, "r") if not compress else (None,):
            with pytest.raises(PersistError):
                load(path, mmap_mode=mode)
        with pytest.raises(PersistError):
            load(io.BytesIO(content[:length]))


@pytest.mark.parametrize("compress", [0, "zlib", "xz"])
def test_a_byte_changed_anywhere_is_an_error(compress):
    content = content_of(VALUE, compress)
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        if compress == 0 and content[position] == 0 and _is_padding(content, position):
            continue
        with pytest.raises((PersistError, pickle.UnpicklingError)):
            load(io.BytesIO(changed))


def _is_padding(content, position):
    """Zeros between a record's header and aligned memory mean nothing."""
    changed = bytearray(content)
    changed[position] ^= 1 << position % 8
    try:
        return same(load(io.BytesIO(changed)))
    except (PersistError, pickle.UnpicklingError):
        return False


CONTENTS = [content_of(VALUE, compress) for compress in (0, "zlib", "gzip", "bz2", "lzma", "xz")]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_mutated_files_are_errors_or_right(data):
    content = bytearray(data.draw(st.sampled_from(CONTENTS)))
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(content) - 1))
        new = data.draw(st.binary(max_size=12))
        content[at : at + data.draw(st.integers(0, 12))] = new
    for trusted in (True, False):
        try:
            found = load(io.BytesIO(content), trusted=trusted)
        except (PersistError, pickle.UnpicklingError):
            continue
        same(found)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_files_of_random_bytes_are_errors(content):
    for first in (b"", content_of(1)[:8], content_of(1)[:64], content_of(1)[:88]):
        with suppress(PersistError, pickle.UnpicklingError, ModuleNotFoundError, AttributeError):
            load(io.BytesIO(first + content), trusted=False)


def test_a_length_that_lies_takes_no_memory(tmp_path):
    """Even one whose own checksum is right: a crafted file."""
    from fastpar.persist import format as fmt

    payload = pickle.dumps([1], 5)
    head = fmt.pack_header(fmt.Header("", 0))
    for kind, n_bytes in ((fmt.ARRAY, 1 << 50), (fmt.META, 1 << 50), (fmt.PICKLE, 1 << 50), (fmt.END, 1 << 50)):
        record = fmt.pack_record(kind, n_bytes, 0)
        path = tmp_path / "lies"
        path.write_bytes(head + record + payload)
        for source in (path, io.BytesIO(path.read_bytes())):
            with pytest.raises(PersistError):
                load(source)


def test_runaway_allocation_is_bounded(tmp_path):
    """The same in a process that may not take much."""
    path = tmp_path / "bomb"
    dump(np.zeros(30_000_000), path, compress="zlib")
    content = bytearray(path.read_bytes())
    code = (
        "import resource, sys, io; resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "from fastpar.persist import load\n"
        "from fastpar.errors import PersistError\n"
        "content = open(sys.argv[1], 'rb').read()\n"
        "for position in range(64, 120):\n"
        "    changed = bytearray(content); changed[position] ^= 0x40\n"
        "    try: load(io.BytesIO(changed))\n"
        "    except PersistError: pass\n"
        "    else: sys.exit(1)\n"
    )
    assert len(content) < 2_000_000
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, cwd=_root())
    assert done.returncode == 0, done.stderr


def _root():
    import fastpar

    return os.path.dirname(os.path.dirname(fastpar.__file__))


KILLED = """
import os, signal, sys
from fastpar import dump

class Deadly:
    def __reduce__(self):
        os.kill(os.getpid(), signal.SIGKILL)

dump([b"x" * 1_000_000, Deadly()], sys.argv[1])
"""


def has_files_without_names(folder):
    try:
        os.close(os.open(folder, os.O_WRONLY | os.O_TMPFILE))
    except (AttributeError, OSError):
        return False
    return True


def test_a_process_that_is_killed_leaves_nothing(python, tmp_path):
    if not has_files_without_names(tmp_path):
        pytest.skip("this file system has no files without a name")
    path = tmp_path / "file"
    dump("old", path)
    assert python.run("-c", KILLED, str(path)).returncode == -signal.SIGKILL
    assert load(path) == "old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("nameless", [True, False])
def test_files_of_systems_with_and_without_nameless_ones(tmp_path, monkeypatch, nameless):
    path = tmp_path / "file"
    dump("old", path)
    path.chmod(0o640)
    if not nameless:
        monkeypatch.setattr(atomic, "_way_to", lambda descriptor: "/proc/is/not/there")
    dump("new", path)
    assert load(path) == "new"
    assert path.stat().st_mode & 0o777 == 0o640
    monkeypatch.chdir(tmp_path)
    dump("here", "other")
    assert load("other") == "here"
    assert sorted(os.listdir(tmp_path)) == ["file", "other"]


class Full(io.BytesIO):
    """A disk that is full after so many bytes."""

    def __init__(self, n_bytes):
        super().__init__()
        self.n_left = n_bytes

    def write(self, block):
        self.n_left -= len(block)
        if self.n_left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(block)


@pytest.mark.parametrize("compress", [0, 1])
def test_a_disk_that_fills_up_at_any_write_is_an_error(compress):
    size = len(content_of(VALUE, compress))
    for n_bytes in range(0, size, 7):
        with pytest.raises(OSError, match="No space"):
            dump(VALUE, Full(n_bytes), compress=compress)


@pytest.mark.parametrize("call", ["open", "replace"])
def test_an_error_of_the_system_leaves_the_old_file(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    dump("old", path)

    def fails(*args, **kwargs):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(atomic.os, call, fails)
    with pytest.raises(OSError, match="Input/output"):
        dump("new", path)
    monkeypatch.undo()
    assert load(path) == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_no_copy_is_made(tmp_path):
    """Peak memory of dump and load beyond the object: measured in a process of its own.

    A copy would take 305 MB. The few blocks in flight take 4, and the allocator of a free-threaded build keeps up to
    32 MB for each thread.
    """
    code = """
import resource, sys, numpy as np
from fastpar.persist import dump, load
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
values = np.ones((4000, 10_000))  # 305 MB
dump(values[:10], sys.argv[1], compress=("zlib", 1)); load(sys.argv[1]); dump(values[:10], sys.argv[1])
before = peak()
for stored in (values, values.T, values[:, ::2]):
    dump(stored, sys.argv[1])
dump(values, sys.argv[1], compress=("zlib", 1))
dumped = peak()
del values, stored
found = load(sys.argv[1])
print(dumped - before, peak() - dumped)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "f")], capture_output=True, text=True, cwd=_root(), check=False
    )
    assert done.returncode == 0, done.stderr
    dumped, loaded = map(int, done.stdout.split())
    assert dumped < 100, "MB beyond the object while dumping"
    assert loaded < 100, "MB beyond the object while loading"


def test_corrupt_is_a_value_error():
    with pytest.raises(ValueError, match="damaged"):
        load(io.BytesIO(content_of(1)[:60] + b"xxxx" + content_of(1)[64:]))
    assert issubclass(CorruptFileError, ValueError)
