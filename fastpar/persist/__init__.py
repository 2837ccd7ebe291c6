"""`dump` and `load`: one object, one file, arrays that can be mapped. The format is docs/file-format.md.

    format       the bytes of headers and records; nothing else knows an offset
    codecs       compressors by name, each from block to block
    writer       pickler -> records -> (plain | blocks) -> file          atomic   write beside, then rename
    reader       file -> (plain | blocks) -> records -> unpickler        mapped   the same over a mapped file
    rebuild      what our pickles call: arrays, dtypes, scalars          trust    which globals a pickle may name
    joblib_files what joblib wrote

Nothing here keeps state between calls but the table of codecs.
"""

from __future__ import annotations

from fastpar.persist._api import dump, load
from fastpar.persist.codecs import CompressorWrapper, register_compressor

__all__ = ["CompressorWrapper", "dump", "load", "register_compressor"]
