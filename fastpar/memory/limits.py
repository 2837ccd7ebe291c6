"""How large and how old a cache may become: what was not used for longest goes first.

A limit is enforced as results are stored, at a cost that does not grow with the cache: the processes share a count of
the bytes stored (`Store.grow`), and only when it exceeds the limit is the store scanned and brought down to 90 % of it.
So a scan pays for at least a tenth of the cache, and the cache exceeds its limit by one result a process at most.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fastpar.memory.store import DESCRIPTION, Store

__all__ = ["Limits", "n_bytes_of", "reduce_store"]

#: How far below its limit a scan brings the cache.
LOW_WATER = 0.9

#: An entry's last use is written down at most so often by one process.
TOUCH_S = 60.0

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def n_bytes_of(size: float | str | None) -> int | None:
    """A number of bytes from a number or a text such as "500M" (units K, M, G, T of 1,024).

    Raises
    ------
    ValueError, TypeError
        It is no size.
    """
    if size is None:
        return None
    wrong = f"A size is a number of bytes or text such as '500M' or '2G', not {size!r}."
    try:
        if not isinstance(size, str):
            return int(size)
        text = size.strip().upper().removesuffix("B").strip()
        number = text[:-1] if text[-1:] in _UNITS else text
        return int(float(number) * _UNITS.get(text[-1:], 1))
    except TypeError:
        raise TypeError(wrong) from None
    except (ValueError, OverflowError):
        raise ValueError(wrong) from None


def reduce_store(
    store: Store, bytes_limit: int | None = None, items_limit: int | None = None, age_limit: timedelta | None = None
) -> int:
    """Remove results, those unused for longest first, until the limits hold; return the bytes that remain.

    With the last result of a generation goes its description.

    Raises
    ------
    ValueError
        `age_limit` is negative.
    """
    if age_limit is not None and age_limit.total_seconds() < 0:
        raise ValueError("age_limit has to be a positive timedelta")
    found = sorted((it for it in store.entries() if it.digest != DESCRIPTION), key=lambda entry: entry.used_s)
    n_left = Counter(entry.folder for entry in found)
    n_bytes, n_items = sum(entry.n_bytes for entry in found), len(found)
    oldest_s = float("-inf") if age_limit is None else time.time() - age_limit.total_seconds()
    for entry in found:
        fits = (bytes_limit is None or n_bytes <= bytes_limit) and (items_limit is None or n_items <= items_limit)
        if fits and entry.used_s >= oldest_s:
            break
        store.remove(entry.folder, entry.digest)
        n_bytes -= entry.n_bytes
        n_items -= 1
        n_left[entry.folder] -= 1
        if not n_left[entry.folder]:
            store.remove(entry.folder, DESCRIPTION)
    return n_bytes


@dataclass(frozen=True)
class _Wanted:
    size_limit: int | None = None
    age_limit: timedelta | None = None


class Limits:
    """The limits of one `Memory`, shared by its functions.

    Any thread may call it. Two threads that exceed a limit at once may both scan; that costs time and no more.
    """

    def __init__(self, size_limit: int | None = None, age_limit: timedelta | None = None) -> None:
        self._wanted = _Wanted(size_limit, age_limit)
        self._is_active = size_limit is not None or age_limit is not None
        self._touched: dict[tuple[str, str], float] = {}
        self._own_n_bytes: int | None = None  # where the store has no count that all processes share
        self._aged_s = 0.0  # when entries beyond the age limit were last looked for
        self._is_swept = False

    def __reduce__(self) -> Any:
        return Limits, (self._wanted.size_limit, self._wanted.age_limit)

    def used(self, store: Store, folder: str, digest: str) -> None:
        """An entry was read. Written down without limits too, for `reduce_size`."""
        now_s = time.monotonic()
        key = (folder, digest)
        if now_s - self._touched.get(key, float("-inf")) > TOUCH_S:
            if len(self._touched) > 10_000:
                self._touched = {}
            self._touched[key] = now_s
            store.touch(folder, digest)

    def stored(self, store: Store, n_bytes: int) -> None:
        """An entry was written."""
        if not self._is_swept:
            self._is_swept = True
            store.sweep()
        if not self._is_active:
            return
        if self._wanted.size_limit is not None and self._total(store, n_bytes) > self._wanted.size_limit:
            self._enforce(store)
        elif self._wanted.age_limit is not None:
            now_s = time.monotonic()
            if not self._aged_s or now_s - self._aged_s > self._wanted.age_limit.total_seconds() / 10:
                self._enforce(store)

    def _total(self, store: Store, n_bytes: int) -> int:
        total = store.grow(n_bytes)
        if total is not None:
            return total
        if self._own_n_bytes is None:  # nobody has counted yet
            self._own_n_bytes = sum(entry.n_bytes for entry in store.entries())
            store.set_size(self._own_n_bytes)
        else:
            self._own_n_bytes += n_bytes
        return self._own_n_bytes

    def _enforce(self, store: Store) -> None:
        self._aged_s = time.monotonic()
        limit = self._wanted.size_limit
        low = None if limit is None else int(limit * LOW_WATER)
        self._own_n_bytes = reduce_store(store, low, None, self._wanted.age_limit)
        store.set_size(self._own_n_bytes)
