"""What happened to the calls of a cached function, in this process."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Counters", "Stats"]


@dataclass(frozen=True)
class Stats:
    """Counts since a function was given its cache, in this process.

    Attributes
    ----------
    hits, misses : int
        Calls that read a stored result; that computed one.
    waits : int
        How often a call waited for another thread of this process that was computing the same result.
    damaged : int
        Entries that were there and could not be read.
    failed_writes : int
        Results that could not be stored.
    """

    hits: int = 0
    misses: int = 0
    waits: int = 0
    damaged: int = 0
    failed_writes: int = 0


class Counters:
    """The counts while they change. Threads add without a lock: a count may miss some; nothing depends on it."""

    __slots__ = ("damaged", "failed_writes", "hits", "misses", "waits")

    def __init__(self) -> None:
        self.hits = self.misses = self.waits = self.damaged = self.failed_writes = 0

    def count_wait(self) -> None:
        self.waits += 1

    def snapshot(self) -> Stats:
        return Stats(self.hits, self.misses, self.waits, self.damaged, self.failed_writes)
