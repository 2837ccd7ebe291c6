"""`load` reads what joblib wrote: this version of it always, older ones where their wheels can be installed.

FASTPAR_JOBLIB_VERSIONS names the versions (comma separated) that are fetched with pip into a temporary folder and
asked to write files; without a package index these tests are skipped. FASTPAR_JOBLIB_PYTHON is the interpreter that
runs them, with a NumPy of its own: joblib before 0.15 needs Python 3.6 to 3.8. This one is the default.
"""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

from fastpar.errors import CorruptFileError, PersistError, UntrustedFileError
from fastpar.persist import load

joblib = pytest.importorskip("joblib")

WRITE = """
import sys
sys.path.insert(0, {folder!r})
import numpy as np
import joblib
assert joblib.__version__ == {version!r} or not {version!r}, joblib.__version__
exec({values!r})
for name, value in VALUES.items():
    for compress in (0, 3, ("gzip", 3), ("bz2", 3), ("lzma", 3), ("xz", 3)):
        kind = compress if not compress or compress == 3 else compress[0]
        joblib.dump(value, {target!r} + "/" + name + "." + str(kind), compress=compress)
"""

VALUES_CODE = """
rows = np.arange(12.0).reshape(3, 4)
VALUES = {
    "list": [1, "two", None, {"three": 3.5}],
    "plain": rows,
    "fortran": np.asfortranarray(rows),
    "strided": rows[::2, 1:],
    "nested": {"a": [rows, (rows.astype("i2"), "behind")], "again": rows},
    "objects": np.array([1, "a", None], dtype=object),
    "structured": np.array([(1, 2.0)], dtype=[("a", "<i4"), ("b", "<f8")]),
    "bigendian": rows.astype(">f4"),
    "empty": np.zeros((0, 3)),
    "scalar": np.float64(2.5),
    "large": np.arange(2000000, dtype="<i4").reshape(1000, 2000),
}
"""

KINDS = ["0", "3", "gzip", "bz2", "lzma", "xz"]

space = {"np": np}
exec(VALUES_CODE, space)
VALUES = space["VALUES"]


def written_by(python, version, folder, target):
    target.mkdir()
    code = WRITE.format(folder=str(folder), version=version, values=VALUES_CODE, target=str(target))
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"joblib {version} does not run here: {done.stderr.splitlines()[-1]}")
    return target


def old_versions():
    return [version for version in os.environ.get("FASTPAR_JOBLIB_VERSIONS", "").split(",") if version]


@pytest.fixture(scope="module", params=["installed", *old_versions()])
def files(request, tmp_path_factory):
    """A folder of files written by one version of joblib."""
    base = tmp_path_factory.mktemp("joblib")
    if request.param == "installed":
        return written_by(sys.executable, "", base, base / "files")
    python = os.environ.get("FASTPAR_JOBLIB_PYTHON", sys.executable)
    install = [python, "-m", "pip", "install", "-q", "--no-deps", "--target", str(base / "lib")]
    done = subprocess.run([*install, f"joblib=={request.param}"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"joblib {request.param} cannot be installed here")
    return written_by(python, request.param, base / "lib", base / "files")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", VALUES)
def test_values(files, name, kind):
    found = load(files / f"{name}.{kind}")
    np.testing.assert_equal(found, VALUES[name])
    assert type(found) is type(VALUES[name])
    if isinstance(found, np.ndarray):
        assert found.dtype == VALUES[name].dtype.newbyteorder("=")
        assert found.flags.writeable
    with open(files / f"{name}.{kind}", "rb") as file:
        np.testing.assert_equal(load(file), VALUES[name])
    np.testing.assert_equal(load(files / f"{name}.{kind}", trusted=False), VALUES[name])


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize("name", ["plain", "fortran", "strided", "structured", "bigendian", "large"])
def test_mapped(files, name, mode):
    found = load(files / f"{name}.0", mmap_mode=mode)
    assert isinstance(found, np.memmap)
    assert found.dtype == VALUES[name].dtype
    np.testing.assert_array_equal(found, VALUES[name])
    again = load(files / "nested.0", mmap_mode=mode)
    assert isinstance(again["a"][0], np.memmap)
    np.testing.assert_equal(again["a"][1][1], "behind")


def test_compressed_files_are_read_with_a_warning(files):
    with pytest.warns(UserWarning, match="compressed"):
        np.testing.assert_array_equal(load(files / "plain.3", mmap_mode="r"), VALUES["plain"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["nested", "objects"])
def test_damaged_files_end_in_an_error_or_a_value(files, tmp_path, name, kind):
    content = (files / f"{name}.{kind}").read_bytes()
    path = tmp_path / "damaged"
    for position in range(0, len(content), max(1, len(content) // 150)):
        path.write_bytes(content[:position])
        _error_or_value(path, VALUES[name])
        changed = bytearray(content)
        changed[position] ^= 0x15
        path.write_bytes(changed)
        _error_or_value(path, None)


def _error_or_value(path, expected):
    """Cut within what follows the pickle, a file is still right; changed, it may hold another value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, of strange dtypes
        try:
            found = load(path, trusted=False)
        except PersistError:
            return
    if expected is not None:
        np.testing.assert_equal(found, expected)


def test_other_globals_are_refused(tmp_path):
    joblib.dump([os.system], tmp_path / "evil")
    with pytest.raises(UntrustedFileError, match="system"):
        load(tmp_path / "evil", trusted=False)


class Crafted:
    """Pickles as an object of NumPy's with a state that NumPy would believe."""

    def __init__(self, *reduction):
        self.reduction = reduction

    def __reduce__(self):
        return self.reduction


EMPTY = np.ndarray((0,), "i1").__reduce__()[:2]
CRAFTED = [
    Crafted(np.dtype, ("V8", False, True), (3, "|", None, ("a",), {"a": (np.dtype("O"), 4)}, 8, 1, 0)),
    Crafted(np.dtype, ("V8", False, True), (3, "|", None, ("a",), {"a": (np.dtype("f8"), 1000)}, 8, 1, 0)),
    Crafted(np.dtype, ("V8", False, True), (3, "|", (np.dtype("f8"), (1 << 40,)), None, None, 8, 1, 0)),
    Crafted(np.dtype, ("V8", False, True), (3, "|", None, ("a", "b"), {}, 8, 1, 0)),
    Crafted(np.dtype, ("f8", False, True), (3, "?", None, None, None, -1, -1, 0)),
    Crafted(np.dtype, ("f8", False, True), 5),
    Crafted(*EMPTY, (1, (1000,), np.dtype("f8"), False, b"few")),
    Crafted(*EMPTY, (1, (1,), np.dtype("O"), False, b"12345678")),
    Crafted(*EMPTY, (1, (-1,), np.dtype("f8"), False, b"")),
    Crafted(*EMPTY, (1, (2,), np.dtype("O"), False, [1])),
    Crafted(*EMPTY, (1, (2,), "f8", False, bytes(16))),
]


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("crafted", CRAFTED, ids=range(len(CRAFTED)))
def test_states_that_numpy_would_believe_are_damage(tmp_path, crafted, trusted):
    """Such a file would end the process, or read and write foreign memory."""
    import pickle

    (tmp_path / "p").write_bytes(pickle.dumps(crafted, 4))
    with pytest.raises(CorruptFileError):
        load(tmp_path / "p", trusted=trusted)


def test_the_states_that_numpy_writes_are_read(tmp_path):
    import pickle

    dtypes = [
        *("f8", ">i4", "S3", ">U2", "V5", "O", "?", "M8", "M8[D]", ">m8[25us]", ("i2", (2, 3)), "g"),
        {"names": ["a", "b"], "formats": ["i1", "f8"], "titles": ["first", None]},
        np.dtype([("a", "i1"), ("b", [("c", "f8"), ("d", "O")])], align=True),
        np.dtype((np.record, [("a", "i4")])),
    ]
    for dtype in map(np.dtype, dtypes):
        for protocol in (2, 4, 5):
            pickled = pickle.dumps(dtype, protocol)
            (tmp_path / "p").write_bytes(pickled)
            for trusted in (True, False):
                found = load(tmp_path / "p", trusted=trusted)
                assert (found, found.type, found.isalignedstruct) == (dtype, dtype.type, dtype.isalignedstruct)
                assert found.flags == pickle.loads(pickled).flags  # NumPy 2.5 adds one
    with_unit = np.dtype("f8", metadata={"unit": "m"})
    (tmp_path / "p").write_bytes(pickle.dumps(with_unit))
    assert load(tmp_path / "p").metadata == with_unit.metadata


def test_plain_pickles(tmp_path):
    import pickle

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "p").write_bytes(pickle.dumps([1, "two", VALUES["plain"]], protocol))
        np.testing.assert_equal(load(tmp_path / "p"), [1, "two", VALUES["plain"]])
        np.testing.assert_equal(load(tmp_path / "p", trusted=False), [1, "two", VALUES["plain"]])


def test_lz4_files(tmp_path):
    pytest.importorskip("lz4")
    joblib.dump(VALUES["nested"], tmp_path / "f", compress="lz4")
    np.testing.assert_equal(load(tmp_path / "f"), VALUES["nested"])


def test_a_file_of_the_wrong_shape_is_damaged(tmp_path):
    joblib.dump(VALUES["plain"], tmp_path / "f")
    content = (tmp_path / "f").read_bytes()
    (tmp_path / "f").write_bytes(content[:-50])
    with pytest.raises(CorruptFileError):
        load(tmp_path / "f")
