"""Does what is stored match its checksums? For tests and for post-mortems."""

from __future__ import annotations

from dataclasses import dataclass

from fastpar.memory import entries
from fastpar.memory.store import Store

__all__ = ["CheckReport", "Problem", "check_store"]


@dataclass(frozen=True)
class Problem:
    """One entry that cannot be used."""

    func_id: str
    args_id: str
    what: str


@dataclass(frozen=True)
class CheckReport:
    """What `Memory.check` found. True when there is no problem.

    Attributes
    ----------
    n_entries, n_bytes : int
        Entries looked at, and their size.
    problems : tuple of Problem
        Entries that are damaged: a call finds them missing and computes them again.
    n_leftovers : int
        Parts of writes that died, removed by ``check(fix=True)`` and by the first write of any process; 0 without
        `fix`.
    """

    n_entries: int
    n_bytes: int
    problems: tuple[Problem, ...]
    n_leftovers: int

    def __bool__(self) -> bool:
        return not self.problems


def check_store(store: Store, *, fix: bool) -> CheckReport:
    """Read every entry of a store and verify it; with `fix`, remove what is damaged or left over."""
    problems, n_entries, n_bytes = [], 0, 0
    for entry in store.entries():
        n_entries += 1
        n_bytes += entry.n_bytes
        what = entries.damage(store, entry.folder, entry.digest)
        if what is not None:
            problems.append(Problem(entry.folder, entry.digest, what))
            if fix:
                store.remove(entry.folder, entry.digest)
    n_leftovers = store.sweep() if fix else 0
    return CheckReport(n_entries, n_bytes, tuple(problems), n_leftovers)
