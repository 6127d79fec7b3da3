"""With very many clusters less is resampled: what stands for it is within the chance of resampling, and gives way where it is not."""

import numpy as np
import pytest

from penstock.evals.statistics import resampling
from penstock.evals.statistics.resampling import bootstrap, flip_signs, swap_sides
from penstock.evals.statistics.types import FloatArray
from tests.evals.statistics.draws import Ratio


def test_a_figure_of_very_many_cases_needs_no_resampling_unless_few_carry_it() -> None:
    rng = np.random.default_rng(18)
    sums = np.stack([rng.gamma(2.0, 1.0, 1_500), rng.gamma(3.0, 1.0, 1_500)], axis=1)
    fast = bootstrap(sums, Ratio().reduce, np.random.default_rng(0))
    slow = bootstrap(sums[:999], Ratio().reduce, np.random.default_rng(0))
    again = bootstrap(sums[:999], Ratio().reduce, np.random.default_rng(1))
    assert fast is not None
    assert slow is not None
    assert again is not None
    assert fast.method(is_grouped=False) == "bootstrap ABC by case"
    assert slow.method(is_grouped=True) == "bootstrap BCa by group, 10,000"
    rare = np.stack([rng.binomial(1, 0.002, 1_500), np.ones(1_500)], axis=1).astype(float)
    found = bootstrap(rare, Ratio().reduce, np.random.default_rng(0))
    assert found is not None
    assert found.method(is_grouped=False) == "bootstrap BCa by case, 10,000"


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_what_stands_for_resampling_is_within_the_chance_of_it(
    level: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(19)
    hits = rng.gamma(0.5, 1.0, 1_500)
    sums = np.stack([hits, hits + rng.gamma(0.5, 1.0, 1_500)], axis=1)
    fast = bootstrap(sums, Ratio().reduce, np.random.default_rng(0))
    monkeypatch.setattr(resampling, "MANY", 10_000)
    slow = bootstrap(sums, Ratio().reduce, np.random.default_rng(0))
    assert fast is not None
    assert slow is not None
    assert (fast.line is None, slow.line is None) == (False, True)
    error = float(np.std(slow.figures))
    assert fast.interval(level) == pytest.approx(slow.interval(level), abs=0.1 * error)


def test_flipped_signs_of_very_many_clusters_are_normal_unless_one_outweighs_them() -> None:
    sums = np.random.default_rng(5).normal(0.03, 1, 5_000)
    p, method = flip_signs(sums, np.random.default_rng(0))
    signs = np.random.default_rng(1).choice((-1.0, 1.0), size=(2_000, 5_000))
    assert method == "sign flips, normal"
    assert p == pytest.approx(np.mean(np.abs(signs @ sums) >= abs(sums.sum())), abs=0.04)
    assert flip_signs(sums + 9.0, np.random.default_rng(0))[0] == 1 / 10_001
    assert flip_signs(np.append(sums, 50.0), np.random.default_rng(0))[1] == "sign flips, 10,000"


def test_sides_of_very_many_clusters_are_swapped_one_by_one_only_where_the_figure_bends() -> None:
    rng = np.random.default_rng(6)
    baseline = np.stack([rng.binomial(9, 0.5, 1_500), np.full(1_500, 9.0)], axis=1).astype(float)
    candidate = np.stack([rng.binomial(8, 0.51, 1_500), np.full(1_500, 8.0)], axis=1).astype(float)
    fast = swap_sides(baseline, candidate, Ratio().reduce, np.random.default_rng(0))
    slow = swap_sides(baseline, candidate, _rough, np.random.default_rng(0))
    assert fast is not None
    assert slow is not None
    assert (fast[1], slow[1]) == ("swapped sides, normal", "swapped sides, 10,000")
    assert fast[0] == pytest.approx(slow[0], abs=0.02)


def _rough(sums: FloatArray) -> FloatArray:
    """The ratio in steps so small that no test tells, but a difference of one cluster does."""
    return np.round(Ratio().reduce(sums), 4)
