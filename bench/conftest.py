"""pytest over the cases: `--quick`, or FASTPAR_BENCH_QUICK=1, for a smoke test."""

import os

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="bench: small and short, as a smoke test")


@pytest.fixture(scope="session")
def quick(pytestconfig: pytest.Config) -> bool:
    return pytestconfig.getoption("--quick") or "FASTPAR_BENCH_QUICK" in os.environ
