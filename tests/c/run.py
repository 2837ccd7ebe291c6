"""Builds and runs the tests of the C core: ``python tests/c/run.py [words]``, needs only a C compiler.

Every program runs in four builds (release, debug, ASan with UBSan, TSan), those that wait also on the
portable wait that other systems get. Small ones are led through all interleavings, loops timed on a machine
that makes its time up. Then bugs are planted in copies of the core, one at a time, and a test must find each:
a net that catches nothing proves nothing. One line per run; the exit status is 1 if any of them is wrong.
With words, only runs whose name contains one of them.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent
CORE = TESTS.parent.parent / "src_c"
COMPILER = os.environ.get("CC", "cc")
FLAGS = ["-std=c11", "-g", "-pthread", "-Wall", "-Wextra", "-Werror"]
TIMEOUT_S = 80

POOL = ("fp_deque.c", "fp_for.c", "fp_hint.c", "fp_loop.c", "fp_pool.c", "fp_reduce.c", "fp_sleep.c")
ALL = (*POOL, "fp_check.c", "fp_os_linux.c", "fp_os_posix.c", "fp_park.c", "fp_queue.c")
#: The explorer and the simulator bring systems of their own, and the former only two threads that do something.
EXPLORED = ("fp_deque.c", "fp_sleep.c", "fp_check.c", "fp_park.c", "fp_queue.c")
SIMULATED = (*POOL, "fp_check.c", "fp_park.c")


@dataclass(frozen=True)
class Mode:
    flags: tuple[str, ...]
    slowness: int = 1  # divides the iterations
    sources: tuple[str, ...] = ALL


MODES = {
    "release": Mode(("-O2",)),
    "debug": Mode(("-O2", "-DFP_DEBUG")),
    "asan": Mode(("-O1", "-DFP_DEBUG", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"), 4),
    "tsan": Mode(("-O1", "-DFP_DEBUG", "-fsanitize=thread"), 5),
    "explore": Mode(("-O2", "-DFP_DEBUG", "-DFP_TEST_YIELD"), sources=EXPLORED),
    "simulate": Mode(("-O2", "-DFP_DEBUG", "-DFP_TEST_YIELD"), sources=SIMULATED),
}


@dataclass(frozen=True)
class Bug:
    """A mistake somebody could make: `right` is replaced by `wrong` in one file of the core."""

    name: str
    file: str
    right: str
    wrong: str


@dataclass(frozen=True)
class Run:
    program: str
    mode: str
    iterations: int = 0
    seeds: tuple[int, ...] = (1,)
    waits_by_condvar: bool = False
    bug: Bug | None = None

    @property
    def name(self) -> str:
        kind = self.mode + ("/condvar" if self.waits_by_condvar else "")
        return f"{self.program:13} {kind:15}" + (f" must find: {self.bug.name}" if self.bug else "")


EXPLORER_FINDS = [
    Bug(
        "who was woken to lock forgets the other sleepers",
        "fp_park.c",
        "while (fp_u32_exchange_acquire(&mutex->state, CONTENDED) != FREE)",
        "while (fp_u32_cas_relaxed(&mutex->state, LOCKED, CONTENDED),"
        " !fp_u32_cas_acquire(&mutex->state, FREE, LOCKED))",
    ),
    Bug(
        "parking wipes a permit out",
        "fp_park.c",
        "if (fp_u32_cas_relaxed(&parker->state, EMPTY, PARKED))",
        "fp_u32_store_relaxed(&parker->state, PARKED);",
    ),
    Bug(
        "unparking looks first and stores then",
        "fp_park.c",
        "before = fp_u32_exchange_release(&parker->state, PERMIT);",
        "before = fp_u32_load_relaxed(&parker->state); fp_u32_store_relaxed(&parker->state, PERMIT);",
    ),
    Bug(
        "the seat is given up after nothing was found",
        "fp_queue.c",
        "seat_give_up_locked(queue); /* (Q3)",
        "unlock(queue); fp_mutex_lock(&queue->lock); seat_give_up_locked(queue); /*",
    ),
    Bug(
        "a take summons nobody",
        "fp_queue.c",
        "*n_summoned = summon_locked(queue); /* (Q2) */",
        "",
    ),
    Bug(
        "one worker is thought to be enough",
        "fp_queue.c",
        "n_seated == queue->n_seats",
        "n_seated > 0",
    ),
    Bug(
        "a summons reserves no seat",
        "fp_queue.c",
        "fp_u32_store_relaxed(&queue->n_seated, n_seated + 1);",
        "",
    ),
]

POOL_EXPLORER_FINDS = [
    Bug(
        "the owner looks at the thieves' end before it lowers its own",
        "fp_deque.c",
        "size_t top = fp_size_load_seq_cst(&deque->top);    /* (D4) */",
        "fp_size_store_seq_cst(&deque->bottom, bottom + 1); size_t top = fp_size_load_seq_cst(&deque->top);"
        " fp_size_store_seq_cst(&deque->bottom, bottom);",
    ),
    Bug(
        "the last ticket is taken without asking the thieves",
        "fp_deque.c",
        "is_there = fp_size_cas_seq_cst(&deque->top, top, top + 1);",
        "fp_size_store_seq_cst(&deque->top, top + 1);",
    ),
    Bug(
        "a worker falls asleep without looking for tickets",
        "fp_sleep.c",
        "have_searchers(unpack(word - SEARCHING)) && !sleeps",
        "!sleeps",
    ),
    Bug(
        "one searcher is thought to be enough for all tickets",
        "fp_sleep.c",
        "return now.n_tickets <= now.n_searching;",
        "return now.n_tickets == 0 || now.n_searching > 0;",
    ),
    Bug(
        "who waits keeps a call that it has no use for",
        "fp_sleep.c",
        "    if (!was_called)\n        return true;",
        "    if (!was_called || how == FP_WAITED_ENOUGH)\n        return true;",
    ),
    Bug(
        "a ticket taken before a call is thought to pay for it",
        "fp_sleep.c",
        "    if (!was_called)\n        return true;",
        "    if (!was_called || how == FP_WAITED_AND_TOOK)\n        return true;",
    ),
    Bug(
        "who took a ticket of another loop calls only who sleeps",
        "fp_sleep.c",
        "taken->loop == called_for.loop",
        "(taken->loop == called_for.loop || true)",
    ),
    Bug(
        "who passes a call on does not say that nobody was there",
        "fp_sleep.c",
        "return call_for(sleep, fp_sleep_glance(sleep), &called_for);",
        "return call_for(sleep, fp_sleep_glance(sleep), &called_for) || true;",
    ),
    Bug(
        "a worker is counted as asleep before it is listed",
        "fp_sleep.c",
        "    if (sleeps)\n        list_locked(&sleep->asleep, sleeper);",
        "    fp_mutex_unlock(&sleep->lock); fp_mutex_lock(&sleep->lock);\n"
        "    if (sleeps)\n        list_locked(&sleep->asleep, sleeper);",
    ),
]

SIMULATOR_FINDS = [
    Bug(
        "a member that stole goes on in pieces fit for what it did before",
        "fp_loop.c",
        "part->piece = part->least_piece = 1;",
        "",
    ),
    Bug(
        "who waits for long pieces goes to sleep at once",
        "fp_loop.c",
        "end_ns = begin_ns + spin_ns(part)",
        "end_ns = begin_ns",
    ),
    Bug(
        "a ticket is posted after the piece, not before it",
        "fp_loop.c",
        "            invite(part);\n        pause(part, run_piece(part, seen.begin, n));",
        "            (void)0;\n        pause(part, run_piece(part, seen.begin, n));\n        invite(part);",
    ),
    Bug(
        "a helper is woken for what is over when it comes",
        "fp_loop.c",
        "WAKE_NS = 60000",
        "WAKE_NS = 20000",
    ),
    Bug(
        "a loop that was quick last time calls for help",
        "fp_loop.c",
        "hint_ns != FP_HINT_UNKNOWN && ",
        "false && hint_ns > 0 && ",
    ),
]

TSAN_FINDS = [
    Bug(
        f"no {order} in the {operation}",
        "fp_atomic.h",
        f"{call}, memory_order_{order}",
        f"{call}, memory_order_relaxed",
    )
    for order, operation, call in [
        ("release", "exchange", "atomic_exchange_explicit(word, value"),
        ("acquire", "exchange", "atomic_exchange_explicit(word, value"),
        ("acquire", "compare-and-swap", "(word, &expected, desired"),
    ]
]

#: By ThreadSanitizer, then by the explorer.
SEGMENTS_TSAN_FINDS = [
    Bug(
        "a holder counts itself out without saying that it has read",
        "fp_shared.h",
        "fp_u32_add_acq_rel(&head->n_holders, (uint32_t)-1);",
        "fp_u32_add_relaxed(&head->n_holders, (uint32_t)-1);",
    ),
    Bug(
        "who finds itself alone has not seen the others read",
        "fp_shared.h",
        "return fp_u32_load_acquire(&head->n_holders);",
        "return fp_u32_load_relaxed(&head->n_holders);",
    ),
]
SEGMENTS_EXPLORER_FINDS = [
    Bug(
        "a batch is claimed by a look and a store",
        "fp_shared.h",
        "if (fp_i64_cas_relaxed(&board->offers[i], batch, 0))",
        "if (fp_i64_load_acquire(&board->offers[i]) == batch && (fp_i64_store_release(&board->offers[i], 0), true))",
    ),
    Bug(
        "a holder counts itself out in two steps",
        "fp_shared.h",
        "fp_u32_add_acq_rel(&head->n_holders, (uint32_t)-1);",
        "fp_u32_store_relaxed(&head->n_holders, fp_u32_load_relaxed(&head->n_holders) - 1);",
    ),
    Bug(
        "two holders are as good as one",
        "fp_shared.h",
        "return fp_u32_load_acquire(&head->n_holders);",
        "uint32_t n = fp_u32_load_acquire(&head->n_holders); return n == 2 ? 1 : n;",
    ),
]


def runs():
    for mode in ("release", "debug", "asan", "tsan"):
        yield Run("test_queue", mode)
        for waits_by_condvar in (False, True) if sys.platform == "linux" else (False,):
            yield Run("test_park", mode, 20_000, waits_by_condvar=waits_by_condvar)
            yield Run("stress_queue", mode, 400_000, (1, 2, 3), waits_by_condvar)
        yield Run("test_shared", mode, 20_000, (1, 2))
        yield Run("test_loop", mode)
        for waits_by_condvar in (False, True) if sys.platform == "linux" else (False,):
            yield Run("stress_loop", mode, 40_000, (1, 2), waits_by_condvar)
    yield Run("test_explore", "explore")
    yield Run("test_explore_pool", "explore")
    yield Run("test_simulate", "simulate")
    yield from (Run("test_explore", "explore", bug=bug) for bug in EXPLORER_FINDS)
    yield from (Run("test_explore_pool", "explore", bug=bug) for bug in POOL_EXPLORER_FINDS)
    yield from (Run("test_simulate", "simulate", bug=bug) for bug in SIMULATOR_FINDS)
    yield from (Run("test_explore", "explore", bug=bug) for bug in SEGMENTS_EXPLORER_FINDS)
    yield from (Run("test_park", "tsan", 20_000, bug=bug) for bug in TSAN_FINDS)
    yield from (Run("test_shared", "tsan", 20_000, bug=bug) for bug in SEGMENTS_TSAN_FINDS)


def core_with(bug: Bug | None, directory: Path) -> Path:
    if bug is None:
        return CORE
    shutil.copytree(CORE, directory / "core")
    source = directory / "core" / bug.file
    text = source.read_text()
    if text.count(bug.right) != 1:
        raise LookupError(f"{bug.file} has changed: {bug.right!r} is there {text.count(bug.right)} times")
    source.write_text(text.replace(bug.right, bug.wrong))
    return directory / "core"


def build(run: Run, directory: Path) -> Path:
    core = core_with(run.bug, directory)
    sources = [TESTS / f"{run.program}.c", *(core / c for c in MODES[run.mode].sources)]
    flags = [*FLAGS, *MODES[run.mode].flags, f"-I{core}"]
    flags += ["-DFP_OS_CONDVAR"] * run.waits_by_condvar + ["-Wno-error"] * (run.bug is not None)
    program = directory / run.program
    command = [COMPILER, *flags, *map(str, sources), "-o", str(program)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise ChildProcessError(f"{' '.join(command)}\n{result.stderr}")
    return program


def fixed_addresses() -> list[str]:
    """TSan of older compilers does not know how far recent kernels scatter memory."""
    prefix = ["setarch", platform.machine(), "-R"]
    works = shutil.which("setarch") and subprocess.run([*prefix, "true"], capture_output=True).returncode == 0
    return prefix if works else []


def execute(run: Run, program: Path, seed: int, prefix: list[str]) -> tuple[bool, str]:
    iterations = run.iterations // MODES[run.mode].slowness
    command = [*prefix, str(program), "--seed", str(seed), "--threads", "4", "--iterations", str(iterations)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    return result.returncode == 0, f"{' '.join(command)}: status {result.returncode}\n{result.stderr}"


def outcome(run: Run) -> tuple[bool, str]:
    """Whether the run went as it should, and what it said. A planted bug should make it fail."""
    prefix = fixed_addresses() if run.mode == "tsan" else []
    with tempfile.TemporaryDirectory(prefix="fastpar-c-") as directory:
        try:
            program = build(run, Path(directory))
            results = [execute(run, program, seed, prefix) for seed in run.seeds]
        except (LookupError, ChildProcessError, subprocess.TimeoutExpired) as error:
            return False, str(error)
    passed = all(ok for ok, _ in results)
    return passed != bool(run.bug), "\n".join(said for ok, said in results if ok == bool(run.bug))


def report(run: Run) -> bool:
    start_s = time.monotonic()
    ok, said = outcome(run)
    print(f"{'ok' if ok else 'WRONG':5} {run.name} {time.monotonic() - start_s:.1f} s", flush=True)
    if not ok:
        print(said, flush=True)
    return ok


def main(words: list[str]) -> int:
    chosen = [run for run in runs() if not words or any(word in run.name for word in words)]
    start_s = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(report, chosen))
    print(f"{sum(results)} of {len(results)} as they should be, {time.monotonic() - start_s:.0f} s")
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
