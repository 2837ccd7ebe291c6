"""`dump` and `load`: every kind of value, file, compression and mapping."""

import bz2
import collections
import datetime
import fractions
import gzip
import io
import lzma
import os
import pickle
import socket
import threading
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest

from fastpar.errors import (
    CodecUnavailableError,
    CorruptFileError,
    ForeignFileError,
    NewerFileError,
    PersistError,
    TruncatedFileError,
    UntrustedFileError,
)
from fastpar.persist import CompressorWrapper, codecs, dump, load, register_compressor
from fastpar.persist import format as fmt


def available(name):
    try:
        codecs.codec_named(name).compress(b"x", None)
    except CodecUnavailableError:
        return False
    return True


OPTIONAL = [
    pytest.param(name, marks=pytest.mark.skipif(not available(name), reason=f"{name} is not installed"))
    for name in ("lz4", "zstd")
]
COMPRESSIONS = [0, 3, True, "zlib", ("gzip", 1), "bz2", "lzma", "xz", *OPTIONAL]


class Tagged(np.ndarray):
    """A subclass with an attribute."""


def tagged():
    values = np.arange(6.0).reshape(2, 3).view(Tagged)
    values.unit = "m"
    return values


ARRAYS = {
    "plain": np.arange(1000.0).reshape(10, 100),
    "fortran": np.asfortranarray(np.arange(1000.0).reshape(10, 100)),
    "strided": np.arange(1000)[::3],
    "negative": np.arange(10)[::-1],
    "transposed": np.arange(24).reshape(2, 3, 4).transpose(1, 2, 0),
    "zero-d": np.array(3.5),
    "empty": np.zeros((3, 0), "f4"),
    "bool": np.array([True, False]),
    "text": np.array(["a", "bcd"]),
    "bytes": np.array([b"a", b"bcd"]),
    "complex": np.array([1 + 2j], "c8"),
    "datetime": np.array(["2020-01-01T00:00:01", "NaT"], "M8[s]"),
    "structured": np.array([(1, 2.0, (3, 4))], [("a", "i2"), ("b", "f8"), ("c", "u1", (2,))]),
    "aligned": np.zeros(3, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    "titles": np.zeros(2, np.dtype({"names": ["a"], "formats": ["i4"], "titles": ["long name"]})),
    "metadata": np.zeros(2, np.dtype("i4", metadata={"unit": "m"})),
    "big endian": np.arange(5, dtype=">i4"),
    "objects": np.array([[1, "a"], [None, [2]]], dtype=object),
    "half": np.arange(5, dtype="f2"),
}


def same_array(found, expected):
    assert type(found) is type(expected)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype.newbyteorder("=") or found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "file")


@pytest.mark.parametrize("compress", COMPRESSIONS, ids=str)
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back(path, name, compress):
    assert dump({"deep": [ARRAYS[name]]}, path, compress=compress) == [path]
    found = load(path)["deep"][0]
    same_array(found, ARRAYS[name])
    assert found.flags.writeable


def test_mapped_memory_is_aligned(path):
    dump([np.arange(n, dtype="u1") for n in (3, 70, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, 5)], path)
    assert [array.offset % 4096 == 0 for array in load(path, mmap_mode="r")] == [False] * 3 + [True] * 2 + [False]
    assert {array.ctypes.data % 64 for array in load(path, mmap_mode="r")} == {0}


@pytest.mark.parametrize("mode", ["r", "r+", "c", "w+"])
@pytest.mark.parametrize("name", [name for name in ARRAYS if name not in ("empty", "objects")])
def test_arrays_are_mapped(path, name, mode):
    dump(["in front", ARRAYS[name], {"behind": ARRAYS["plain"]}], path)
    _, found, behind = load(path, mmap_mode=mode)
    for mapped, expected in ((found, ARRAYS[name]), (behind["behind"], ARRAYS["plain"])):
        assert isinstance(mapped, np.memmap)
        assert mapped.filename == path
        assert mapped.mode == ("r+" if mode == "w+" else mode)
        assert mapped.ctypes.data % 64 == 0
        assert mapped.flags.writeable == (mode != "r")
        assert mapped.dtype == expected.dtype
        np.testing.assert_array_equal(np.asarray(mapped), expected)


def test_what_is_written_to_a_mapping_reaches_the_file(path):
    dump([np.zeros(4), np.ones(4)], path)
    first, second = load(path, mmap_mode="r+")
    first[:], second[0] = 7, 8
    first.flush()
    np.testing.assert_array_equal(load(path)[0], [7.0] * 4)
    copied, _ = load(path, mmap_mode="c")
    copied[0] = 9
    assert load(path, mmap_mode="r")[0][0] == 7


def test_a_file_changed_through_a_mapping_is_not_damaged(path):
    dump(np.zeros(4), path)
    mapped = load(path, mmap_mode="r+")
    mapped[0] = 1
    assert load(path)[0] == 1
    with open(path, "r+b") as file:
        file.seek(mapped.offset)
        file.write(b"12345678")
    dump(np.zeros(4), path)
    assert load(path, mmap_mode="r")[0] == 0
    with open(path, "r+b") as file:
        file.seek(mapped.offset)
        file.write(b"12345678")
    with pytest.raises(CorruptFileError, match="memory"):
        load(path)


def test_mapped_offsets_are_those_of_the_file(path):
    dump([ARRAYS["plain"]], path)
    (mapped,) = load(path, mmap_mode="r")
    np.testing.assert_array_equal(np.fromfile(path, "f8", 1000, offset=mapped.offset).reshape(10, 100), ARRAYS["plain"])


@pytest.mark.parametrize("compress", [0, 3, *OPTIONAL])
def test_other_values_come_back(path, compress):
    values = [
        None,
        1 << 200,
        "häß\ud800",
        b"x" * 300_000,
        bytearray(5_000_000),
        [0.5] * 300_000,
        {"set": {1, 2}, "nested": [[()]]},
        collections.OrderedDict(b=1, a=2),
        np.float32(1.5),
        np.datetime64("2020-01-01", "D"),
        np.dtype([("a", "i4")]),
        np.dtype("<f4"),
        datetime.datetime(2020, 1, 1),
    ]
    dump(values, path, compress=compress)
    found = load(path)
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


def test_identity_within_an_object_is_kept(path):
    shared = np.arange(10)
    looped = [shared, {"again": shared}]
    looped.append(looped)
    dump(looped, path)
    found = load(path)
    assert found[0] is found[1]["again"]
    assert found[2] is found


def test_an_object_array_may_hold_itself(path):
    values = np.empty(2, dtype=object)
    values[0], values[1] = values, 5
    dump(values, path)
    found = load(path)
    assert found[0] is found
    assert found[1] == 5


def test_subclasses_keep_class_and_attributes(path):
    dump(tagged(), path)
    found = load(path)
    assert type(found) is Tagged
    assert found.unit == "m"
    np.testing.assert_array_equal(found, tagged())
    masked = np.ma.masked_array([1.0, 2.0], [True, False], fill_value=7.0)
    dump([masked, np.rec.array([(1, 2.0)], dtype=[("x", "i4"), ("y", "f8")])], path)
    found, records = load(path)
    np.testing.assert_array_equal(found.mask, masked.mask)
    assert found.fill_value == 7.0
    assert records.y[0] == 2.0
    dump(masked, path)
    assert load(path, mmap_mode="r")[1] == 2.0


@pytest.mark.parametrize("options", [{}, {"mmap_mode": "r"}, {"trusted": False}], ids=str)
def test_masked_arrays_keep_the_class_of_their_data(path, options):
    masked = np.ma.masked_array(np.array([[1, 2], [3, 4]]).view(np.matrix), [[True, False], [False, False]])
    dump(masked, path)
    found = load(path, **options)
    assert type(found) is np.ma.MaskedArray
    assert type(found.data) is np.matrix
    np.testing.assert_array_equal(found.mask, masked.mask)
    np.testing.assert_array_equal(found.data, masked.data)


def objects_of(*shape):
    values = np.empty(shape, dtype=object)
    for position in range(values.size):
        values.reshape(-1)[position] = [position]
    return values


@pytest.mark.parametrize("values", [objects_of(2, 3), objects_of(2, 3, 4), objects_of(1, 3), objects_of(0, 2)])
def test_object_arrays_keep_their_memory_order(path, values):
    for stored in (values, np.asfortranarray(values), values.T, values[..., ::-1], values.T.view(Tagged)):
        dump(stored, path)
        found = load(path)
        same_array(found, stored)
        if stored.flags.forc:
            assert found.flags.f_contiguous == stored.flags.f_contiguous
            assert found.flags.c_contiguous == stored.flags.c_contiguous


def test_object_arrays_of_files_without_a_memory_order_are_read(path, monkeypatch):
    from fastpar.persist import rebuild

    monkeypatch.setattr(rebuild, "is_fortran", lambda _: False)
    dump(objects_of(2, 3), path)
    monkeypatch.undo()
    same_array(load(path), objects_of(2, 3))


def test_a_memmap_is_stored_as_an_array(path, tmp_path):
    mapped = np.memmap(tmp_path / "raw", "f8", "w+", shape=5)
    mapped[:] = 3
    dump(mapped, path)
    assert type(load(path)) is np.ndarray


def test_dataframes_come_back(path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": np.arange(10_000.0), "b": ["x", "y"] * 5000})
    dump(frame, path)
    pandas.testing.assert_frame_equal(load(path), frame)
    pandas.testing.assert_frame_equal(load(path, mmap_mode="r"), frame)


def test_byte_order(path):
    dump(ARRAYS["big endian"], path)
    assert load(path).dtype == np.dtype("i4")
    assert load(path, ensure_native_byte_order=False).dtype == np.dtype(">i4")
    assert load(path, mmap_mode="r").dtype == np.dtype(">i4")
    with pytest.raises(ValueError, match="mmap_mode"):
        load(path, mmap_mode="r", ensure_native_byte_order=True)


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [0, "zlib"])
def test_several_objects_in_one_file_object(compress):
    file = io.BytesIO()
    for value in (ARRAYS["plain"], "second", [ARRAYS["strided"]]):
        assert dump(value, file, compress=compress) is None
    file.seek(0)
    same_array(load(file), ARRAYS["plain"])
    assert load(file) == "second"
    same_array(load(file)[0], ARRAYS["strided"])
    with pytest.raises(TruncatedFileError):
        load(file)


@pytest.mark.parametrize("compress", [0, "zlib"])
def test_sockets(compress):
    ours, theirs = socket.socketpair()
    values = np.arange(300_000.0)
    with ours, theirs, ours.makefile("wb") as sending, theirs.makefile("rb") as receiving:

        def send():
            for value in ([values, "x"], "more"):
                dump(value, sending, compress=compress)
            sending.flush()

        thread = threading.Thread(target=send)
        thread.start()
        same_array(load(receiving)[0], values)
        assert load(receiving) == "more"
        thread.join()


class Trickle(io.RawIOBase):
    """Reads and writes a few bytes at a time, as unbuffered files may."""

    def __init__(self, content=b""):
        self.content = bytearray(content)

    def readable(self):
        return True

    def readinto(self, into):
        taken = self.content[: min(7, len(into))]
        into[: len(taken)] = taken
        del self.content[: len(taken)]
        return len(taken)

    def write(self, block):
        taken = bytes(block[:1000])
        self.content += taken
        return len(taken)


def test_files_that_take_and_give_little():
    file = Trickle()
    dump([ARRAYS["plain"], "x" * 100], file)
    same_array(load(Trickle(file.content))[0], ARRAYS["plain"])


def test_open_files_are_mapped_by_their_position(path):
    with open(path, "wb") as file:
        file.write(b"something else, 25 bytes.")
        dump([ARRAYS["plain"]], file)
    with open(path, "rb") as file:
        file.seek(25)
        (mapped,) = load(file, mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, ARRAYS["plain"])


def test_mapping_one_object_leads_to_the_next(path):
    with open(path, "wb") as file:
        for value in (ARRAYS["plain"], "between", ARRAYS["strided"]):
            dump(value, file)
    for mode in ("r", "c", "r+"):
        with open(path, "r+b" if mode == "r+" else "rb") as file:
            np.testing.assert_array_equal(load(file, mmap_mode=mode), ARRAYS["plain"])
            assert load(file, mmap_mode=mode) == "between"
            np.testing.assert_array_equal(load(file, mmap_mode=mode), ARRAYS["strided"])


def test_mapped_arrays_tell_the_whole_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dump(ARRAYS["plain"], "file")
    assert load("file", mmap_mode="r").filename == str(tmp_path / "file")
    with open("file", "rb") as file:
        assert load(file, mmap_mode="r").filename == str(tmp_path / "file")


def test_streams_are_not_mapped():
    file = io.BytesIO()
    dump(ARRAYS["plain"], file)
    file.seek(0)
    with pytest.warns(UserWarning, match="ignored"):
        same_array(load(file, mmap_mode="r"), ARRAYS["plain"])


def test_compressed_files_are_not_mapped(path):
    dump(ARRAYS["plain"], path, compress=1)
    with pytest.warns(UserWarning, match="compressed"):
        same_array(load(path, mmap_mode="r"), ARRAYS["plain"])


class OneByOne:
    """A stream that has nothing but `read`, and gives little."""

    def __init__(self, block):
        self._file = io.BytesIO(block)

    def read(self, n_bytes):
        return self._file.read(min(n_bytes, 5_000))


class Raising:
    def __reduce__(self):
        return raise_lookup_error, ()


def raise_lookup_error():
    raise LookupError("my own")


PROGRAMS = {"gzip": gzip.compress, "xz": lzma.compress, "bzip2": bz2.compress, "zlib": zlib.compress}


@pytest.mark.parametrize("inner", [0, "zlib"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_files_that_another_program_compressed(tmp_path, program, inner):
    arrays = [np.arange(200_000.0), np.arange(5), np.array(["text"] * 100)]
    dump(arrays, tmp_path / "plain", compress=inner)
    path = tmp_path / "packed"
    packed = PROGRAMS[program]((tmp_path / "plain").read_bytes())
    path.write_bytes(packed)
    with pytest.warns(UserWarning, match="is compressed, so mmap_mode='r' is ignored"):
        mapped = load(path, "r")
    for found in (mapped, load(path), load(path, trusted=False), load(io.BytesIO(packed)), load(OneByOne(packed))):
        for array, expected in zip(found, arrays, strict=True):
            same_array(array, expected)


@pytest.mark.parametrize("program", PROGRAMS)
def test_damage_of_files_that_another_program_compressed(path, program):
    dump(np.arange(20_000.0), path)
    with open(path, "rb") as file:
        packed = PROGRAMS[program](file.read())
    for n_bytes in (1, 5, 20, 1_000, len(packed) // 2):
        with pytest.raises((TruncatedFileError, CorruptFileError, ForeignFileError)):
            load(io.BytesIO(packed[:n_bytes]))
    for place in range(100, len(packed) // 2, 501):
        broken = bytearray(packed)
        broken[place] ^= 0x55
        with pytest.raises((TruncatedFileError, CorruptFileError)):
            load(io.BytesIO(broken))


def test_errors_of_objects_in_compressed_files_are_their_own(path):
    dump(Raising(), path)
    with open(path, "rb") as file, pytest.raises(LookupError, match="my own"):
        load(io.BytesIO(gzip.compress(file.read())))


def test_files_within_gzip_are_read_as_streams(path):
    with gzip.open(path, "wb") as file:
        dump(np.zeros(4_000_000), file)  # 32 MB that take 32 KB
    tracemalloc.start()
    try:
        assert len(load(path)) == 4_000_000
        assert tracemalloc.get_traced_memory()[1] < 56e6  # the array, and less than another
    finally:
        tracemalloc.stop()


def test_open_gzip_files(path):
    values = [np.arange(10), np.arange(200_000.0), np.array("text")]
    with gzip.open(path, "wb") as file:
        for value in values:
            dump(value, file)
    with gzip.open(path) as file:
        for value in values:
            same_array(load(file), value)


def test_paths_of_every_kind(tmp_path):
    for name in (tmp_path / "a", str(tmp_path / "b"), os.fsencode(tmp_path / "c")):
        dump(1, name)
        assert load(name) == 1


@pytest.mark.parametrize(
    ("ending", "codec"), [(".gz", "gzip"), (".z", "zlib"), (".bz2", "bz2"), (".xz", "xz"), ("", "")]
)
def test_the_ending_of_the_name_chooses(tmp_path, ending, codec):
    path = tmp_path / f"file{ending}"
    dump([0.0] * 1000, path)
    assert fmt.unpack_header(path.read_bytes()[: fmt.HEADER_BYTES]).codec == codec
    assert load(path) == [0.0] * 1000


@pytest.mark.parametrize(
    "name", ["x" * 255, "数" * 85, "a" + "é" * 127, "\udcff" * 255], ids=["one byte", "three", "shifted", "none"]
)
def test_names_of_any_length_that_the_system_takes(tmp_path, name):
    path = str(tmp_path / name)
    try:
        open(path, "wb").close()
    except OSError:
        pytest.skip("the file system does not take this name")
    dump(1, path)
    assert load(path) == 1
    assert os.listdir(tmp_path) == [name]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    dump("old", path)
    with pytest.raises((TypeError, pickle.PicklingError)):
        dump([np.zeros(100_000), threading.Lock()], path)
    assert load(path) == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_links_and_modes_are_kept(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    dump(1, real)
    real.chmod(0o600)
    link.symlink_to(real)
    dump(2, link)
    assert link.is_symlink()
    assert load(real) == 2
    assert real.stat().st_mode & 0o777 == 0o600


def test_a_mapped_file_may_be_replaced(path):
    dump(np.zeros(10), path)
    mapped = load(path, mmap_mode="r")
    dump(np.ones(20), path)
    np.testing.assert_array_equal(mapped, np.zeros(10))


def test_devices_are_written_in_place():
    dump(np.zeros(10), "/dev/null")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"compress": 10}, "compress level"),
        ({"compress": "nonsense"}, "compression method"),
        ({"compress": ("zlib", 3, 4)}, "tuple"),
        ({"compress": ("zlib", 12)}, "compress level"),
        ({"compress": 2.5}, "compress level"),
        ({"compress": [3]}, "compress level"),
        ({"filename": 5}, "filename"),
    ],
)
def test_bad_arguments_of_dump(path, arguments, message):
    with pytest.raises(ValueError, match=message):
        dump(1, **{"filename": path, **arguments})


def test_no_compression_can_be_written_as_none(tmp_path):
    for name, codec in (("file", ""), ("file.gz", "gzip")):
        dump([0.0] * 1000, tmp_path / name, compress=None)
        assert fmt.unpack_header((tmp_path / name).read_bytes()[: fmt.HEADER_BYTES]).codec == codec


def test_bad_arguments_of_load(path):
    with pytest.raises(ValueError, match="mmap_mode"):
        load(path, mmap_mode="x")
    with pytest.raises(ValueError, match="filename"):
        load(5)
    with pytest.raises(FileNotFoundError):
        load(path)


# -- compressors -----------------------------------------------------------------------------------------------------


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(codecs, "_codecs", dict(codecs._codecs))


def test_compressors_can_be_registered(path, registry):
    import gzip

    class Factory:
        def __new__(cls, file, mode, compresslevel=5):
            return gzip.GzipFile(fileobj=file, mode=mode, compresslevel=compresslevel)

    wrapper = CompressorWrapper(Factory, prefix=b"none", extension=".mine")
    register_compressor("mine", wrapper)
    for compress in ("mine", ("mine", 9)):
        dump([ARRAYS["plain"]] * 3, path, compress=compress)
        same_array(load(path)[2], ARRAYS["plain"])
    dump(1, path + ".mine")
    assert fmt.unpack_header(open_head(path + ".mine")).codec == "mine"
    with pytest.raises(ValueError, match="already registered"):
        register_compressor("mine", wrapper)
    register_compressor("mine", wrapper, force=True)
    with pytest.raises(ValueError, match="CompressorWrapper"):
        register_compressor("other", object())
    with pytest.raises(ValueError, match="name"):
        register_compressor(5, wrapper)
    del codecs._codecs["mine"]
    with pytest.raises(CodecUnavailableError, match="mine"):
        load(path)


def open_head(path):
    with open(path, "rb") as file:
        return file.read(fmt.HEADER_BYTES)


def test_one_thread_compresses_as_well(path, monkeypatch):
    monkeypatch.setattr("fastpar.persist.lanes.budget", lambda: 1)
    monkeypatch.setattr("fastpar.persist.sources.budget", lambda: 1)
    values = np.arange(3_000_000)
    for compress in (0, 1):
        dump(values, path, compress=compress)
        same_array(load(path), values)


def test_large_arrays_in_every_order(path):
    values = np.arange(6_000_000).reshape(3000, 2000)
    for stored in (values, values.T, values[::2], values[:, ::3], values[5:2500, 5:1999]):
        dump([stored, "behind"], path)
        found, behind = load(path)
        same_array(found, stored)
        assert behind == "behind"
        np.testing.assert_array_equal(load(path, mmap_mode="r")[0], stored)


# -- bad files -------------------------------------------------------------------------------------------------------


def test_foreign_files(path):
    for content in (b"\x89PNG....", b"PK\x03\x04", b"hello world, this is text", b"\x00" * 100):
        with open(path, "wb") as file:
            file.write(content)
        with pytest.raises(ForeignFileError):
            load(path)
    open(path, "wb").close()
    with pytest.raises(TruncatedFileError):
        load(path)


def test_text_mode_transfers_are_recognised(path):
    dump(1, path)
    with open(path, "rb") as file:
        content = file.read().replace(b"\r\n", b"\n")
    with pytest.raises(ForeignFileError, match="text mode"):
        load(io.BytesIO(content))


def test_newer_files(path, monkeypatch):
    monkeypatch.setattr(fmt, "VERSION", 2)
    dump(1, path)
    monkeypatch.undo()
    with pytest.raises(NewerFileError, match="version 2"):
        load(path)


# -- trust -----------------------------------------------------------------------------------------------------------


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize("value", [Evil(), os.system, [{"a": (Evil(),)}], np.array([Evil()], dtype=object), Trickle])
def test_untrusted_files_with_other_globals_are_refused(path, value):
    dump(value, path)
    with pytest.raises(UntrustedFileError, match=r"system|Trickle"):
        load(path, trusted=False)


@pytest.mark.parametrize("mode", [None, "r"])
def test_untrusted_files_of_arrays_are_read(path, mode):
    values = [*ARRAYS.values(), np.float64(2.0), {"a": {1, 2}}, 1j, datetime.date(2020, 1, 1), collections.deque([1])]
    values += [np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]), np.ones((1, 2)).view(np.matrix)]
    del values[list(ARRAYS).index("metadata")]
    dump(values, path)
    found = load(path, mmap_mode=mode, trusted=False)
    for one, other in zip(found, values, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
        assert mode or type(one) is type(other)


def test_an_untrusted_file_may_not_set_the_state_of_an_array(path):
    """NumPy believes it and crashes."""
    for name in (b"dtype", b"ndarray", b"matrix", b"recarray"):
        for opcodes in (b"}b.", b"(K\x01tR.", b")\x81."):  # set its state; call it; make an instance
            content = b"\x80\x05cnumpy\n" + name + b"\n" + opcodes
            with open(path, "wb") as file:
                file.write(fmt.pack_header(fmt.Header("", 0)))
                for kind, payload in ((fmt.PICKLE, content), (fmt.END, b"")):
                    file.write(fmt.pack_record(kind, len(payload), fmt.checksum(payload)) + payload)
            with pytest.raises(PersistError):
                load(path, trusted=False)


def test_untrusted_fractions_take_no_time(path):
    values = [fractions.Fraction(-3, 7), fractions.Fraction(5)]
    dump(values, path)
    assert load(path, trusted=False) == values

    class Endless:
        def __reduce__(self):
            return fractions.Fraction, ("1e999999999",)

    dump(Endless(), path)
    with pytest.raises(UntrustedFileError, match="Fraction"):
        load(path, trusted=False)


def test_an_untrusted_pickle_cannot_change_our_functions(path):
    from fastpar.persist import rebuild

    class Changes:
        def __reduce__(self):
            return rebuild.array, ((),), {"__defaults__": (1, 2)}

    with open(path, "wb") as file:
        content = pickle.dumps(BuildOn(rebuild.array, (None, {"__defaults__": (1,)})), 5)
        file.write(fmt.pack_header(fmt.Header("", 0)))
        for kind, payload in ((fmt.PICKLE, content), (fmt.END, b"")):
            file.write(fmt.pack_record(kind, len(payload), fmt.checksum(payload)) + payload)
    before = rebuild.array.__defaults__
    with pytest.raises((UntrustedFileError, pickle.UnpicklingError)):
        load(path, trusted=False)
    assert rebuild.array.__defaults__ == before


class BuildOn:
    """Pickles as: take this function, and set this state on it."""

    def __init__(self, function, state):
        self.made = (function, state)

    def __reduce__(self):
        function, state = self.made
        return _give, (function,), state


def _give(thing):
    return thing


def test_warnings_are_errors_elsewhere(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dump(ARRAYS["plain"], path)
        load(path, mmap_mode="r")
