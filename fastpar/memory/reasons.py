"""Why a call is a hit or a miss, in words."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastpar.memory import entries
from fastpar.memory.arguments import Arguments
from fastpar.memory.identity import Identity
from fastpar.memory.store import DESCRIPTION, Store

__all__ = ["Explanation", "explain_call", "note_generation"]


@dataclass(frozen=True)
class Explanation:
    """What a call of a cached function would do.

    Attributes
    ----------
    hit : bool
        Whether a stored result would be used. The object itself is true or false accordingly.
    reason : str
        Why, in a sentence.
    func_id, args_id : str
        The function's folder with its generation, and the digest of the arguments.
    metadata : dict
        Of the stored result, if there is one.
    """

    hit: bool
    reason: str
    func_id: str
    args_id: str
    metadata: dict[str, Any]

    def __bool__(self) -> bool:
        return self.hit

    def __str__(self) -> str:
        return f"{'hit' if self.hit else 'miss'}: {self.reason}"


def note_generation(store: Store, folder: str, parts: dict[str, str]) -> None:
    """Write down what makes a generation, for later explanations."""
    if store.head(folder, DESCRIPTION, 1) is None:
        entries.write(store, folder, DESCRIPTION, parts, {"time": time.time()}, None)


def explain_call(
    store: Store,
    identity: Identity,
    digest: str,
    validate: Callable[[dict[str, Any]], bool] | None,
    args: tuple[Any, ...],
    arguments: Arguments,
) -> Explanation:
    """Whether a call would be a hit, and why."""
    folder = identity.generation
    meta = entries.metadata(store, folder, digest)
    if meta is not None:
        if validate is not None and not validate(meta):
            return Explanation(False, "cache_validation_callback refuses the stored result", folder, digest, meta)
        wrong = entries.damage(store, folder, digest)
        if wrong is None:
            reason = f"stored {_ago(meta['time'])} ago by a call that took {meta['duration']:.3g} s"
            return Explanation(True, reason, folder, digest, meta)
        return Explanation(False, f"the stored result is damaged: {wrong}", folder, digest, meta)
    if store.head(folder, digest, 1) is not None:
        return Explanation(False, "the stored result is damaged", folder, digest, {})
    return Explanation(False, _why_absent(store, identity, folder, digest), folder, digest, {})


def _why_absent(store: Store, identity: Identity, folder: str, digest: str) -> str:
    others = [other for other in store.folders(identity.folder) if other != folder]
    with_call = [other for other in others if store.head(other, digest, 1) is not None]
    if with_call:
        changes = " or ".join(sorted({_change(store, other, identity) for other in with_call}))
        return f"stored by {_generations(len(with_call))} of the function, but since then {changes} changed"
    if store.head(folder, DESCRIPTION, 1) is not None:
        return "no call with these arguments is stored; calls with other arguments are"
    if others:
        return f"nothing is stored for the function as it is now, only by {_generations(len(others))} of it"
    return "nothing is stored for this function"


def _generations(n: int) -> str:
    return "another version" if n == 1 else f"{n} other versions"


#: The parts of a generation that are the function's own; others are named with what they are.
_OWN = frozenset({"code", "version", "closure", "bound arguments"})


def _change(store: Store, other: str, identity: Identity) -> str:
    """The names of the parts in which another generation differs from the present one."""
    try:
        before = entries.read(store, other, DESCRIPTION)
    except Exception:  # noqa: BLE001 - a damaged description explains nothing
        before = entries.MISSING
    if before is entries.MISSING:
        return "something"
    now = identity.parts()
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return " and ".join(f"its {name}" if name in _OWN else name for name in names) or "something"


def _ago(moment_s: float) -> str:
    seconds = max(0.0, time.time() - moment_s)
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
