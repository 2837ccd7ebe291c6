"""The contract between the run loop and what executes tasks.

An *engine* is one way of executing; it outlives calls and holds their workers. A *session* is what an engine gives one
call: it owns the call's `Run`, lets the workers get on with it while the calling thread waits, and takes them back.
Engines never see `Parallel`. Methods of a session are called by the calling thread of its run, an engine's by any.
"""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from typing import Protocol

    from fastpar._core.dispatch import Run
else:
    Protocol = object


class Capabilities(
    namedtuple("Capabilities", ["shares_memory", "kills_tasks", "supports_timeout", "limits_inner_threads"])
):
    """What an engine can do: four bools. Asked here, never by looking for a method.

    Attributes
    ----------
    shares_memory : bool
        Tasks see the caller's objects, not copies of them.
    kills_tasks : bool
        A running task can be ended.
    supports_timeout : bool
        A wait for a task can end before the task does.
    limits_inner_threads : bool
        Workers keep BLAS and OpenMP within their share of the CPUs.
    """

    __slots__ = ()


class Plan(
    namedtuple(
        "Plan",
        [
            "source",
            "keep",
            "n_workers",
            "n_total",
            "pre_dispatch",
            "batch_size",
            "times_tasks",
            "inner_max_num_threads",
            "nested_config",
            "keeps_backend",
        ],
    )
):
    """What one call asks of an engine; values checked, nothing left to be decided.

    Attributes
    ----------
    source : iterator
        Of tasks ``(function, args, kwargs)``.
    keep : int
        How results are kept: a value of `fastpar._core.slots.KEEP`.
    n_workers : int
        Workers that may run tasks at once: at least 2, or 1 where tasks have a time limit.
    n_total : int
        Number of tasks; -1 where the source does not say.
    pre_dispatch : int
        How far ahead of finished work the source may be read, in batches; -1 for no bound.
    batch_size : int
        Tasks a batch, 0 for automatic.
    times_tasks : bool
        Whether the caller has a timeout to watch.
    inner_max_num_threads : int or None
        BLAS and OpenMP threads of each worker; None for its share of the CPUs.
    nested_config : config.Config
        What holds for calls made inside tasks.
    keeps_backend : bool
        More calls follow on the same workers: leave them usable, also where this call fails.
    """

    __slots__ = ()


class Session(Protocol):
    """The workers of one call."""

    run: Run

    def step(self, timeout_ns: int) -> bool:
        """Read what fits into the window, then wait for news of the run; False if `timeout_ns` passed first.

        Negative: wait for as long as it takes. Zero: read some of it, and do not wait. An error of the source is
        raised as it is.
        """

    def advice(self) -> str | None:
        """A sentence on how the run went, where the user should change something."""

    def close(self) -> None:
        """Give the workers back and undo what was set for them. Called once, however the call ended."""


class Engine(Protocol):
    """A way of executing tasks."""

    name: str
    capabilities: Capabilities

    def open(self, plan: Plan) -> Session:
        """Begin a call; nothing is read from the source yet."""
