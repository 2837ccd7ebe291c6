"""Who takes part in a benchmark, and whose failure is an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

harness = pytest.importorskip("bench.harness")


def _case(role: str, run: Callable[[], object]) -> object:
    """A case between us, who answer 1 at once, and another contender of that role."""
    case = harness.Case("bench.cases.t01_fake", what="fake", unit="s", size=4, quick=2, target=harness.Target(1))
    case.answer(lambda n: 1)

    @case.fastpar
    def ours(n: int) -> Iterator[Callable[[], object]]:
        yield lambda: 1

    def other(n: int) -> Iterator[Callable[[], object]]:
        yield run

    getattr(case, role)(other)
    return case


def _fails_at_call(k: int) -> Callable[[], object]:
    calls = iter(range(1, 100))

    def run() -> object:
        if next(calls) == k:
            raise ConnectionError("the pool broke")
        return 1

    return run


@pytest.mark.parametrize("role", ["joblib", "rival"])
@pytest.mark.parametrize("call", [1, 3])
def test_another_library_that_fails_is_left_out_with_a_note(role: str, call: int) -> None:
    ours, other = harness.measure_case(_case(role, _fails_at_call(call)), quick=True)

    assert other.note == "failed with ConnectionError: the pool broke"
    assert other.rounds == []
    assert len(ours.rounds) == harness.LEAST_ROUNDS


@pytest.mark.parametrize("role", ["serial", "limit", "fastpar"])
def test_our_own_failures_are_errors(role: str) -> None:
    with pytest.raises(ConnectionError, match="the pool broke"):
        harness.measure_case(_case(role, _fails_at_call(3)), quick=True)


@pytest.mark.parametrize("role", ["joblib", "rival", "limit", "fastpar"])
def test_a_wrong_answer_is_an_error_whoever_gives_it(role: str) -> None:
    with pytest.raises(AssertionError, match="2 is wrong, not 1"):
        harness.measure_case(_case(role, lambda: 2), quick=True)
