"""Single flight: of many callers that miss the same entry at once, one computes and the others wait for its entry.

Threads of a process agree here, by a table of flights; the one that leads a flight then takes the store's lease, by
which processes agree. Both end with their holder: a leader's exception ends its flight, and a process's death its
lease; then one of those who waited leads.

A flight's owner is a thread, or an asyncio task. An owner that meets its own flight is in a function that calls itself
with the same arguments: it computes, and recurses as it would without a cache.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from fastpar.memory.entries import MISSING
from fastpar.memory.store import Store

__all__ = ["Flight", "compute_once", "join", "land"]


class Flight:
    """One computation under way. Who waits for its end, good or bad, leaves a call in `_waiting`, under `_lock`."""

    __slots__ = ("_waiting", "owner")

    def __init__(self, owner: object) -> None:
        self.owner = owner
        self._waiting: list[Callable[[], object]] | None = []  # None: it has landed

    def when_landed(self, call: Callable[[], object]) -> None:
        """Have `call` called when it has landed, by whichever thread lands it; at once if it has. It must not raise."""
        with _lock:
            if self._waiting is not None:
                self._waiting.append(call)
                return
        call()

    def wait(self) -> None:
        """Return when it has landed."""
        landed = threading.Event()
        self.when_landed(landed.set)
        landed.wait()


#: (location, folder, digest) -> its flight. Written under `_lock`.
_flights: dict[tuple[str, str, str], Flight] = {}
_lock = threading.Lock()


def join(key: tuple[str, str, str], owner: object) -> tuple[Flight, bool]:
    """The flight of an entry, and whether `owner` leads it."""
    with _lock:
        flight = _flights.get(key)
        if flight is not None:
            return flight, False
        flight = _flights[key] = Flight(owner)
        return flight, True


def land(key: tuple[str, str, str], flight: Flight) -> None:
    """End a flight and let those who wait for it go."""
    with _lock:
        if _flights.get(key) is flight:
            del _flights[key]
        waiting, flight._waiting = flight._waiting or [], None
    for call in waiting:
        call()


def compute_once(
    store: Store,
    folder: str,
    digest: str,
    look: Callable[[], Any],
    compute: Callable[[], Any],
    waited: Callable[[], None],
) -> Any:
    """What `look` finds, or else what `compute` returns, computed by one caller at a time.

    `look` returns MISSING for a miss; `compute` stores what it returns; `waited` is called once for each wait.
    """
    key = (store.location, folder, digest)
    owner = threading.get_ident()
    while True:
        flight, leads = join(key, owner)
        if leads:
            try:
                with store.lease(folder, digest):
                    found = look()
                    return compute() if found is MISSING else found
            finally:
                land(key, flight)
        if flight.owner == owner:
            return compute()
        waited()
        flight.wait()
        found = look()
        if found is not MISSING:
            return found


def _after_fork() -> None:
    """The parent's leaders do not exist in the child."""
    global _lock  # noqa: PLW0603 - a thread of the parent may have held it
    _lock = threading.Lock()
    _flights.clear()


if getattr(os, "register_at_fork", None) is not None:
    os.register_at_fork(after_in_child=_after_fork)
