"""Rates of judges and figures corrected by them, where labels and cases stand in groups."""

import numpy as np
import pytest

from penstock.evals.judges.rates import find_rates
from penstock.evals.judges.types import LabelledPair
from penstock.evals.statistics.correction import share_of
from penstock.evals.statistics.types import Interval, ScoredCase


def pairs_of(tp: int, fn: int, tn: int, fp: int, *, of_group: int = 1) -> list[LabelledPair]:
    """Labelled outputs; `of_group` that say the same are one group."""
    cells = [(1.0, 1.0)] * tp + [(1.0, 0.0)] * fn + [(0.0, 0.0)] * tn + [(0.0, 1.0)] * fp
    return [
        LabelledPair(
            item=str(n), human=human, judged=said, group=None if of_group == 1 else str(n // of_group)
        )
        for n, (human, said) in enumerate(cells)
    ]


def cases_of(values: list[float], groups: int | None = None) -> list[ScoredCase]:
    """Cases in so many groups, those of one group one after the other."""
    size = len(values) if groups is None else -(-len(values) // groups)
    return [
        ScoredCase(case_id=str(n), group=None if groups is None else f"g{n // size}", values=[value])
        for n, value in enumerate(values)
    ]


def width(found: Interval) -> float:
    assert found.low is not None
    assert found.high is not None
    return found.high - found.low


def test_the_corrected_share_is_made_from_the_share_itself_however_few_groups_there_are() -> None:
    rates = find_rates(pairs_of(90, 10, 85, 15))
    values = [1.0] * 37 + [0.0] * 63
    alone, grouped = rates.correct(cases_of(values)), rates.correct(cases_of(values, groups=3))
    assert alone.value == pytest.approx((0.37 - 0.15) / 0.75) == grouped.value
    assert width(grouped) > 2 * width(alone)


def test_cases_of_one_group_have_a_corrected_value_and_no_interval() -> None:
    found = find_rates(pairs_of(90, 10, 85, 15)).correct(cases_of([1.0] * 50 + [0.0] * 50, groups=1))
    assert found.value == pytest.approx(0.35 / 0.75)
    assert (found.low, found.high) == (None, None) and "all cases are in one group" in found.method


def test_all_yes_in_three_groups_is_worth_three_cases() -> None:
    rates = find_rates(pairs_of(90, 10, 85, 15))
    alone, grouped = rates.correct(cases_of([1.0] * 300)), rates.correct(cases_of([1.0] * 300, groups=3))
    assert alone.value == grouped.value == 1.0
    assert alone.low is not None and grouped.low is not None and grouped.low < alone.low - 0.3
    share = share_of(cases_of([1.0] * 300, groups=3))
    assert share is not None and (share.worth, share.freedom) == (3.0, 2.0)


def test_labels_that_go_by_group_are_worth_less() -> None:
    cases = cases_of([1.0] * 150 + [0.0] * 150)
    alone = find_rates(pairs_of(90, 10, 80, 20)).correct(cases)
    grouped = find_rates(pairs_of(90, 10, 80, 20, of_group=10)).correct(cases)
    assert alone.value == grouped.value and width(grouped) > 2 * width(alone)


def test_a_judge_right_in_most_of_few_groups_is_not_surely_better_than_chance() -> None:
    cases = cases_of([1.0] * 150 + [0.0] * 150)
    assert find_rates(pairs_of(70, 30, 70, 30)).correct(cases).value is not None
    found = find_rates(pairs_of(70, 30, 70, 30, of_group=10)).correct(cases)
    assert found.value is None and "better than chance" in found.method
    one = find_rates([*pairs_of(100, 0, 0, 0, of_group=100), *pairs_of(0, 0, 60, 5)]).correct(cases)
    assert one.value is None and "in one group" in one.method


def test_a_judge_lenient_in_some_groups_and_strict_in_others_is_known_less() -> None:
    def labelled(number: int, human: float, said: float) -> LabelledPair:
        return LabelledPair(item=f"{number} {human}", human=human, judged=said, group=str(number // 5))

    # in each fifth group it says yes to all, in each other fifth no to all: both rates are 0.8
    said = {0: (1.0, 1.0), 1: (0.0, 0.0)}
    pairs = [
        labelled(number, human, said.get(number // 5 % 5, (1.0, 0.0))[int(human == 0.0)])
        for number in range(200)
        for human in (1.0, 0.0)
    ]
    rates = find_rates(pairs)
    assert rates.sensitivity is not None and rates.sensitivity.value == 0.8
    assert rates.covariance < 0
    cases = cases_of([1.0, 0.0] * 500)
    apart = find_rates(
        [
            LabelledPair(
                item=each.item, human=each.human, judged=each.judged, group=f"{each.human}{each.group}"
            )
            for each in pairs
        ]
    )
    assert apart.covariance == 0 and width(rates.correct(cases)) > 1.08 * width(apart.correct(cases))


def test_corrected_intervals_hold_the_truth_though_labels_come_by_group() -> None:
    rng = np.random.default_rng(11)
    held = []
    for _ in range(150):
        truth = np.repeat(rng.random(40) < 0.5, 5)
        luck = np.repeat(rng.random(40), 5)
        said = np.where(truth, luck < 0.85, luck > 0.8)
        rates = find_rates(
            [
                LabelledPair(item=str(n), human=float(human), judged=float(judge), group=str(n // 5))
                for n, (human, judge) in enumerate(zip(truth, said, strict=True))
            ]
        )
        yes = rng.random(400) < 0.3
        judged = np.where(yes, rng.random(400) < 0.85, rng.random(400) > 0.8)
        found = rates.correct(cases_of([float(each) for each in judged]))
        if found.low is not None and found.high is not None:
            held.append(found.low <= 0.3 <= found.high)
    assert len(held) > 120 and np.mean(held) >= 0.93


def test_repeats_of_one_labelled_case_are_one_group() -> None:
    pairs = [
        LabelledPair(
            item=f"{n}",
            human=float(n // 4 % 2),
            judged=float(n // 4 % 2),
            evaluation_id="e",
            case_id=f"c{n // 4}",
        )
        for n in range(160)
    ]
    rates = find_rates(pairs)
    assert rates.sensitivity is not None and rates.sensitivity.worth == 20.0
