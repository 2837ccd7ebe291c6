"""Where the arrays of a call lie: memory, a folder, a memory-mapped file, shared arrays; and how tasks see them."""

import gc
import os
import warnings
from dataclasses import dataclass

import numpy as np
import pytest

from fastpar import Memory, Parallel, delayed, hash, shared_array, shared_empty
from fastpar._core.segments import Segment
from fastpar.arrays import mapped
from fastpar.engines.processes import places


def parallel(n_jobs=2, **options):
    return Parallel(n_jobs, "processes", **options)


def file_of(array):
    """What the kernel says an array's memory is a mapping of."""
    address = array.__array_interface__["data"][0]
    with open("/proc/self/maps") as maps:
        for line in maps:
            first, last = (int(number, 16) for number in line.split()[0].split("-"))
            if first <= address < last:
                return line.split(maxsplit=5)[5].strip()
    return None


# ---- folders


def test_memory_is_where_segments_are_made_by_default():
    (result,) = parallel(max_nbytes=1)([delayed(file_of)(np.zeros(100_000))])
    assert result.startswith("/memfd:fastpar")


@pytest.mark.parametrize("way", ["argument", "variable"])
def test_segments_are_made_in_the_folder_that_is_named(tmp_path, monkeypatch, way):
    folder = tmp_path / "made" / "here"
    options = {"temp_folder": str(folder)} if way == "argument" else {}
    if way == "variable":
        monkeypatch.setenv("JOBLIB_TEMP_FOLDER", str(folder))
    for _ in range(2):
        found = parallel(max_nbytes=1, **options)(delayed(file_of)(np.full(100_000, i)) for i in range(4))
        assert all(path.startswith(str(folder)) and path.endswith("(deleted)") for path in found), found
    results = parallel(**options)(delayed(np.full)(200_000, i) for i in range(4))
    assert all(file_of(result).startswith(str(folder)) for result in results)
    assert [result[7] for result in results] == [0, 1, 2, 3]
    assert os.listdir(folder) == []
    (result,) = parallel(max_nbytes=1, temp_folder="/dev/shm")([delayed(file_of)(np.zeros(100_000))])
    assert result.startswith("/dev/shm/")


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        parallel(temp_folder=str(tmp_path / "file" / "folder"))([delayed(abs)(1)] * 2)


class Short:
    """Segments of a machine that has no room in some places."""

    attach = Segment.attach
    full = (None,)

    @staticmethod
    def create(size, folder=None):
        if folder in Short.full and size > 4_096:
            raise OSError(28, "No space left on device")
        return Segment.create(size, folder)


def no_memory(full=(None,)):
    """As the initializer of a worker: shared memory is full there."""
    places.Segment = Short
    Short.full = full


def test_full_memory_falls_back_and_says_so_once(monkeypatch):
    monkeypatch.setattr(places, "Segment", Short)
    monkeypatch.setattr(places, "_told", set())
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for _ in range(2):
            seen = parallel(max_nbytes=1, initializer=no_memory)(
                delayed(file_of)(np.full(100_000, i)) for i in range(4)
            )
            results = parallel(initializer=no_memory)(delayed(np.full)(200_000, i) for i in range(4))
    assert all(path.startswith("/dev/shm/") for path in seen)
    assert all(file_of(result).startswith("/dev/shm/") and result[9] == i for i, result in enumerate(results))
    texts = {str(each.message) for each in found}
    assert texts == {
        "shared memory has no room (No space left on device): /dev/shm is used instead. Set temp_folder= or "
        "JOBLIB_TEMP_FOLDER to a folder with more room"
    }
    assert sum(each.filename.startswith(os.path.dirname(places.__file__)) for each in found) == len(found)


def test_no_room_anywhere_is_an_error_that_names_the_places(monkeypatch, tmp_path):
    monkeypatch.setattr(places, "Segment", Short)
    monkeypatch.setattr(Short, "full", (None, "/dev/shm", str(tmp_path)))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    with pytest.raises(MemoryError, match=f"shared memory, /dev/shm, {tmp_path}: set temp_folder="):
        parallel(max_nbytes=1)(delayed(np.sum)(np.zeros(100_000)) for _ in range(4))
    monkeypatch.undo()
    assert parallel(max_nbytes=1)(delayed(np.sum)(np.zeros(100_000)) for _ in range(4)) == [0] * 4


def test_a_worker_without_room_for_its_result_says_so():
    nowhere = (None, "/dev/shm", "/tmp", os.environ.get("TMPDIR", "/tmp"))
    with pytest.raises(MemoryError, match="no room for"):
        parallel(initializer=no_memory, initargs=(nowhere,))(delayed(np.zeros)(200_000) for _ in range(2))


# ---- arguments


@dataclass
class Record:
    name: str
    values: np.ndarray
    parts: dict


def kinds(value, found=None):
    """Of all arrays in a value: the type, and whether they may be written to."""
    found = [] if found is None else found
    if isinstance(value, np.ndarray):
        found.append((type(value).__name__, bool(value.flags.writeable)))
    elif isinstance(value, dict):
        for part in value.values():
            kinds(part, found)
    elif isinstance(value, (list, tuple)):
        for part in value:
            kinds(part, found)
    elif isinstance(value, Record):
        kinds(vars(value), found)
    return found


@pytest.mark.parametrize("mode", ["r", "c"])
def test_arrays_are_found_wherever_they_are(mode):
    large, small = np.zeros(50_000), np.zeros(10)
    value = Record("a", large, {"b": [large.astype("f4"), small], "c": (large[::2],)})
    (found,) = parallel(max_nbytes=1_000, mmap_mode=mode)([delayed(kinds)([value])])
    assert found == [("memmap", mode == "c")] * 2 + [("ndarray", True), ("memmap", mode == "c")]


def test_what_tasks_wrote_to_their_arguments_is_gone_in_the_next_call():
    array = np.zeros(5_000)

    def first_of(array):
        first, array[0] = array[0], 1
        return first

    for mode in ("r", "r+", "w+", "c", "r+", "r+", "r+"):
        task = delayed(np.max if mode == "r" else first_of)(array)
        assert parallel(mmap_mode=mode, max_nbytes=1)([task]) == [0]


@pytest.mark.parametrize("options", [{"max_nbytes": None}, {"mmap_mode": None}])
def test_mapping_can_be_switched_off(options):
    def write(array):
        array[:] = 1
        return type(array).__name__

    array = np.zeros(500_000)
    assert parallel(**options)([delayed(write)(array)] * 2) == ["ndarray"] * 2
    assert not array.any()


def test_write_modes_are_joblibs():
    def write(array, i):
        array[i] = i
        return float(array.sum())

    array = np.zeros(200_000)
    parallel(mmap_mode="r+", max_nbytes=1, batch_size=1)(delayed(write)(array, i) for i in range(1, 4))
    assert not array.any()  # a copy of it was written


def test_frames_and_sparse_matrices():
    pd = pytest.importorskip("pandas")
    sparse = pytest.importorskip("scipy.sparse")
    frame = pd.DataFrame({"a": np.arange(100_000.0), "b": np.arange(100_000), "c": ["x"] * 100_000})
    matrix = sparse.random(1_000, 1_000, 0.1, format="csr", random_state=0)

    def look(frame, matrix):
        return float(frame.a.sum()), type(matrix.data).__name__, float(matrix.sum()), frame, matrix

    (found,) = parallel(max_nbytes=1_000)([delayed(look)(frame, matrix)])
    assert found[0] == float(frame.a.sum())
    assert found[1] == "memmap"
    assert found[2] == pytest.approx(matrix.sum())
    pd.testing.assert_frame_equal(found[3], frame)
    assert (found[4] != matrix).nnz == 0


def whence(array):
    return file_of(array), float(array.sum())


def test_memory_mapped_files_are_mapped_again_also_through_views(tmp_path):
    path = str(tmp_path / "a")
    mapped = np.memmap(path, np.float64, "w+", shape=(1_000, 50))
    mapped[:] = np.arange(50_000.0).reshape(1_000, 50)
    mapped.flush()
    views = [mapped, mapped[10:20], mapped[::2, ::3], np.asarray(mapped), np.asarray(mapped)[3:7], mapped.T]
    assert parallel()(delayed(whence)(view) for view in views) == [(path, float(view.sum())) for view in views]
    reading = np.memmap(path, np.float64, "r", shape=(1_000, 50))
    assert parallel()([delayed(kinds)(reading), delayed(kinds)(mapped)]) == [[("memmap", False)], [("memmap", True)]]


@pytest.mark.parametrize("write", [
    lambda array: array.__setitem__(0, 1),
    lambda array: array.sort(),
    lambda array: np.add(array, 1, out=array),
    lambda array: array.__iadd__(1),
])
@pytest.mark.parametrize("on_error", ["raise", "return"])
def test_a_write_to_a_read_only_argument_names_the_options(write, on_error):
    call = parallel(on_error=on_error, max_nbytes=1_000)
    tasks = [delayed(write)(np.ones(100_000)) for _ in range(2)]
    if on_error == "return":
        error = call(tasks)[0].error
    else:
        with pytest.raises(ValueError, match="read-only") as caught:
            call(tasks)
        error = caught.value
    assert sum("mmap_mode='c'" in note and "max_nbytes=None" in note for note in error.__notes__) == 1


def test_other_errors_say_nothing_of_mapping():
    def fail(array):
        raise ValueError("read-only, but not an array")

    with pytest.raises(ValueError, match="but not") as caught:
        parallel()([delayed(fail)(np.zeros(3))] * 2)
    assert not any("mmap_mode" in note for note in caught.value.__notes__)


# ---- shared arrays


def test_a_shared_array_that_is_returned_is_the_same_memory():
    def fill(array, i):
        array[i] = i
        return array

    array = shared_empty(6)
    results = parallel()(delayed(fill)(array, i) for i in range(6))
    array[0] = 100
    for result in results:
        assert np.shares_memory(result, array)
        np.testing.assert_array_equal(result, [100, 1, 2, 3, 4, 5])


def test_views_of_shared_arrays_pass_by_reference_both_ways():
    def work(part, i):
        part[...] = i
        return {"part": part, "half": [part[::2]]}

    array = shared_empty((4, 6), np.int32)
    results = parallel()(delayed(work)(array[i], i + 1) for i in range(4))
    for i, result in enumerate(results):
        assert np.shares_memory(result["part"], array)
        array[i] += 10
        assert set(result["half"][0]) == {i + 11}
        assert result["half"][0].shape == (3,)


def test_a_shared_array_that_a_task_makes_is_shared():
    def make(i):
        return shared_array(np.full(10, i))

    def write(array):
        array[:] = -1

    arrays = parallel()(delayed(make)(i) for i in range(4))
    assert [int(array[0]) for array in arrays] == [0, 1, 2, 3]
    parallel()(delayed(write)(array) for array in arrays)
    assert all((array == -1).all() for array in arrays)


def test_a_shared_array_stays_shared_through_workers_of_workers():
    def fill(array, i):
        array[i] = i
        return array

    def outer(array, start):
        return parallel()(delayed(fill)(array, start + i) for i in range(2))

    array = shared_empty(4)
    found = parallel()(delayed(outer)(array, start) for start in (0, 2))
    assert all(np.shares_memory(array, each) for pair in found for each in pair)
    np.testing.assert_array_equal(array, [0, 1, 2, 3])


def test_a_shared_array_is_freed_with_its_last_reference():
    def identity(array):
        return array

    array = shared_empty(1_000)
    result = parallel()([delayed(identity)(array)] * 3)[2]
    del array
    gc.collect()
    result[:] = 3  # the memory is still there
    assert result.sum() == 3_000
    assert len(mapped) == 1
    del result
    gc.collect()
    assert len(mapped) == 0
    assert parallel()([delayed(count_mapped)()] * 3) == [0] * 3


def count_mapped():
    return len(mapped)


def digests(*arrays):
    return [hash(array) for array in arrays]


@pytest.mark.parametrize("mode", ["r", "c", "r+", "w+"])
@pytest.mark.parametrize("with_folder", [False, True])
def test_arrays_that_we_map_have_the_digests_of_arrays(tmp_path, mode, with_folder):
    def derived(array):
        return digests(array, array[10:], array.T, array.copy(), array.astype("f4"), {"a": [array]})

    array = np.arange(1_000.0).reshape(50, 20)
    options = {"temp_folder": str(tmp_path)} if with_folder else {}
    expected = derived(array)
    assert parallel(mmap_mode=mode, max_nbytes=1, **options)([delayed(derived)(array)] * 2) == [expected] * 2


@pytest.mark.parametrize("max_nbytes", [1, "1M"])
def test_arrays_that_the_caller_mapped_have_the_digests_of_memmaps(tmp_path, max_nbytes):
    np.arange(1_000.0).tofile(tmp_path / "a")
    by_name, private = (np.memmap(tmp_path / "a", "f8", mode, shape=(50, 20)) for mode in ("r", "c"))
    ordinary = [by_name.copy(), np.asarray(by_name), private.view(np.ndarray)]
    arrays = [by_name, private, by_name[::2, ::3], private[::2], *ordinary]
    expected = digests(*arrays)
    assert len(set(expected)) == 4  # the first two are equal, and the last three
    assert parallel(max_nbytes=max_nbytes)(delayed(hash)(array) for array in arrays) == expected


def test_a_large_argument_is_the_same_call_in_a_worker(tmp_path):
    @Memory(tmp_path, verbose=0).cache
    def total(array):
        (tmp_path / "calls").open("a").write(type(array).__name__ + "\n")
        return array.sum()

    array = np.ones(200_000)  # 1.6 MB: above max_nbytes
    assert parallel()([delayed(total)(array)] * 2) == [total(array)] * 2
    assert len((tmp_path / "calls").read_text().splitlines()) == 1
