"""Every contender of every case under pytest-benchmark, grouped by row; answers are asserted, times are not.

Contenders do not take turns here, so ratios are for `python -m bench report` to say.
"""

import pytest

from bench.harness import LEAST_ROUNDS, Case, Contender, LeftOutError, load_cases


def _name(case: Case, contender: Contender) -> str:
    return f"{case.row}-{case.what}-{contender.role}-{contender.name}".replace(" ", "_")


PAIRS = [
    pytest.param(case, contender, id=_name(case, contender)) for case in load_cases() for contender in case.contenders
]
MOST_ROUNDS = 10


@pytest.mark.timeout(600)  # joblib's share of a full run
@pytest.mark.parametrize(("case", "contender"), PAIRS)
def test_contender(benchmark, quick: bool, case: Case, contender: Contender) -> None:
    n = case.quick if quick else case.size
    benchmark.group = f"{case.row} {case.what}"
    benchmark.extra_info.update(role=contender.role, size=n)
    try:
        expected = case.expected(n) if case.expected else None
        with case.sampler(contender, n) as sample:
            rounds = LEAST_ROUNDS if quick else min(case.rounds, MOST_ROUNDS)
            figure, answer = benchmark.pedantic(sample, rounds=rounds, warmup_rounds=1)
    except LeftOutError as error:
        pytest.skip(str(error))
    benchmark.extra_info["figure"] = f"{figure * case.scale(n):.4g} {case.unit}"
    case.check(answer, expected, contender.name)
