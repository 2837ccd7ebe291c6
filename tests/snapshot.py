"""What a test could leave behind in its process: threads, children, descriptors, limits and settings."""

import os
import sys
import threading
import time
import warnings
from dataclasses import dataclass, fields
from pathlib import Path

from threadpoolctl import threadpool_info

from fastpar._core.dispatch import n_live
from fastpar.engines.processes.engine import POOL as PROCESSES
from fastpar.engines.threads import ENGINE

#: Set by pytest itself, for each phase of each test.
PYTESTS_OWN = "PYTEST_CURRENT_TEST"

TASKS = Path("/proc/self/task")
SHARED_MEMORY = Path("/dev/shm")
PATIENCE_S = 10.0


@dataclass(frozen=True)
class Snapshot:
    """The state of this process that no test may change."""

    python_threads: frozenset
    native_threads: int
    children: frozenset
    descriptors: frozenset
    segments: frozenset
    live_runs: int
    inner_limits: tuple
    warning_filters: tuple
    directory: str
    environment: tuple

    @classmethod
    def take(cls):
        return cls(
            python_threads=frozenset(threading.enumerate()),
            native_threads=len(os.listdir(TASKS)),
            children=children(),
            descriptors=descriptors(),
            segments=segments(),
            live_runs=n_live(),
            inner_limits=inner_limits(),
            warning_filters=tuple(map(repr, warnings.filters)),
            directory=os.getcwd(),
            environment=tuple(sorted(item for item in os.environ.items() if item[0] != PYTESTS_OWN)),
        )

    def changes(self, later):
        """One line for each field that is different now.

        Libraries loaded since do not count, nor do threads of an earlier test that took their time to go.
        """
        lines = []
        for name in (field.name for field in fields(self)):
            before, after = getattr(self, name), getattr(later, name)
            if name == "inner_limits":
                after = tuple(limit for limit in after if limit[0] in dict(before))
            if name == "native_threads":
                after = max(before, after - n_blas_threads(later.inner_limits) if after > before else after)
            if before != after:
                lines.append(f"{name}: {difference(before, after)}")
        return lines


def difference(before, after):
    if isinstance(before, int | str):
        return f"{before!r} became {after!r}"
    new, gone = sorted(map(str, set(after) - set(before))), sorted(map(str, set(before) - set(after)))
    return f"new {new}, gone {gone}" if new or gone else "another order"


def inner_limits():
    return tuple(sorted((pool["filepath"], pool["num_threads"]) for pool in threadpool_info()))


def n_blas_threads(limits):
    """Threads that may come at any time: OpenBLAS stops its own at a fork, and starts them when it is next used."""
    return sum(n_threads - 1 for _, n_threads in limits)


def settle():
    """End what may rightly outlive a call: idle workers."""
    close_pool()
    PROCESSES.close()
    if "fastpar._core.pool" in sys.modules:
        sys.modules["fastpar._core.pool"].rest()  # the native threads


def close_pool():
    """Let all worker threads end, and open the thread engine's pool again for the next test."""
    ENGINE.pool.close()
    deadline = time.monotonic() + PATIENCE_S
    while (late := workers()) and time.monotonic() < deadline:  # again, for a worker may summon another as it ends
        late[0].join(PATIENCE_S)
    ENGINE.pool.forget()


def workers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("fastpar-")]


def wait_for_threads(n_native):
    """A joined thread has left Python, and leaves the system a moment later; no event says when."""
    if len(os.listdir(TASKS)) > n_native:
        n_native += n_blas_threads(inner_limits())
    deadline = time.monotonic() + PATIENCE_S
    while len(os.listdir(TASKS)) > n_native and time.monotonic() < deadline:
        os.sched_yield()


def children():
    return frozenset(
        int(pid) for task in os.listdir(TASKS) for pid in read(TASKS / task / "children").split()
    )


def read(path):
    try:
        return path.read_text()
    except FileNotFoundError:  # a thread that ended meanwhile, or a kernel that does not tell
        return ""


def descriptors():
    """Number and target of each open descriptor, but for the one that lists them."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add((int(number), os.readlink(f"/proc/self/fd/{number}")))
        except FileNotFoundError:
            continue
    return frozenset(found)


def segments():
    """Shared memory under a name that holds our process id; what other programs make there is theirs."""
    if not SHARED_MEMORY.is_dir():
        return frozenset()
    return frozenset(name for name in os.listdir(SHARED_MEMORY) if str(os.getpid()) in name)
