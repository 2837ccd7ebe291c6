"""Functions with a cache. `Memory.cache` makes them; they hold no state but counters, so threads and forks need no
care.

call -> digest of the arguments -> entry?  hit: read it     miss: single flight -> compute -> write
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, update_wrapper
from typing import Any

from fastpar.errors import MemoryWriteWarning
from fastpar.hashing import hash as digest_of
from fastpar.logger import Logger
from fastpar.memory import entries
from fastpar.memory.arguments import Arguments
from fastpar.memory.entries import MISSING
from fastpar.memory.flights import compute_once
from fastpar.memory.identity import Identity, owner_and_function, underlying
from fastpar.memory.keys import KeyFunction
from fastpar.memory.limits import Limits
from fastpar.memory.reasons import Explanation, explain_call, note_generation
from fastpar.memory.results import MemorizedResult, NotMemorizedResult
from fastpar.memory.stats import Counters, Stats
from fastpar.memory.store import Store
from fastpar.wrapping import MAINS

__all__ = ["CacheOptions", "MemorizedFunc", "NotMemorizedFunc"]


@dataclass(frozen=True)
class CacheOptions:
    """What `Memory.cache` was asked for."""

    ignore: tuple[str, ...] = ()
    verbose: int = 0
    mmap_mode: str | None = None
    compress: Any = False
    cache_validation_callback: Callable[[dict[str, Any]], bool] | None = None
    version: Any = None
    depends: tuple[Any, ...] = ()
    key: Callable[..., Any] | None = None


class MemorizedFunc(Logger):
    """A function whose results are kept in a store.

    Attributes
    ----------
    func : callable
        The function itself.
    func_id : str
        The folder of its results, with the generation that it has now.
    ignore : list of str
        Parameters that do not count.
    mmap_mode, compress, cache_validation_callback
        As they were asked for.
    timestamp : float
        When this object was made, in seconds since the epoch.

    Notes
    -----
    Calling it from many threads and processes at once computes each result once; the others wait for it. It can be
    pickled where its function can. Results that cannot be stored are returned, with a `MemoryWriteWarning` the first
    time.
    """

    def __init__(self, func: Callable[..., Any], store: Store, options: CacheOptions, limits: Limits) -> None:
        super().__init__()
        self.func = func
        self.store_backend = store
        self.options = options
        self._limits = limits
        self._owner, plain = owner_and_function(func)
        self._arguments = Arguments(plain, options.ignore)
        self._key = options.key and KeyFunction(options.key, self._arguments.signature, self._owner)
        self._identity = Identity(func, options.version, options.depends, options.ignore, options.key)
        self._counters = Counters()
        self._warned = False
        self._noted: str | None = None  # the generation whose description was written
        self.timestamp = time.time()
        if not isinstance(func, partial):
            update_wrapper(self, func)

    @property
    def func_id(self) -> str:
        return self._identity.generation

    @property
    def ignore(self) -> list[str]:
        return list(self.options.ignore)

    @property
    def mmap_mode(self) -> str | None:
        return self.options.mmap_mode

    @property
    def compress(self) -> Any:
        return self.options.compress

    @property
    def cache_validation_callback(self) -> Callable[[dict[str, Any]], bool] | None:
        return self.options.cache_validation_callback

    def __reduce__(self) -> Any:
        if self._is_found_by_name():
            return self.func.__qualname__
        parts = (self.func, self.store_backend, self.options, self._limits)
        return type(self), parts, self._identity.origin()

    def __setstate__(self, origin: tuple[str, list[str | None]]) -> None:
        self._identity.adopt(origin)

    def _is_found_by_name(self) -> bool:
        """Whether this object stands where its function was defined: then it is pickled by name, like a function."""
        module = getattr(self.func, "__module__", None)
        thing: Any = sys.modules.get(module or "") if module not in MAINS else None
        for part in getattr(self.func, "__qualname__", "").split("."):
            thing = getattr(thing, part, None)
        return thing is self

    def __repr__(self) -> str:
        return f"{type(self).__name__}(func={self.func!r}, location={self.store_backend.location})"

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        return self if owner is None else BoundMemorized(self, owner)

    # -- calling -----------------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        folder, digest = self._identity.generation, self._digest(args, kwargs)
        value = self._look(folder, digest)
        if value is MISSING:
            return self._value_of_miss(folder, digest, args, kwargs)
        self._count_hit(args, kwargs)
        return value

    def call_and_shelve(self, *args: Any, **kwargs: Any) -> MemorizedResult:
        """Call, and return a small reference to the stored result: its `get` reads it, and verifies it only then."""
        folder, digest = self._identity.generation, self._digest(args, kwargs)
        if self._is_stored(folder, digest):
            self._counters.hits += 1
        else:
            self._value_of_miss(folder, digest, args, kwargs)
        return self._reference(folder, digest)

    def call(self, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Compute whether or not the result is stored, store it, and return it with its metadata."""
        return self._compute(self._identity.generation, self._digest(args, kwargs), args, kwargs)

    def check_call_in_cache(self, *args: Any, **kwargs: Any) -> bool:
        """Whether this call would be a hit. Computes nothing."""
        return self._is_stored(self._identity.generation, self._digest(args, kwargs))

    def explain(self, *args: Any, **kwargs: Any) -> Explanation:
        """Whether this call would be a hit, and why. Computes nothing."""
        digest = self._digest(args, kwargs)
        return explain_call(
            self.store_backend,
            self._identity,
            digest,
            self.options.cache_validation_callback,
            self._owner + args,
            self._arguments,
        )

    def clear(self, warn: bool = True) -> None:
        """Forget all results of this function, those of other generations too."""
        if warn and self.options.verbose > 0:
            say(f"Clearing cache {self.store_backend.location}/{self._identity.folder}")
        self.store_backend.clear(self._identity.folder)
        self._noted = None

    def stats(self) -> Stats:
        """What happened to the calls of this object in this process."""
        return self._counters.snapshot()

    # -- the steps of a call -----------------------------------------------------------------------------------------

    def _digest(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        if self._key is not None:
            return digest_of(self._key(args, kwargs))
        if self._owner:
            args = self._owner + args
        return self._arguments.digest(args, kwargs, coerce_mmap=self.options.mmap_mode is not None)

    def _look(self, folder: str, digest: str, refused: object = None) -> Any:
        """The stored value, or MISSING if there is none that may be used."""
        if self.options.cache_validation_callback is not None and not self._is_stored(folder, digest, refused):
            return MISSING
        return self._read(folder, digest)

    def _read(self, folder: str, digest: str) -> Any:
        try:
            value = entries.read(self.store_backend, folder, digest, self.options.mmap_mode)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with an entry, the result can be computed
            self._counters.damaged += 1
            _warn_damaged(self, error)
            return MISSING
        if value is not MISSING:
            self._limits.used(self.store_backend, folder, digest)
        return value

    def _count_hit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._counters.hits += 1
        if self.options.verbose > 1:
            say(f"[Memory] Read from the cache: {self._described(args, kwargs)}")

    def _is_stored(self, folder: str, digest: str, refused: object = None) -> bool:
        meta = entries.metadata(self.store_backend, folder, digest)
        if meta is None or meta == refused:
            return False
        validate = self.options.cache_validation_callback
        return validate is None or bool(validate(meta))

    def _refused(self, folder: str, digest: str) -> object:
        """The metadata of a result that the callback has just refused: it is asked once a call about each result."""
        if self.options.cache_validation_callback is None:
            return None
        return entries.metadata(self.store_backend, folder, digest)

    def _value_of_miss(self, folder: str, digest: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        refused = self._refused(folder, digest)

        def compute() -> Any:
            value, _ = self._compute(folder, digest, args, kwargs)
            return self._as_stored(folder, digest, value)

        def look() -> Any:
            value = self._look(folder, digest, refused)
            if value is not MISSING:
                self._count_hit(args, kwargs)
            return value

        return compute_once(self.store_backend, folder, digest, look, compute, self._counters.count_wait)

    def _as_stored(self, folder: str, digest: str, value: Any) -> Any:
        """With `mmap_mode`, the first call returns what later calls will."""
        if self.options.mmap_mode is None:
            return value
        stored = self._read(folder, digest)
        return value if stored is MISSING else stored

    def _compute(
        self, folder: str, digest: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        self._announce(args, kwargs)
        started = time.perf_counter()
        value = self.func(*args, **kwargs)
        return value, self._keep(folder, digest, value, time.perf_counter() - started, args, kwargs)

    def _keep(
        self, folder: str, digest: str, value: Any, duration_s: float, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """Store a value and return its metadata. A value that cannot be stored is no error of the call."""
        shown = self._arguments.shown(self._owner + args, kwargs)
        meta = {"duration": duration_s, "input_args": shown, "time": time.time()}
        self._counters.misses += 1
        self._report(duration_s)
        try:
            n_bytes = entries.write(self.store_backend, folder, digest, value, meta, self._codec())
            self._note(folder)
            self._limits.stored(self.store_backend, n_bytes)
        except Exception as error:  # noqa: BLE001 - a full disk, a value that pickle refuses, ...
            self._counters.failed_writes += 1
            self._warn_unwritten(error)
        return meta

    def _codec(self) -> Any:
        if not self.options.compress:
            return None
        from fastpar.persist.codecs import choose

        return choose(self.options.compress, None)

    def _note(self, folder: str) -> None:
        if self._noted != folder:
            note_generation(self.store_backend, folder, self._identity.parts())
            self._noted = folder

    def _reference(self, folder: str, digest: str) -> MemorizedResult:
        meta = entries.metadata(self.store_backend, folder, digest) or {}
        return MemorizedResult(
            self.store_backend,
            (folder, digest),
            mmap_mode=self.options.mmap_mode,
            verbose=self.options.verbose,
            metadata=meta,
        )

    # -- messages ----------------------------------------------------------------------------------------------------

    def _title(self) -> str:
        plain = underlying(self.func)
        return f"{getattr(plain, '__module__', '?')}.{getattr(plain, '__qualname__', type(plain).__qualname__)}"

    def _described(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        shown = self._arguments.shown(self._owner + args, kwargs)
        return f"{self._title()}({', '.join(f'{name}={text}' for name, text in shown.items())})"

    def _announce(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.options.verbose > 0:
            say(f"{'_' * 80}\n[Memory] Calling {self._title()}...\n{self._described(args, kwargs)}")

    def _report(self, duration_s: float) -> None:
        if self.options.verbose > 0:
            text = f"{self._title().rpartition('.')[2]} - {duration_s:.1f}s, {duration_s / 60:.1f}min"
            say(f"{'_' * max(0, 80 - len(text))}{text}")

    def _warn_unwritten(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"The result of {self._title()} could not be stored in {self.store_backend.location}: "
                f"{type(error).__name__}: {error}. It is returned, and will be computed again.",
                MemoryWriteWarning,
                stacklevel=_stack_level(),
            )


class BoundMemorized:
    """A memorized function of a class, bound to an instance, which counts as its first argument."""

    def __init__(self, memorized: MemorizedFunc | NotMemorizedFunc, owner: Any) -> None:
        self.__func__ = memorized
        self.__self__ = owner
        for name in ("call", "call_and_shelve", "check_call_in_cache", "explain"):
            setattr(self, name, partial(getattr(memorized, name), owner))
        self.func, self.clear, self.stats = memorized.func, memorized.clear, memorized.stats

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__func__(self.__self__, *args, **kwargs)

    def __reduce__(self) -> Any:
        return getattr, (self.__self__, self.__func__.func.__name__)

    def __repr__(self) -> str:
        return f"<bound {self.__func__!r} of {self.__self__!r}>"


class NotMemorizedFunc:
    """The same interface without a store: `Memory(location=None)`."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func
        if not isinstance(func, partial):
            update_wrapper(self, func)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.func(*args, **kwargs)

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        return self if owner is None else BoundMemorized(self, owner)

    def __reduce__(self) -> Any:
        return type(self), (self.func,)

    def __repr__(self) -> str:
        return f"NotMemorizedFunc(func={self.func!r})"

    def call_and_shelve(self, *args: Any, **kwargs: Any) -> NotMemorizedResult:
        """Call, and return the result in an object like `MemorizedResult`."""
        return NotMemorizedResult(self.func(*args, **kwargs))

    def call(self, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Call, and return the result and no metadata."""
        return self.func(*args, **kwargs), {}

    def check_call_in_cache(self, *args: Any, **kwargs: Any) -> bool:
        """False: nothing is stored."""
        return False

    def explain(self, *args: Any, **kwargs: Any) -> Explanation:
        """A miss: nothing is stored."""
        return Explanation(False, "there is no cache: Memory has no location", "", "", {})

    def clear(self, warn: bool = True) -> None:
        """Nothing to forget."""

    def stats(self) -> Stats:
        """Nothing was counted."""
        return Stats()


def say(text: str) -> None:
    """Write a message for the user; to standard output, as joblib does."""
    sys.stdout.write(text + "\n")


def _stack_level() -> int:
    """How far up the stack the first frame outside this package is, for warnings."""
    level, frame = 2, sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(("fastpar.memory", "contextlib")):
        level, frame = level + 1, frame.f_back
    return level


def _warn_damaged(memorized: MemorizedFunc, error: Exception) -> None:
    from fastpar.errors import PersistError

    if not isinstance(error, PersistError):  # whole, but its objects cannot be made: a class has moved, say
        warnings.warn(
            f"A stored result of {memorized._title()} cannot be loaded ({type(error).__name__}: {error}); "
            "it is computed again.",
            stacklevel=_stack_level(),
        )
