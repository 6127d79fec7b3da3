"""A small run of `bench/aa.py`: false alarms of a target compared with itself, coverage of intervals."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def aa() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_aa", ROOT / "bench" / "aa.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_target_compared_with_itself_is_seldom_called_different(aa: ModuleType) -> None:
    few = {
        name: aa.ALARMS[name]
        for name in ("binary, 200 cases", "6 groups", "ties in 96 % of 200 cases", "60 cases, 5 repeats")
    }
    for row in aa.simulate_alarms(200, seed=7, only=few):
        assert row["within"], row


def test_what_most_tools_do_would_be_noticed(aa: ModuleType) -> None:
    for row in aa.simulate_alarms(100, seed=7, only=aa.NAIVE):
        assert not row["within"], row


def test_intervals_hold_the_truth_as_often_as_they_promise(aa: ModuleType) -> None:
    few = ("share 0.97, 100 cases (Wilson)", "10 groups of 8, binary", "difference of paired shares, 50")
    for row in aa.simulate_coverage(200, seed=7, only={name: aa.COVERAGE[name] for name in few}):
        assert row["within"], row
