"""`Memory`, the cache of function results. Light to import: what a cache needs comes when a function is given one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from fastpar.logger import Logger

if TYPE_CHECKING:
    from datetime import timedelta

    from fastpar.memory.checks import CheckReport
    from fastpar.memory.store import Store

__all__ = ["Memory", "expires_after"]

#: The folder below `location` that holds everything, so that other things can lie beside it.
FOLDER = "fastpar"

MMAP_MODES = (None, "r", "r+", "c", "w+")


class Memory(Logger):
    """A cache of function results on disk: ``f = memory.cache(f)`` computes each result once.

    Parameters
    ----------
    location : str or os.PathLike, optional
        The folder (or "s3://..." and the like) below which results are kept; "~" is the home folder. None: no cache;
        functions are just called.
    backend : str, default "local"
        The store: "local", "fsspec", or one that was registered.
    mmap_mode : {None, "r", "r+", "c", "w+"}, default None
        Map the arrays of results instead of reading them.
    compress : bool, int, str or (str, int), default False
        As in `dump`. Compressed results cannot be mapped.
    verbose : int, default 1
        0: silent. 1: say when a function is computed, and how long it took. Larger: also when a stored result is read.
    backend_options : dict, optional
        For the store.
    size_limit : float or str, optional
        Bytes, or text such as "10G", that all results of this location may take. When a new result exceeds it, the
        results not used for longest go until 90 % of it is taken.
    age_limit : datetime.timedelta, optional
        Results not used for so long are removed, when others are stored.

    Raises
    ------
    ValueError, TypeError
        An argument is none of those listed, or the location is no path.

    Notes
    -----
    *What is a hit.* The same function with equal arguments (see `fastpar.hash`). The same function means the same
    module and name, and the same code but for comments, docstring, formatting and position. An edit starts a new
    generation; the results of the old one stay until they are evicted, so undoing the edit finds them again. Helpers
    that the function calls do not count unless they are named in `depends`.

    *Concurrency.* Of several threads and processes that need the same result, one computes it and the others wait; if
    it dies, one of them computes. Results appear whole or not at all; one that is damaged is computed again. Safe on
    network file systems, between hosts too, where only the waiting is limited to one host if the file system has no
    locks.

    *Failures.* A result that cannot be stored (full disk, value that cannot be pickled) is returned, with a
    `MemoryWriteWarning` once a function.

    Thread and fork safety: any thread, and in children after a fork. A Memory can be pickled.

    joblib's caches are not read: their keys depend on joblib's hashes. `timestamp` and `bytes_limit` do not exist.

    Examples
    --------
    >>> import tempfile
    >>> memory = Memory(tempfile.mkdtemp(), verbose=0)
    >>> @memory.cache
    ... def square(x):
    ...     print("computing")
    ...     return x * x
    >>> square(3), square(3)
    computing
    (9, 9)
    """

    def __init__(
        self,
        location: Any = None,
        backend: str = "local",
        mmap_mode: str | None = None,
        compress: Any = False,
        verbose: int = 1,
        backend_options: dict[str, Any] | None = None,
        *,
        size_limit: float | str | None = None,
        age_limit: timedelta | None = None,
    ) -> None:
        super().__init__()
        _check_mode(mmap_mode)
        self.location = location
        self.backend = backend
        self.mmap_mode = mmap_mode
        self.compress = compress
        self.verbose = verbose
        self.backend_options = dict(backend_options or {})
        self.size_limit = size_limit
        self.age_limit = age_limit
        self.store_backend: Store | None = None if location is None else self._opened()
        self._limits = self._new_limits()
        if compress and mmap_mode is not None:
            _warn_compressed()

    def _opened(self) -> Store:
        from fastpar.memory.registry import open_store

        location = self.location
        if isinstance(location, (str, os.PathLike)):
            location = f"{os.fspath(location).rstrip('/')}/{FOLDER}" if "://" in str(location) else _joined(location)
        return open_store(self.backend, location, self.backend_options)

    def _new_limits(self) -> Any:
        from fastpar.memory.limits import Limits, n_bytes_of

        return Limits(n_bytes_of(self.size_limit), self.age_limit)

    def __repr__(self) -> str:
        return f"Memory(location={None if self.store_backend is None else self.store_backend.location})"

    def cache(
        self,
        func: Callable[..., Any] | None = None,
        ignore: Iterable[str] | None = None,
        verbose: int | None = None,
        mmap_mode: Any = False,
        cache_validation_callback: Callable[[dict[str, Any]], bool] | None = None,
        *,
        version: Any = None,
        depends: Iterable[Any] = (),
        key: Callable[..., Any] | None = None,
    ) -> Any:
        """Give a function a cache. Also as a decorator, with and without arguments.

        Parameters
        ----------
        func : callable
            A function, method, lambda, partial, builtin, or coroutine function, whose calls are then awaited.
        ignore : list of str, optional
            Parameters that do not make another call. "*" and "**" name the additional ones.
        verbose, mmap_mode : optional
            In place of the Memory's.
        cache_validation_callback : callable, optional
            ``callback(metadata)`` says whether a stored result may be used; metadata is a dict with "duration"
            (seconds), "input_args" (short text) and "time" (seconds since the epoch). See `expires_after`.
        version : object, optional
            Change it to start anew, for what the code does not show.
        depends : iterable, optional
            What else the result depends on: functions and classes (their code, as it is at the time of a call), modules
            (their source), paths of files (their content; a file that does not exist is one content more).
        key : callable, optional
            Returns what identifies a call in place of the arguments. It is given them with defaults filled in, however
            the call was written: by name, ``self`` too, if it has the names of all parameters without a default, or
            ``**``, and asks for no others; else in order, without a bound method's ``self``. A parameter that it has no
            room for must be left to its default. By name, a ``*rest`` of the function is the tuple ``rest``.

        Returns
        -------
        MemorizedFunc
            Callable like `func`, and with `call`, `call_and_shelve`, `check_call_in_cache`, `explain`, `stats`,
            `clear`.

        Raises
        ------
        ValueError
            `ignore` names no parameter of the function, a callback cannot be called, or `mmap_mode` is no mode.
        TypeError, IsADirectoryError
            `depends` is no list, holds a thing of another kind, or names a folder.
        """
        if cache_validation_callback is not None and not callable(cache_validation_callback):
            raise ValueError(f"cache_validation_callback needs to be callable. Got {cache_validation_callback}.")
        if key is not None and not callable(key):
            raise ValueError(f"key needs to be callable. Got {key}.")
        if isinstance(depends, (str, os.PathLike)):
            raise TypeError(f"depends is a list: write depends=[{os.fspath(depends)!r}].")
        mode = self.mmap_mode if mmap_mode is False else mmap_mode
        _check_mode(mode)
        chosen = {
            "ignore": tuple(ignore or ()),
            "verbose": self.verbose if verbose is None else verbose,
            "mmap_mode": "r+" if mode == "w+" else mode,  # what is stored is there already
            "cache_validation_callback": cache_validation_callback,
            "version": version,
            "depends": tuple(depends),
            "key": key,
        }
        if func is None:
            return lambda func: self._memorized(func, chosen)
        return self._memorized(func, chosen)

    def _memorized(self, func: Any, chosen: dict[str, Any]) -> Any:
        import inspect

        from fastpar.memory.memorized import CacheOptions, MemorizedFunc, NotMemorizedFunc

        if isinstance(func, (MemorizedFunc, NotMemorizedFunc)):
            func = func.func
        if not callable(func):
            raise ValueError(f"Only a callable can be given a cache, not {func!r}.")
        made: type[MemorizedFunc] = MemorizedFunc
        made_without: type[NotMemorizedFunc] = NotMemorizedFunc
        if inspect.iscoroutinefunction(func):
            from fastpar.memory.asynchronous import AsyncMemorizedFunc, AsyncNotMemorizedFunc

            made, made_without = AsyncMemorizedFunc, AsyncNotMemorizedFunc
        if self.store_backend is None:
            return made_without(func)
        plain = (it.func if isinstance(it, (MemorizedFunc, NotMemorizedFunc)) else it for it in chosen["depends"])
        options = CacheOptions(compress=self.compress, **chosen | {"depends": tuple(plain)})
        return made(func, self.store_backend, options, self._limits)

    def eval(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function through the cache: ``memory.cache(func)(*args, **kwargs)``."""
        return self.cache(func)(*args, **kwargs)

    def clear(self, warn: bool = True) -> None:
        """Forget all results of this location."""
        if self.store_backend is None:
            return
        if warn and self.verbose > 0:
            from fastpar.memory.memorized import say

            say(f"Flushing completely the cache of {self.store_backend.location}")
        self.store_backend.clear()

    def reduce_size(
        self,
        bytes_limit: float | str | None = None,
        items_limit: int | None = None,
        age_limit: timedelta | None = None,
    ) -> None:
        """Remove the results not used for longest until the limits hold.

        Parameters
        ----------
        bytes_limit : float or str, optional
            Bytes that results may take, or text such as "500M".
        items_limit : int, optional
            How many results may remain.
        age_limit : datetime.timedelta, optional
            Results not used for so long go.

        Raises
        ------
        ValueError
            `age_limit` is negative, or `bytes_limit` is no size.
        """
        from fastpar.memory.limits import n_bytes_of, reduce_store

        if self.store_backend is not None and (bytes_limit, items_limit, age_limit) != (None, None, None):
            n_bytes = reduce_store(self.store_backend, n_bytes_of(bytes_limit), items_limit, age_limit)
            self.store_backend.set_size(n_bytes)

    def check(self, fix: bool = False) -> CheckReport:
        """Verify every stored result, checksums of large arrays included. Nothing is unpickled.

        Parameters
        ----------
        fix : bool, default False
            Whether to remove what is damaged, and what writers that died have left.

        Returns
        -------
        CheckReport
            True when no result is damaged.
        """
        from fastpar.memory.checks import CheckReport, check_store

        if self.store_backend is None:
            return CheckReport(0, 0, (), 0)
        return check_store(self.store_backend, fix=fix)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("store_backend", "_limits")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.store_backend = None if self.location is None else self._opened()
        self._limits = self._new_limits()


def _joined(location: str | os.PathLike[str]) -> str:
    return os.path.join(os.path.expanduser(os.fspath(location)), FOLDER)


def _check_mode(mode: Any) -> None:
    if mode not in MMAP_MODES:
        raise ValueError(f"mmap_mode is one of {MMAP_MODES}, not {mode!r}.")


def _warn_compressed() -> None:
    import warnings

    warnings.warn("Compressed results cannot be memmapped in a filesystem: mmap_mode will be ignored.", stacklevel=3)


def expires_after(
    days: float = 0,
    seconds: float = 0,
    microseconds: float = 0,
    milliseconds: float = 0,
    minutes: float = 0,
    hours: float = 0,
    weeks: float = 0,
) -> Callable[[dict[str, Any]], bool]:
    """A `cache_validation_callback` that refuses results older than so long.

    Examples
    --------
    >>> fresh = expires_after(hours=1)
    >>> fresh({"time": 0.0})
    False
    """
    from datetime import timedelta

    age = timedelta(days, seconds, microseconds, milliseconds, minutes, hours, weeks)
    return _Fresh(age.total_seconds())


class _Fresh:
    """Whether a result is younger than a number of seconds. A class, so that it can be pickled."""

    def __init__(self, age_s: float) -> None:
        self._age_s = age_s

    def __call__(self, metadata: dict[str, Any]) -> bool:
        import time

        return time.time() - float(metadata["time"]) < self._age_s
