"""`Memory`, `dump` and `load`: what joblib and fastpar have in common, and the differences that the README names."""

import contextlib
import io
import os
import tempfile
import warnings

import pytest
from rows import Table, check, raised

table = Table()


def double(x, unused=0):
    return 2 * x


@contextlib.contextmanager
def cached(lib, **options):
    with tempfile.TemporaryDirectory() as folder:
        yield lib.Memory(folder, **options).cache(double, ignore=["unused"])


@table.same((["unused"], None, True, True))
def attributes_of_a_memorized_function(lib):
    with cached(lib, verbose=0) as function:
        return function.ignore, function.mmap_mode, function.timestamp > 0, "double" in function.func_id


@table.same([True] * 3)
def methods_of_loggers(lib):
    with cached(lib, verbose=0) as function, tempfile.TemporaryDirectory() as folder:
        things = [lib.Memory(folder, verbose=0), function, function.call_and_shelve(1)]
        return [isinstance(thing, lib.Logger) and thing.format([1]) == "[1]" for thing in things]


@table.same([False, False, True, True])
def messages_about_hits(lib):
    found = []
    for verbose in (0, 1, 2, 11):
        with cached(lib, verbose=verbose) as function, contextlib.redirect_stdout(io.StringIO()) as said:
            function(1)
            said.truncate(0)
            function(1)
        found.append("[Memory]" in said.getvalue())
    return found


# ------------------------------------------------------------------------------------------------ differences


@table.differs(
    joblib=False,
    fastpar=True,
    why="None asks for nothing; joblib compresses with the default level",
)
def compression_none(lib):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "file")
        lib.dump([0.0] * 10_000, path, compress=None)
        return os.path.getsize(path) > 10_000


@table.differs(
    joblib=None,
    fastpar="Exception",
    why="checksums, records and arrays that are aligned; joblib's files are read",
)
def files_for_joblib(lib):
    joblib = pytest.importorskip("joblib")
    file = io.BytesIO()
    lib.dump([1, 2], file)
    file.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return raised(lambda: joblib.load(file), Exception)


@table.differs(
    joblib="joblib.compressor",
    fastpar="fastpar.persist",
    why="there is no module `compressor`; wrappers that derive from joblib's are taken as well",
)
def base_of_compressors(lib):
    name = "joblib.compressor" if lib.__name__ == "joblib" else "fastpar.persist"
    assert raised(lambda: lib.register_compressor("none", object()), ValueError) == "ValueError"
    module = pytest.importorskip(name)
    wrapper = module.CompressorWrapper(Opened, prefix=b"", extension=".opened")
    lib.register_compressor("opened", wrapper, force=True)
    return name


class Opened(io.BytesIO):
    pass


@table.tests()
def test_storage(row, library, expected):
    check(row, library, expected)
