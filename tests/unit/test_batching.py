"""The batch-size rule: the compiled class step by step, then whole runs in the simulator that drives it."""

import pytest

from bench.simulator import MS, PROCESSES, SHAPES, THREADS, US, Fixed, durations, simulate
from fastpar._core.batching import BatchSizer

OVERHEAD_NS = 5 * US
TARGET_NS = OVERHEAD_NS / 0.03


def fed(task_ns, n_batches=30, **options):
    """A sizer that has seen batches of its own size, of equal tasks."""
    sizer = BatchSizer(OVERHEAD_NS, **options)
    feed(sizer, task_ns, n_batches)
    return sizer


def feed(sizer, task_ns, n_batches):
    for _ in range(n_batches):
        n = sizer.next_size(-1, 2)
        sizer.observe(n, int(n * task_ns), int(task_ns))


# ---- the automatic size


def test_starts_with_one_task():
    sizer = BatchSizer(OVERHEAD_NS)
    assert sizer.current_size() == sizer.next_size(-1, 2) == sizer.next_size(1000, 2) == 1


@pytest.mark.parametrize("task_ns", [500, 1 * US, 10 * US, 30 * US, 100 * US])
def test_overhead_becomes_three_per_cent(task_ns):
    batch_ns = fed(task_ns).current_size() * task_ns
    assert TARGET_NS * 0.99 <= batch_ns <= TARGET_NS + task_ns


def test_long_tasks_go_one_by_one():
    assert fed(10 * MS).current_size() == 1


def test_grows_geometrically_and_never_beyond_the_evidence():
    sizer = BatchSizer(OVERHEAD_NS)
    sizes, n_seen = [], 0
    for _ in range(8):
        sizes.append(sizer.next_size(-1, 2))
        assert sizes[-1] <= max(1, 4 * n_seen)
        n_seen += sizes[-1]
        sizer.observe(sizes[-1], sizes[-1] * 100, 100)
    assert sizes[-1] == 512


@pytest.mark.parametrize("max_size", [1, 7, 4096])
def test_max_size_bounds_the_window(max_size):
    assert fed(1, max_size=max_size).current_size() == max_size


def test_falls_at_once_when_tasks_get_longer():
    sizer = fed(1 * US)
    for _ in range(3):  # of each batch one task ran, then its budget was gone
        sizer.observe(1, 10 * MS, 10 * MS)
    assert sizer.current_size() == 1


def test_recovers_when_tasks_get_shorter():
    sizer = fed(10 * MS)
    feed(sizer, 1 * US, 15)
    assert sizer.current_size() >= 100


def test_one_long_task_among_many_hardly_matters():
    sizer = fed(1 * US)
    n = sizer.current_size()
    sizer.observe(n, n * US + 5 * MS, 5 * MS)  # such as a wait for the GIL
    assert sizer.current_size() >= 0.9 * n


def test_a_clock_that_sees_nothing_or_goes_backwards_does_no_harm():
    sizer = BatchSizer(OVERHEAD_NS)
    for n_tasks, total_ns, longest_ns in [(0, 0, 0), (1, -5, -5), (1, 0, 0), (4, 0, 0), (8, 3, 9)]:
        sizer.observe(n_tasks, total_ns, longest_ns)
        assert 1 <= sizer.current_size() <= 512
        assert sizer.budget_ns() > 0


# ---- near the end


def test_batches_shrink_towards_a_known_end():
    sizer = fed(5 * US)
    assert [sizer.next_size(n_left, 4) for n_left in (10_000, 240, 80, 16, 1, 0)] == [34, 30, 10, 2, 1, 1]


def test_batches_worth_less_than_their_overhead_are_not_split():
    assert fed(100).next_size(8, 4) == 8


@pytest.mark.parametrize("n_left", [-1, 10**9])
def test_no_shrink_where_no_end_is_in_sight(n_left):
    sizer = fed(10 * US)
    assert sizer.next_size(n_left, 64) == sizer.current_size()


# ---- the budget, the overhead, the user's size


def test_budget_is_two_batch_lengths_and_less_near_the_end():
    sizer = fed(10 * US)
    assert sizer.budget_ns() == pytest.approx(2 * TARGET_NS, rel=1e-5)
    sizer.next_size(40, 4)
    assert sizer.budget_ns() == pytest.approx(100 * US, rel=1e-5)
    sizer.next_size(4, 4)
    assert sizer.budget_ns() == 10 * OVERHEAD_NS  # cutting a batch must stay cheap


def test_measured_overhead_is_followed_but_not_its_outliers():
    sizer = fed(1 * US)
    for i in range(400):
        sizer.observe_overhead(5 * MS if i % 2 else OVERHEAD_NS)
    assert sizer.budget_ns() < 2.5 * TARGET_NS
    for _ in range(400):
        sizer.observe_overhead(2 * OVERHEAD_NS)
    assert sizer.budget_ns() == pytest.approx(4 * TARGET_NS, rel=0.15)


@pytest.mark.parametrize(
    ("elapsed_ns", "batch_ns"), [(0, 100 * US), (10**12, 4 * TARGET_NS), (-(10**12), 100 * US)]
)
def test_measured_overhead_stays_near_the_prior(elapsed_ns, batch_ns):
    sizer = fed(1 * US)
    for _ in range(400):
        sizer.observe_overhead(elapsed_ns)
    assert sizer.budget_ns() == pytest.approx(2 * batch_ns, rel=1e-5)


def test_batches_are_never_longer_than_five_milliseconds():
    assert BatchSizer(10 * MS).budget_ns() == 2 * 5 * MS


@pytest.mark.parametrize("fixed", [1, 3, 100_000, 2**63 - 1])
def test_a_fixed_size_is_kept(fixed):
    sizer = fed(1 * MS, n_batches=0, fixed=fixed)
    sizer.observe(1, 10**9, 10**9)
    assert sizer.next_size(-1, 8) == sizer.next_size(2**63 - 1, 8) == sizer.current_size() == fixed
    assert sizer.next_size(2, 8) == min(2, fixed)
    assert sizer.budget_ns() == 2**63 - 1


@pytest.mark.parametrize("arguments", [(0,), (-1,), (float("nan"),), (1, -1), (1, 0, 0)])
def test_senseless_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="overhead_ns > 0"):
        BatchSizer(*arguments)


def test_handing_over_outweighs_tiny_tasks_only():
    assert not BatchSizer(OVERHEAD_NS).outweighs_tasks()
    assert fed(1 * US).outweighs_tasks()
    assert not fed(10 * US).outweighs_tasks()


# ---- whole runs


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_workers", [2, 8, 64])
@pytest.mark.parametrize("engine", [THREADS, PROCESSES], ids=lambda engine: engine.name)
def test_makespan_and_messages_are_within_the_aim(engine, n_workers, shape, known):
    """Makespan <= 1.10 bounds and one longest task, messages <= 5 %; each worker has work for 120 batches."""
    tasks = durations(shape, 1000 * n_workers, 4 * engine.overhead_ns, seed=1)
    outcome = simulate(tasks, n_workers, engine=engine, known=known)
    assert outcome.in_aim, outcome


def test_ten_tiny_tasks_take_four_messages():
    assert simulate([100.0] * 10, 2, engine=PROCESSES).n_batches == 4


def test_the_simulator_agrees_with_pencil_and_paper():
    outcome = simulate([10.0 * US, 20.0 * US, 30.0 * US], 2, Fixed)
    assert outcome.bound_ns == 30 * US
    assert outcome.n_batches == 3
    # The first worker runs 10 and 30, each after a message of 5; only the second waits at the queue, 0.2.
    assert outcome.makespan_ns == 50 * US
