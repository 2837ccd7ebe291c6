"""Many threads make many calls of every kind at once, and each call must do what it does alone.

    python tests/stress/stress_parallel.py --seed 1 --threads 16 --iterations 200

The calls are generated from the seed before the first thread starts, so a failing run can be repeated up to the
scheduling. Status 0: every call did what it should. A failure in any thread ends the program with its traceback and the
call that failed.
"""

import argparse
import gc
import itertools
import random
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from fastpar import Parallel, delayed


class OopsError(Exception):
    """What tasks and sources raise."""


class WrongOutcomeError(AssertionError):
    """A call that did not do what it should."""


@dataclass(frozen=True)
class Call:
    """One call: its kind, its size, and the settings of its `Parallel`."""

    kind: str
    n_tasks: int
    place: int  # where an error happens, or after how many results a generator is closed
    n_jobs: int
    batch_size: int | str
    pre_dispatch: int | str

    def parallel(self, **options):
        settings = {"n_jobs": self.n_jobs, "batch_size": self.batch_size, "pre_dispatch": self.pre_dispatch}
        return Parallel(**settings, backend="threading", **options)

    @classmethod
    def draw(cls, rng):
        n_tasks = rng.choice([1, 2, 10, 50, 300])
        return cls(
            kind=rng.choice(sorted(KINDS)),
            n_tasks=n_tasks,
            place=rng.randrange(n_tasks),
            n_jobs=rng.choice([1, 2, 2, 3, 4]),
            batch_size=rng.choice(["auto", "auto", 1, 5]),
            pre_dispatch=rng.choice(["2 * n_jobs", "all", 1, 6]),
        )


def square(x):
    return x * x


def square_or_raise(x, forbidden):
    if x == forbidden:
        raise OopsError(x)
    return x * x


def tasks(call):
    return (delayed(square)(x) for x in range(call.n_tasks))


def squares(n):
    return [x * x for x in range(n)]


def check(right, said):
    if not right:
        raise WrongOutcomeError(said)


# ------------------------------------------------------------------------------------------ kinds of calls


def make_list(call):
    check(call.parallel()(tasks(call)) == squares(call.n_tasks), "wrong list")


def make_list_from_list(call):
    check(call.parallel()(list(tasks(call))) == squares(call.n_tasks), "wrong list")


def consume_generator(call):
    check(list(call.parallel(return_as="generator")(tasks(call))) == squares(call.n_tasks), "wrong results")


def consume_unordered(call):
    results = sorted(call.parallel(return_as="generator_unordered")(tasks(call)))
    check(results == squares(call.n_tasks), "wrong results")


def close_early(call):
    parallel = call.parallel(return_as="generator")
    results = parallel(tasks(call))
    taken = list(itertools.islice(results, call.place))
    results.close()
    check(taken == squares(call.place), "wrong results before the close")
    check(list(parallel(tasks(call))) == squares(call.n_tasks), "wrong results of the call after the close")


def drop_early(call):
    results = call.parallel(return_as="generator_unordered")(tasks(call))
    for _ in itertools.islice(results, call.place):
        pass
    del results


def raise_in_task(call):
    try:
        call.parallel()(delayed(square_or_raise)(x, call.place) for x in range(call.n_tasks))
    except OopsError as error:
        check(error.args == (call.place,), f"the error of another call: {error}")
        check(len(error.__notes__) == 1, f"notes: {error.__notes__}")
    else:
        raise WrongOutcomeError("no error")


def raise_in_source(call):
    def source():
        yield from itertools.islice(tasks(call), call.place)
        raise OopsError(call.place)

    taken = []
    try:
        for result in call.parallel(return_as="generator")(source()):
            taken.append(result)
    except OopsError as error:
        check(error.args == (call.place,), f"the error of another call: {error}")
        check(taken == squares(len(taken)), "wrong results before the error")
    else:
        raise WrongOutcomeError("no error")


def nest(call):
    def inner(x):
        return Parallel(n_jobs=2, backend="threading")(delayed(square)(y) for y in range(x % 5))

    n = min(call.n_tasks, 10)
    results = call.parallel()(delayed(inner)(x) for x in range(n))
    check(results == [squares(x % 5) for x in range(n)], "wrong lists from inside tasks")


def have_time(call):
    check(call.parallel(timeout=100)(tasks(call)) == squares(call.n_tasks), "wrong list")


def run_out_of_time(call):
    gate = threading.Event()
    n_jobs = max(2, call.n_jobs)
    try:
        Parallel(n_jobs=n_jobs, timeout=0.002, backend="threading")(delayed(gate.wait)() for _ in range(call.n_tasks))
    except TimeoutError:
        pass
    else:
        raise WrongOutcomeError("no timeout")
    finally:
        gate.set()


KINDS: dict[str, Callable[[Call], object]] = {
    function.__name__: function
    for function in (
        make_list,
        make_list_from_list,
        consume_generator,
        consume_unordered,
        close_early,
        drop_early,
        raise_in_task,
        raise_in_source,
        nest,
        have_time,
        run_out_of_time,
    )
}


def run_calls(calls, start, failures):
    """Make the calls one after the other; append the first failure to `failures`, for the main thread to see."""
    start.wait()
    for call in calls:
        if failures:
            return
        try:
            KINDS[call.kind](call)
        except BaseException as error:
            failures.append((call, error))


def run(seed, n_threads, n_iterations):
    """Make `n_iterations` calls in each of `n_threads` threads; the failures, as pairs of call and error."""
    rng = random.Random(seed)
    programs = [[Call.draw(rng) for _ in range(n_iterations)] for _ in range(n_threads)]
    start, failures = threading.Barrier(n_threads), []
    threads = [threading.Thread(target=run_calls, args=(calls, start, failures)) for calls in programs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()  # generators that were dropped in a cycle with their error
    return failures


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--iterations", type=int, default=200)
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    start_s = monotonic()
    failures = run(options.seed, options.threads, options.iterations)
    for call, error in failures:
        print(call)
        traceback.print_exception(error)
    if failures:
        return 1
    n_calls = options.threads * options.iterations
    print(f"{n_calls} calls as they should be, {monotonic() - start_s:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
