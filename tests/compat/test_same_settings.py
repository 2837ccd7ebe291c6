"""Compatibility table, part 2: which backend and how many workers, by arguments and by context."""

import multiprocessing
import os
import subprocess
import sys

from rows import Table, check, raised

table = Table()


def name_of(lib, **options):
    return type(lib.Parallel(**options)._backend).__name__


def n_jobs_of(lib, **options):
    return lib.Parallel(**options).n_jobs


# -------------------------------------------------------------------------------------------------- n_jobs


@table.same([1, 1, 3, -1])
def n_jobs_as_given(lib):
    return [n_jobs_of(lib, n_jobs=n, backend="threading") for n in (None, 1, 3, -1)]


@table.same([1, 4, 1, True, True])
def effective_n_jobs(lib):
    with lib.parallel_config("threading"):
        n = [lib.effective_n_jobs(n) for n in (1, 4, None, -1, -2)]
    return [*n[:3], n[3] == lib.cpu_count(), n[4] == max(1, lib.cpu_count() - 1)]


@table.same("[1, 1] 1")
def joblib_multiprocessing_0(lib):
    """In an interpreter of its own, since it is read once."""
    code = (
        f"import os, {lib.__name__} as lib; "
        "pids = lib.Parallel(2, 'loky')(lib.delayed(os.getpid)() for _ in range(9)); "
        "print([lib.Parallel(2, name)._backend.effective_n_jobs(2) for name in ('threading', 'loky')], len(set(pids)))"
    )
    environment = {**os.environ, "JOBLIB_MULTIPROCESSING": "0", "PYTHONWARNINGS": "ignore"}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True).stdout.strip()


@table.same(1)
def far_too_negative_n_jobs(lib):
    with lib.parallel_config("threading"):
        return lib.effective_n_jobs(-10_000)


@table.same("ValueError")
def effective_n_jobs_zero(lib):
    with lib.parallel_config("threading"):
        return raised(lambda: lib.effective_n_jobs(0), ValueError)


@table.same([3, 3, 2])
def n_jobs_of_a_context(lib):
    with lib.parallel_config("threading", n_jobs=3):
        return [n_jobs_of(lib), n_jobs_of(lib, n_jobs=None), n_jobs_of(lib, n_jobs=2)]


@table.same((5, 3))
def effective_n_jobs_of_a_context(lib):
    with lib.parallel_config("threading", n_jobs=5):
        return lib.effective_n_jobs(None), lib.effective_n_jobs(3)


@table.same(True)
def cpu_count_is_bounded_by_affinity(lib):
    return 1 <= lib.cpu_count() <= len(os.sched_getaffinity(0))


@table.same(True)
def physical_cores(lib):
    return 1 <= lib.cpu_count(only_physical_cores=True) <= lib.cpu_count()


# ---------------------------------------------------------------------------------------- prefer and require


@table.same(["ThreadingBackend"] * 4)
def threads_wanted(lib):
    wishes = ({"backend": "threading"}, {"prefer": "threads"}, {"require": "sharedmem"})
    names = [name_of(lib, n_jobs=2, **wish) for wish in wishes]
    with lib.parallel_config("threading"):
        names.append(name_of(lib, n_jobs=2, prefer="processes"))  # a hint; the context has a name
    return names


@table.same(["ValueError"] * 3)
def wishes_nobody_can_fulfil(lib):
    return [
        raised(lambda wish=wish: lib.Parallel(n_jobs=2, **wish), ValueError)
        for wish in (
            {"prefer": "processes", "require": "sharedmem"},
            {"prefer": "gpu"},
            {"require": "magic"},
        )
    ]


@table.same("ValueError")
def unknown_backend(lib):
    return raised(lambda: lib.Parallel(n_jobs=2, backend="abacus"), ValueError)


@table.same("ValueError")
def unknown_backend_in_a_context(lib):
    return raised(lambda: lib.parallel_config("abacus"), ValueError)


@table.same("TypeError")
def unhashable_backend(lib):
    return raised(lambda: lib.Parallel(n_jobs=2, backend=[]), TypeError)


@table.same(("ThreadingBackend", 1, None))
def active_backend_inside_a_task(lib):
    def look(_):
        backend, n_jobs = lib.parallel.get_active_backend()
        return type(backend).__name__, backend.nesting_level, n_jobs

    return lib.Parallel(n_jobs=2, backend="threading")(lib.delayed(look)(i) for i in range(2))[0]


@table.same([("ThreadingBackend", 1), ("SequentialBackend", 2), ("SequentialBackend", 3)])
def nested_backends(lib):
    backend, chain = lib.parallel.ThreadingBackend(nesting_level=0), []
    for _ in range(2):
        backend, _ = backend.get_nested_backend()
        chain.append((type(backend).__name__, backend.nesting_level))
    with lib.parallel_config(lib.parallel.ThreadingBackend(nesting_level=2)):
        backend, _ = lib.parallel.get_active_backend()[0].get_nested_backend()
    return [*chain, (type(backend).__name__, backend.nesting_level)]


# ------------------------------------------------------------------------------------------------- contexts


@table.same(("ThreadingBackend", 3))
def entering_parallel_backend(lib):
    with lib.parallel_backend("threading", n_jobs=3) as (backend, n_jobs):
        return type(backend).__name__, n_jobs


@table.same(-1)
def parallel_backend_means_all_workers(lib):
    with lib.parallel_backend("threading"):
        return n_jobs_of(lib)


@table.same([2, 3, 2, 1])
def contexts_nest(lib):
    seen = []
    with lib.parallel_config("threading", n_jobs=2):
        seen.append(n_jobs_of(lib))
        with lib.parallel_config(n_jobs=3):
            seen.append(n_jobs_of(lib))
        seen.append(n_jobs_of(lib))
    return [*seen, n_jobs_of(lib, backend="threading")]


@table.same("ThreadingBackend")
def inner_context_keeps_the_backend(lib):
    with lib.parallel_config("threading"), lib.parallel_config(n_jobs=2):
        return name_of(lib)


@table.same((4, 1))
def contexts_without_with(lib):
    context = lib.parallel_config("threading", n_jobs=4)
    inside = n_jobs_of(lib)
    context.unregister()
    return inside, n_jobs_of(lib, backend="threading")


@table.same((20, 0, 5))
def verbose_of_a_context(lib):
    with lib.parallel_config(backend="threading", verbose=20):
        inside, explicit = lib.Parallel().verbose, lib.Parallel(verbose=5).verbose
    return inside, lib.Parallel().verbose, explicit


@table.same({"max_nbytes": 2**20, "mmap_mode": "r", "temp_folder": None})
def defaults_of_the_memory_options(lib):
    return options_of(lib.Parallel())


@table.same({"max_nbytes": 10 * 2**10, "mmap_mode": "c", "temp_folder": "/scratch"})
def memory_options_of_a_context(lib):
    with lib.parallel_config("threading", max_nbytes="10K", mmap_mode="c", temp_folder="/scratch"):
        return options_of(lib.Parallel())


@table.same({"max_nbytes": None, "mmap_mode": None, "temp_folder": None})
def none_overrides_a_context(lib):
    with lib.parallel_config("threading", max_nbytes="10K", mmap_mode="c", temp_folder="/scratch"):
        return options_of(lib.Parallel(max_nbytes=None, mmap_mode=None, temp_folder=None))


def options_of(parallel):
    return {name: parallel._backend_kwargs[name] for name in ("max_nbytes", "mmap_mode", "temp_folder")}


@table.same(["ValueError", "ValueError"])
def parameters_without_a_backend(lib):
    return [
        raised(lambda: lib.parallel_config(n_jobs=2, shards=3), ValueError),
        raised(lambda: lib.parallel_config(n_jobs=2, inner_max_num_threads=1), ValueError),
    ]


@table.same(("ThreadingBackend", 2))
def active_backend(lib):
    with lib.parallel_config("threading", n_jobs=2):
        backend, n_jobs = lib.parallel.get_active_backend()
    return type(backend).__name__, n_jobs


@table.same((True, True, False))
def attributes_of_the_threading_backend(lib):
    with lib.parallel_backend("threading") as (backend, _):
        return backend.supports_sharedmem, backend.uses_threads, backend.supports_timeout is False


@table.same([1, 2])
def public_names_of_the_parallel_module(lib):
    parallel = lib.parallel
    assert issubclass(parallel.ThreadingBackend, parallel.ParallelBackendBase)
    assert issubclass(parallel.FallbackToBackend, Exception)
    assert parallel.BACKENDS["threading"] is parallel.ThreadingBackend
    calls = parallel.BatchedCalls(
        [(abs, (-1,), {}), (abs, (2,), {})], (parallel.ThreadingBackend(nesting_level=1), None)
    )
    assert len(calls) == 2 and calls.items[0] == (abs, (-1,), {})
    return calls()


# ------------------------------------------------------------------------------------------------ differences


@table.differs(
    joblib=None,
    fastpar="TypeError",
    why="n_jobs=2.7 is a slip; joblib reads 2",
)
def fractional_n_jobs(lib):
    return raised(lambda: lib.Parallel(n_jobs=2.7), TypeError)


@table.differs(
    joblib="AssertionError",
    fastpar="ValueError",
    why="an assertion disappears under python -O, and is no answer to a user's mistake",
)
def inner_threads_where_they_cannot_be_limited(lib):
    return raised(lambda: lib.parallel_config("sequential", inner_max_num_threads=1), ValueError, AssertionError)


@table.differs(
    joblib=8,
    fastpar=1,
    why="workers on every CPU leave none for calls inside their tasks; joblib starts 8 threads in each",
)
def n_jobs_inside_a_task(lib):
    run = lib.Parallel(n_jobs=lib.cpu_count() + 1, backend="threading")
    return run(lib.delayed(lib.effective_n_jobs)(8) for _ in range(2))[0]


@table.differs(
    joblib=None,
    fastpar="TypeError",
    why="an argument that nobody reads is a slip of the pen",
)
def misspelt_argument(lib):
    return raised(lambda: lib.Parallel(n_jobs=2, backend="threading", batchsize=3), TypeError)


@table.differs(
    joblib="LokyBackend",
    fastpar="ProcessBackend",
    why="the workers are ours, not loky's",
)
def default_backend(lib):
    return name_of(lib, n_jobs=2)


@table.same([2, 2])
def backends_of_processes(lib):
    return [lib.Parallel(n_jobs=2, backend=name).n_jobs for name in ("loky", "multiprocessing")]


@table.same(2)
def context_of_multiprocessing(lib):
    return lib.Parallel(n_jobs=2, backend=multiprocessing.get_context("spawn")).n_jobs


@table.tests()
def test_settings(row, library, expected):
    check(row, library, expected)
