"""Compressors by name, each from one block of bytes to another.

A block is compressed on its own, so that all threads work at once: every function here must drop the GIL for large
blocks (those of the standard library, lz4 and zstd do). What others registered in joblib's manner, as a pair of file
classes, is adapted to blocks too.

The table is written by `register_compressor` only, in one assignment; any thread may read it.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from fastpar.errors import CodecUnavailableError

__all__ = ["Codec", "CompressorWrapper", "choose", "codec_for_prefix", "codec_named", "register_compressor"]

DEFAULT_LEVEL = 3

LEVELS = range(10)


class Codec(ABC):
    """Turns one block into a smaller one and back. Any thread, several at once."""

    name: str
    #: The first bytes of a whole file that joblib compressed with it.
    prefix: bytes = b""
    #: Ending of a file name that chooses this codec.
    extension: str = ""
    block_bytes: int = 1 << 20
    default_level: int | None = DEFAULT_LEVEL

    @abstractmethod
    def compress(self, block: Any, level: int | None) -> bytes:
        """The compressed form of `block`, any contiguous buffer."""

    @abstractmethod
    def decompress(self, block: Any, n_bytes: int) -> Any:
        """The first `n_bytes` of the plain form of `block`, or fewer bytes when it holds fewer."""

    @abstractmethod
    def open(self, file: Any) -> Any:
        """A file object that reads the plain bytes of a whole compressed file, as joblib wrote it."""


class _Zlib(Codec):
    name, prefix, extension = "zlib", b"\x78", ".z"
    _window = 15

    def compress(self, block: Any, level: int | None) -> bytes:
        import zlib

        job = zlib.compressobj(DEFAULT_LEVEL if level is None else level, zlib.DEFLATED, self._window)
        return job.compress(block) + job.flush()

    def decompress(self, block: Any, n_bytes: int) -> Any:
        import zlib

        return zlib.decompressobj(self._window).decompress(block, n_bytes)

    def open(self, file: Any) -> Any:
        import zlib

        from fastpar.persist.streams import Decompressed

        return Decompressed(file, zlib.decompressobj(self._window))


class _Gzip(_Zlib):
    name, prefix, extension = "gzip", b"\x1f\x8b", ".gz"
    _window = 31

    def open(self, file: Any) -> Any:
        import gzip

        return gzip.GzipFile(fileobj=file, mode="rb")


class _Bz2(Codec):
    name, prefix, extension = "bz2", b"BZ", ".bz2"

    def compress(self, block: Any, level: int | None) -> bytes:
        import bz2

        return bz2.compress(block, level or DEFAULT_LEVEL)

    def decompress(self, block: Any, n_bytes: int) -> Any:
        import bz2

        return bz2.BZ2Decompressor().decompress(block, n_bytes)

    def open(self, file: Any) -> Any:
        import bz2

        return bz2.BZ2File(file)


class _Lzma(Codec):
    name, prefix, extension = "lzma", b"\x5d\x00", ".lzma"
    block_bytes = 1 << 22  # its window is larger
    _is_xz = False

    @property
    def _format(self) -> int:
        import lzma

        return lzma.FORMAT_XZ if self._is_xz else lzma.FORMAT_ALONE

    def compress(self, block: Any, level: int | None) -> bytes:
        import lzma

        return lzma.compress(block, format=self._format, preset=DEFAULT_LEVEL if level is None else level)

    def decompress(self, block: Any, n_bytes: int) -> Any:
        import lzma

        return lzma.LZMADecompressor(format=self._format).decompress(block, n_bytes)

    def open(self, file: Any) -> Any:
        import lzma

        return lzma.LZMAFile(file, format=self._format)


class _Xz(_Lzma):
    name, prefix, extension = "xz", b"\xfd7zXZ", ".xz"
    _is_xz = True


class _Lz4(Codec):
    name, prefix, extension = "lz4", b"\x04\x22\x4d\x18", ".lz4"
    default_level = None

    def compress(self, block: Any, level: int | None) -> bytes:
        mode: dict[str, Any] = {"mode": "high_compression", "compression": level} if level and level > 2 else {}
        packed: bytes = _package("lz4.block", "lz4").compress(block, store_size=False, **mode)
        return packed

    def decompress(self, block: Any, n_bytes: int) -> Any:
        return _package("lz4.block", "lz4").decompress(block, uncompressed_size=n_bytes)

    def open(self, file: Any) -> Any:
        return _package("lz4.frame", "lz4").LZ4FrameFile(file, mode="rb")


class _Zstd(Codec):
    name, prefix, extension = "zstd", b"\x28\xb5\x2f\xfd", ".zst"

    def compress(self, block: Any, level: int | None) -> bytes:
        packed: bytes = _zstd().compress(block, DEFAULT_LEVEL if level is None else level)
        return packed

    def decompress(self, block: Any, n_bytes: int) -> Any:
        return _zstd().ZstdDecompressor().decompress(block, n_bytes)

    def open(self, file: Any) -> Any:
        return _zstd().ZstdFile(file)


def _package(module: str, package: str) -> Any:
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError:
        raise CodecUnavailableError(
            f"This compression needs a package that is not installed: pip install {package}"
        ) from None


def _zstd() -> Any:
    try:
        return _package("compression.zstd", "backports.zstd")
    except CodecUnavailableError:
        return _package("backports.zstd", "backports.zstd")


class CompressorWrapper:
    """A compressor of a third party, in joblib's manner: a file class that compresses what is written to it.

    Parameters
    ----------
    obj : callable
        ``obj(file, mode, compresslevel=...)`` or ``obj(file, mode)`` returns a file object around another one.
    prefix : bytes, default b""
        First bytes of the files that it writes.
    extension : str, default ""
        Ending of the file names that choose it.
    """

    def __init__(self, obj: Callable[..., Any], prefix: bytes = b"", extension: str = "") -> None:
        self.fileobj_factory = obj
        self.prefix = prefix
        self.extension = extension

    def compressor_file(self, fileobj: Any, compresslevel: int | None = None) -> Any:
        """A file object that compresses what is written to it into `fileobj`."""
        if compresslevel is None:
            return self.fileobj_factory(fileobj, "wb")
        return self.fileobj_factory(fileobj, "wb", compresslevel=compresslevel)

    def decompressor_file(self, fileobj: Any) -> Any:
        """A file object that reads the plain bytes of `fileobj`."""
        return self.fileobj_factory(fileobj, "rb")


class _Wrapped(Codec):
    """A registered `CompressorWrapper`, a block at a time."""

    default_level = None

    def __init__(self, name: str, wrapper: CompressorWrapper) -> None:
        self.name = name
        self.prefix = wrapper.prefix
        self.extension = wrapper.extension
        self._wrapper = wrapper

    def compress(self, block: Any, level: int | None) -> bytes:
        packed = _Unclosed()
        file = self._wrapper.compressor_file(packed, compresslevel=level)
        file.write(bytes(block))
        file.close()
        return packed.getvalue()

    def decompress(self, block: Any, n_bytes: int) -> Any:
        return self._wrapper.decompressor_file(io.BytesIO(block)).read(n_bytes)

    def open(self, file: Any) -> Any:
        return self._wrapper.decompressor_file(file)


class _Unclosed(io.BytesIO):
    """Memory that stays readable when the file object around it is closed."""

    def close(self) -> None:
        pass


_codecs: dict[str, Codec] = {codec.name: codec for codec in (_Zlib(), _Gzip(), _Bz2(), _Lzma(), _Xz(), _Lz4(), _Zstd())}


def register_compressor(compressor_name: str, compressor: CompressorWrapper, force: bool = False) -> None:
    """Make a compressor available to `dump` and `load` under a name.

    Parameters
    ----------
    compressor_name : str
        At most 16 ASCII characters, for they are written to the file.
    compressor : fastpar.persist.CompressorWrapper
        An instance of it, or of a class derived from it, around a file class; or any object with its methods
        `compressor_file` and `decompressor_file`, so one that derives from joblib's base class will do. Files that it
        compressed can be read only where it is registered.
    force : bool, default False
        Whether to replace a compressor of the same name.

    Raises
    ------
    ValueError
        The name or the compressor is not one, or the name is taken.

    Examples
    --------
    >>> import gzip
    >>> from fastpar import register_compressor
    >>> from fastpar.persist import CompressorWrapper
    >>> def opened(file, mode, compresslevel=1):
    ...     return gzip.GzipFile(fileobj=file, mode=mode, compresslevel=compresslevel)
    >>> register_compressor("quick", CompressorWrapper(opened, extension=".quick"), force=True)
    """
    if not isinstance(compressor_name, str) or not compressor_name.isascii() or not 0 < len(compressor_name) <= 16:
        raise ValueError(f"A compressor's name is 1 to 16 ASCII characters, not {compressor_name!r}.")
    is_wrapper = isinstance(compressor, CompressorWrapper) or (
        hasattr(compressor, "compressor_file") and hasattr(compressor, "decompressor_file")
    )
    if not is_wrapper:
        raise ValueError(f"A compressor is a CompressorWrapper, not {compressor!r}.")
    if compressor_name in _codecs and not force:
        raise ValueError(f"Compressor {compressor_name!r} already registered.")
    _codecs[compressor_name] = _Wrapped(compressor_name, compressor)


def codec_named(name: str) -> Codec:
    try:
        return _codecs[name]
    except KeyError:
        raise CodecUnavailableError(
            f"The file was compressed with {name!r}, which is not registered here: see fastpar.register_compressor."
        ) from None


def codec_for_prefix(first: bytes) -> Codec | None:
    """The codec of a whole file compressed by joblib, by its first bytes."""
    return next((codec for codec in _codecs.values() if codec.prefix and first.startswith(codec.prefix)), None)


def choose(compress: Any, file_name: str | None) -> tuple[Codec, int | None] | None:
    """The codec and level that `dump`'s `compress` asks for, or None for a plain file.

    Raises
    ------
    ValueError
        `compress` names no compressor, or no level of one.
    """
    name, level = _name_and_level(compress)
    if name is None and level is None:
        by_name = [
            codec for codec in _codecs.values() if codec.extension and (file_name or "").endswith(codec.extension)
        ]
        return (by_name[0], by_name[0].default_level) if by_name else None
    if level is not None and level not in LEVELS:
        raise ValueError(f'Non valid compress level given: "{level}". Possible values are {list(LEVELS)}.')
    codec = _codecs.get(name or "zlib")
    if codec is None:
        raise ValueError(f'Non valid compression method given: "{name}". Possible values are {list(_codecs)}.')
    return codec, codec.default_level if level is None else int(level)


def _name_and_level(compress: Any) -> tuple[Any, Any]:
    if isinstance(compress, tuple):
        if len(compress) != 2:
            raise ValueError(f"Compress argument tuple should contain (compressor, level), not {compress!r}.")
        return compress
    if isinstance(compress, str):
        return compress, None
    if compress is True:
        return None, DEFAULT_LEVEL
    return None, compress or None
