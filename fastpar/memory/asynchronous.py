"""Coroutine functions with a cache. A miss does not block the event loop.

Who waits for a task or thread of this process takes no thread; who waits for another process has one of his own. The
event loop's pool of threads would not do: when all of them wait, a result they wait for may need one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from typing import Any

from fastpar.memory.entries import MISSING
from fastpar.memory.flights import Flight, join, land
from fastpar.memory.memorized import MemorizedFunc, NotMemorizedFunc
from fastpar.memory.results import MemorizedResult, NotMemorizedResult

__all__ = ["AsyncMemorizedFunc", "AsyncNotMemorizedFunc"]


class AsyncMemorizedFunc(MemorizedFunc):
    """`MemorizedFunc` of a coroutine function: calls, `call` and `call_and_shelve` are awaited."""

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        folder, digest = self._identity.generation, self._digest(args, kwargs)
        value = self._look(folder, digest)
        if value is MISSING:
            return await self._compute_once(folder, digest, args, kwargs)
        self._count_hit(args, kwargs)
        return value

    async def call(self, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:  # type: ignore[override]
        """Compute whether or not the result is stored, store it, and return it with its metadata."""
        return await self._compute_async(self._identity.generation, self._digest(args, kwargs), args, kwargs)

    async def call_and_shelve(self, *args: Any, **kwargs: Any) -> MemorizedResult:  # type: ignore[override]
        """Call, and return a small reference to the stored result."""
        folder, digest = self._identity.generation, self._digest(args, kwargs)
        if self._is_stored(folder, digest):
            self._counters.hits += 1
        else:
            await self._compute_once(folder, digest, args, kwargs)
        return self._reference(folder, digest)

    async def _compute_once(self, folder: str, digest: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """`flights.compute_once`, with a task as the owner."""
        key = (self.store_backend.location, folder, digest)
        owner = asyncio.current_task()
        refused = self._refused(folder, digest)
        while True:
            flight, leads = join(key, owner)
            if leads:
                try:
                    return await self._lead(folder, digest, args, kwargs, refused)
                finally:
                    land(key, flight)
            if flight.owner is owner:
                return (await self._compute_async(folder, digest, args, kwargs))[0]
            self._counters.count_wait()
            await _landing(flight)
            value = self._look(folder, digest, refused)
            if value is not MISSING:
                self._count_hit(args, kwargs)
                return value

    async def _lead(
        self, folder: str, digest: str, args: tuple[Any, ...], kwargs: dict[str, Any], refused: object
    ) -> Any:
        lease = self.store_backend.lease(folder, digest)
        await _enter(lease)
        try:
            value = self._look(folder, digest, refused)
            if value is not MISSING:
                self._count_hit(args, kwargs)
                return value
            value, _ = await self._compute_async(folder, digest, args, kwargs)
            return self._as_stored(folder, digest, value)
        finally:
            lease.__exit__(None, None, None)

    async def _compute_async(
        self, folder: str, digest: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        self._announce(args, kwargs)
        started = time.perf_counter()
        value = await self.func(*args, **kwargs)
        return value, self._keep(folder, digest, value, time.perf_counter() - started, args, kwargs)


class AsyncNotMemorizedFunc(NotMemorizedFunc):
    """`NotMemorizedFunc` of a coroutine function: calls, `call` and `call_and_shelve` are awaited."""

    async def call_and_shelve(self, *args: Any, **kwargs: Any) -> NotMemorizedResult:  # type: ignore[override]
        """Call, and return the result in an object like `MemorizedResult`."""
        return NotMemorizedResult(await self.func(*args, **kwargs))

    async def call(self, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:  # type: ignore[override]
        """Call, and return the result and no metadata."""
        return await self.func(*args, **kwargs), {}


async def _landing(flight: Flight) -> None:
    loop = asyncio.get_running_loop()
    landed = asyncio.Event()

    def tell() -> None:
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(landed.set)

    flight.when_landed(tell)
    await landed.wait()


async def _enter(lease: AbstractContextManager[Any]) -> None:
    """Enter in a thread, for it may wait. Cancelled meanwhile: given back as soon as it is had."""
    entered: Future[None] = Future()

    def enter() -> None:
        try:
            lease.__enter__()
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            entered.set_exception(error)
        else:
            entered.set_result(None)

    threading.Thread(target=enter, name="fastpar-lease", daemon=True).start()
    try:
        await asyncio.shield(asyncio.wrap_future(entered))
    except asyncio.CancelledError:
        entered.add_done_callback(lambda _: lease.__exit__(None, None, None))
        raise
