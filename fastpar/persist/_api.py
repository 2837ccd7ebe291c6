"""The two public functions, `dump` and `load`: arguments are understood here, bytes elsewhere."""

from __future__ import annotations

import io
import os
import stat
import warnings
from typing import TYPE_CHECKING, Any

from fastpar.errors import ForeignFileError, TruncatedFileError

if TYPE_CHECKING:
    from fastpar.persist.reader import Options

__all__ = ["dump", "load", "load_own"]

MMAP_MODES = (None, "r", "r+", "c", "w+")


def dump(value: Any, filename: Any, compress: Any = 0, protocol: int | None = None) -> list[str] | None:
    """Write an object to one file.

    Parameters
    ----------
    value : object
        Anything that pickle takes.
    filename : str, os.PathLike or file object
        Where to. A path is replaced whole or not at all. A file object needs ``write``; a socket's ``makefile("wb")``
        is one.
    compress : int, bool, str, (str, int) or None, default 0
        A level from 1 to 9 (with zlib; True is 3), a compressor's name ("zlib", "gzip", "bz2", "lzma", "xz", "lz4",
        "zstd", or registered), or name and level. With 0 or None, the ending of the file name decides (".gz", ".zst",
        ...), and a file without such an ending is not compressed and can be mapped.
    protocol : int, optional
        For joblib's callers. The format needs pickle protocol 5; a smaller number means 5.

    Returns
    -------
    list of str or None
        The one file name; None for a file object.

    Raises
    ------
    ValueError
        `compress` is no such thing.
    CodecUnavailableError
        The compressor's package is not installed.
    OSError, pickle.PicklingError and whatever the object's own reduction raises
        The file was not replaced.

    Notes
    -----
    Arrays are written in place, without a copy when contiguous, and in blocks when not. Compression runs on all threads
    that `fastpar.cpu_count` allows. Checksums are always written. Nothing is forced to the disk (no fsync).

    Thread and fork safety: any thread; the object must not change meanwhile. Several writers of one path: the last one
    wins, and no reader ever sees a mixture.

    joblib cannot read these files; `load` reads joblib's.

    Examples
    --------
    >>> import fastpar, tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "thing.fp")
    >>> fastpar.dump({"a": [1, 2]}, path) == [path]
    True
    >>> fastpar.load(path)
    {'a': [1, 2]}
    """
    from fastpar.persist.atomic import replacing
    from fastpar.persist.codecs import choose
    from fastpar.persist.writer import write_object

    if protocol is not None and not isinstance(protocol, int):
        raise TypeError(f"protocol is an int or None, not {protocol!r}")
    if not isinstance(filename, (str, bytes, os.PathLike)):
        if getattr(filename, "write", None) is None:
            raise ValueError(f"filename is a path or a file object open for writing, not {filename!r}")
        write_object(filename, value, choose(compress, None))
        return None
    path = os.fsdecode(filename)
    codec = choose(compress, path)
    with replacing(path) as file:
        write_object(file, value, codec)
    return [path]


def load(
    filename: Any, mmap_mode: str | None = None, ensure_native_byte_order: bool | str = "auto", *, trusted: bool = True
) -> Any:
    """Read an object that `dump`, `joblib.dump` or `pickle.dump` wrote, compressed by another program or not.

    Parameters
    ----------
    filename : str, os.PathLike or file object
        Where from. A file object is read to the object's end and not beyond, unless the file as a whole is compressed;
        it need not seek. What `gzip.open` returns is a file object too.
    mmap_mode : {None, "r", "r+", "c", "w+"}, default None
        Map every array of the object instead of reading it, as `numpy.memmap`: read-only, shared and writable,
        copy-on-write; "w+" means "r+". Compressed files cannot be mapped: they are read, with a warning.
    ensure_native_byte_order : bool or "auto", default "auto"
        Whether arrays of the other byte order are converted. "auto" does unless they are mapped.
    trusted : bool, default True
        With False, a file may hold arrays, numbers, strings, dates and containers only. The default runs whatever code
        the file names, as pickle does.

    Returns
    -------
    object

    Raises
    ------
    ForeignFileError
        The file is none of these formats.
    TruncatedFileError, CorruptFileError
        The content ends early or does not match its checksums.
    NewerFileError, CodecUnavailableError
        This installation cannot read it.
    UntrustedFileError
        With ``trusted=False``: the file names something else; the message says what.
    ValueError
        An argument is none of those listed, or byte order was to be converted in a mapped file.

    Notes
    -----
    Large arrays are read and verified by all threads that `fastpar.cpu_count` allows. Mapped arrays are not read, hence
    not verified. Only files from sources you trust should be loaded with ``trusted=True``.

    A file that was ever mapped with "r+" is marked, for its arrays may have changed: they are not verified again.

    Thread and fork safety: any thread. A file that is replaced while it is read or mapped stays as it was.
    """
    from fastpar.persist.reader import Options

    if mmap_mode not in MMAP_MODES:
        raise ValueError(f"mmap_mode is one of {MMAP_MODES}, not {mmap_mode!r}")
    if ensure_native_byte_order == "auto":
        ensure_native_byte_order = mmap_mode is None
    if ensure_native_byte_order and mmap_mode is not None:
        raise ValueError(
            "Byte order cannot be converted in a mapped file: leave ensure_native_byte_order or mmap_mode out."
        )
    options = Options("r+" if mmap_mode == "w+" else mmap_mode, bool(ensure_native_byte_order), trusted)
    if not isinstance(filename, (str, bytes, os.PathLike)):
        if getattr(filename, "read", None) is None:
            raise ValueError(f"filename is a path or a file object open for reading, not {filename!r}")
        return _load_file_object(filename, options)
    with open(filename, "r+b" if options.mmap_mode == "r+" else "rb") as file:
        return _load_file(file, options, start=0)


def _load_file_object(file: Any, options: Options) -> Any:
    """A file object of the caller's. Only a regular file can be mapped, by its descriptor."""
    if options.mmap_mode is None:
        return _load_file(file, options, start=None)
    if isinstance(file, (io.BufferedReader, io.BufferedRandom, io.FileIO)) and isinstance(file.name, str):
        return _load_file(file, options, start=file.tell())
    warnings.warn(f"{file!r} is no file on a disk, so mmap_mode={options.mmap_mode!r} is ignored.", stacklevel=3)
    return _load_file(file, options._replace(mmap_mode=None), start=None)


def load_own(file: Any, options: Options, start: int | None) -> Any:
    """`load` for files that can only be our own."""
    return _load_file(file, options, start, only_own=True)


def _load_file(file: Any, options: Options, start: int | None, *, only_own: bool = False) -> Any:
    """`start`: the position in a regular file that may be read by its descriptor; None: a stream."""
    from fastpar.persist import format as fmt
    from fastpar.persist.reader import read_object
    from fastpar.persist.sources import BlockSource, MappedSource, PlainSource, Source
    from fastpar.persist.streams import read_exactly, read_up_to

    first = read_up_to(file, len(fmt.MAGIC))
    if first != fmt.MAGIC:
        if only_own:
            raise ForeignFileError("The file was not written by fastpar.")
        return _load_other(file, first, options)
    header = fmt.unpack_header(first + read_exactly(file, fmt.HEADER_BYTES - len(first)))
    source: Source
    if header.codec:
        if options.mmap_mode is not None:
            warn_compressed(file, options)
        source = BlockSource(file, header)
    elif options.mmap_mode is not None:
        source = MappedSource(file, start or 0, options.mmap_mode, header)
    else:
        source = PlainSource(file, _n_bytes(file, start), start)
    return read_object(source, options._replace(verify=not header.flags & fmt.WRITTEN_THROUGH))


def warn_compressed(file: Any, options: Options) -> None:
    name = getattr(file, "name", "The file")
    warnings.warn(f"{name} is compressed, so mmap_mode={options.mmap_mode!r} is ignored.", stacklevel=5)


def _n_bytes(file: Any, start: int | None) -> int | None:
    """How many bytes a regular file that we opened holds from `start` on."""
    if start is None:
        return None
    status = os.fstat(file.fileno())
    return status.st_size - start if stat.S_ISREG(status.st_mode) else None


def _load_other(file: Any, first: bytes, options: Options) -> Any:
    """Not our format: joblib's, or a plain pickle."""
    from fastpar.persist.joblib_files import load_joblib

    if not first:
        raise TruncatedFileError("The file is empty.")
    if first[:4] == b"\x8eFPA":
        raise ForeignFileError("The file was changed by a transfer in text mode.")
    return load_joblib(file, first, options)
