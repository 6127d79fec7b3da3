"""Judges held against people: figures with intervals, refusals that say how much is missing, corrected estimates."""

import csv
import io
import random
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest
from sqlalchemy import Engine

from penstock.base.errors import InvalidInput
from penstock.evals.errors import UnknownCase
from penstock.evals.judges.benchmark import count_pairs, rank_judges
from penstock.evals.judges.bias import (
    correlate,
    kappa_at,
    measure_kinship,
    measure_length_bias,
    place_figure,
    share_figure,
)
from penstock.evals.judges.calibration import Judged, agree_on, calibrate
from penstock.evals.judges.choosing import Candidate, choose_next
from penstock.evals.judges.errors import LabelInvalid, NotComparable, TooFewLabels, UnknownItem
from penstock.evals.judges.labels import LabelService, make_item, read_rows, write_csv
from penstock.evals.judges.service import JudgeService
from penstock.evals.judges.types import JudgeCalibration, Label, LabelDraft
from penstock.evals.scorers.types import ScorerInfo
from penstock.evals.statistics.estimates import estimate as estimate_raw
from penstock.evals.statistics.types import PlainMeasure, ScoredCase
from penstock.evals.types import (
    AnsweredCase,
    CasePage,
    CaseQuery,
    CaseView,
    EstimateReport,
    EvaluationRecord,
    ScoreColumn,
)
from penstock.main.erasure_places import clear_labels
from penstock.spec.cases import Case, Output
from penstock.spec.evaluations import Estimate, EvaluationSpec, ScorerSpec, TargetSpec
from penstock.spec.scores import Score, SpanScore
from penstock.store.spans.upkeep_types import Subject
from penstock.traces.upkeep.types import Doomed
from tests.evals.judges.fakes import FakeModel, fail

SPEC = ScorerSpec(scorer="closed_qa", parameters={"model": "strong"})


@pytest.mark.parametrize(
    ("prevalence", "kappa"), [(0.5, 0.80), (0.7, 0.77), (0.9, 0.59), (0.95, 0.43), (0.98, 0.24)]
)
def test_kappa_moves_with_prevalence_as_published(prevalence: float, kappa: float) -> None:
    found = kappa_at(0.9, 0.9, prevalence)
    assert found is not None and round(found, 2) == kappa


def item(
    number: int, human: float | str | None, *, length: int = 20, drawn: Any = "random", **more: Any
) -> Any:
    word = human if isinstance(human, str) else None
    value = None if word or human is None else float(human)  # type: ignore[arg-type]
    case = Case(id=f"c{number}", inputs={"input": "q"}, group=more.pop("group", None))
    output = Output(case_id=case.id, text="x" * length, model=more.pop("model", None))
    made = make_item(case, output, evaluation_id="ev")
    label = Label(item=made.id, name="ok", rater="ada", value=value, label=word, drawn=drawn)
    labels = [] if human is None else [label]
    return type(made)(**{**{name: getattr(made, name) for name in made.__struct_fields__}, "labels": labels})


def judged(number: int, human: Any, value: float | None, **more: Any) -> Judged:
    score = Score(
        name="j",
        value=value,
        status="error" if value is None else "scored",
        scorer="j@1#0",
        label=more.pop("label", None),
        evidence=more.pop("evidence", {}),
        cost_usd=Decimal("0.001"),
    )
    return Judged(item=item(number, human, **more), score=score)


def run(rows: Sequence[Judged], **more: Any) -> JudgeCalibration:
    given: dict[str, Any] = {"identity": "cal_1", "name": "ok", "spec": SPEC, "made_ns": 1, "min_labels": 20}
    return calibrate(rows, info=more.pop("info", ScorerInfo(name="j")), **{**given, **more})


def table(tp: int, fn: int, tn: int, fp: int) -> list[Judged]:
    cells = [(1, 1.0)] * tp + [(1, 0.0)] * fn + [(0, 0.0)] * tn + [(0, 1.0)] * fp
    return [judged(number, human, value) for number, (human, value) in enumerate(cells)]


def test_rates_confusion_and_correction_of_the_published_example() -> None:
    found = run(table(90, 10, 85, 15))
    assert (found.n_items, found.kind, found.threshold, found.is_usable) == (200, "binary", 0.5, True)
    assert found.sensitivity and found.sensitivity.value == 0.9 and found.sensitivity.low is not None
    assert found.specificity and found.specificity.value == 0.85
    assert found.confusion == [[85, 15], [10, 90]] and found.labels == ["no", "yes"]
    assert found.kappa and found.kappa.value == pytest.approx(0.75)
    assert found.cost_usd == Decimal("0.200") and len(found.pairs) == 200
    cases = [ScoredCase(case_id=str(n), values=[float(n < 750)]) for n in range(1000)]
    estimate = corrected(found, cases)
    assert estimate.value == pytest.approx(0.80) and estimate.n == 1000
    assert estimate.low is not None and estimate.high is not None
    assert (estimate.high - estimate.low) / 2 / 1.96 == pytest.approx(0.038, abs=0.004)


def corrected(
    found: JudgeCalibration, cases: Sequence[ScoredCase], evaluation_id: str | None = None
) -> Estimate:
    from penstock.evals.judges.correcting import correct_estimate

    estimate = correct_estimate(found, cases, name="j", evaluation_id=evaluation_id)
    assert estimate is not None
    return estimate


def test_a_corrected_share_beside_a_mean_says_that_it_is_a_share() -> None:
    cells = [(1, 5.0)] * 45 + [(1, 2.0)] * 5 + [(0, 1.0)] * 45 + [(0, 4.0)] * 5
    rows = [judged(n, human, value) for n, (human, value) in enumerate(cells)]
    found = run(rows, info=ScorerInfo(name="j", low=1.0, high=5.0))
    assert found.threshold == 3.0
    stars = [ScoredCase(case_id=str(n), values=[4.0 if n % 5 else 2.0]) for n in range(100)]
    estimate = corrected(found, stars)
    assert estimate.value == pytest.approx(0.875) and estimate.scale == "binary"
    assert estimate.method.startswith("share of yes (3 or more; 0.8 as judged), Rogan-Gladen")
    plain = corrected(found, [ScoredCase(case_id=str(n), values=[float(n % 2)]) for n in range(100)])
    assert plain.method == "Rogan-Gladen, 100 labels"


def test_a_corrected_figure_counts_what_is_missing_as_the_raw_one_does() -> None:
    cases = [
        ScoredCase(case_id="a", values=[1.0, 0.0]),
        ScoredCase(case_id="b", values=[1.0], n_errors=1),
        ScoredCase(case_id="c", n_errors=1, n_undefined=1),
    ]
    found, raw = corrected(run(table(90, 10, 85, 15)), cases), estimate_raw(cases, PlainMeasure(name="j"))
    names = ("n", "n_cases", "n_undefined", "n_errors", "n_skipped", "n_partial", "scored_share", "coverage")
    assert [getattr(found, name) for name in names] == [getattr(raw, name) for name in names]
    assert found.n_undefined + found.n_errors == 1 and found.coverage == 0.5


def test_cases_of_few_groups_make_the_corrected_interval_wider() -> None:
    found = run(table(90, 10, 85, 15))
    alone = [ScoredCase(case_id=str(n), values=[float(n % 2)]) for n in range(200)]
    grouped = [ScoredCase(case_id=str(n), group=str(n // 50), values=[float(n < 100)]) for n in range(200)]
    narrow, wide = corrected(found, alone), corrected(found, grouped)
    assert (
        wide.high is not None and wide.low is not None and narrow.high is not None and narrow.low is not None
    )
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_a_judge_that_tells_nothing_is_named_and_never_corrected() -> None:
    found = run(table(50, 50, 50, 50))
    assert not found.is_usable and any("chance" in sentence for sentence in found.sentences)
    estimate = corrected(
        found, [ScoredCase(case_id="a", values=[1.0]), ScoredCase(case_id="b", values=[0.0])]
    )
    assert estimate.value is None and "chance" in estimate.method


def test_too_few_labels_say_how_many_more() -> None:
    with pytest.raises(TooFewLabels, match="Label 5 more") as told:
        run(table(5, 1, 8, 1))
    assert told.value.fields["missing"] == 5
    with pytest.raises(TooFewLabels, match="labelled no"):
        run(table(30, 5, 2, 1))
    with pytest.raises(TooFewLabels, match="no score to 30 others"):
        run([judged(n, n % 2, None) for n in range(30)])


def test_labels_chosen_for_what_stood_out_tell_no_rates() -> None:
    rows = table(20, 5, 20, 5)
    more = [judged(100 + n, 1, 0.0, drawn="chosen") for n in range(40)]
    found = run([*rows, *more])
    assert found.n_items == 50 and found.n_chosen == 40
    assert found.sensitivity and found.sensitivity.value == 0.8


def test_people_who_are_split_say_nothing_and_their_agreement_is_told() -> None:
    def label(rater: str, value: float, at: int = 0) -> Label:
        return Label(item="i", name="ok", rater=rater, value=value, made_ns=at)

    assert agree_on([label("a", 1), label("b", 0)]) is None
    assert agree_on([label("a", 1), label("b", 1), label("c", 0)]) == 1.0
    assert agree_on([label("a", 0, 1), label("a", 1, 2)]) == 1.0
    assert agree_on([label("a", 3), label("b", 4)]) == 3.5
    assert agree_on([]) is None


def test_numbers_are_related_and_corrected_by_prediction() -> None:
    rng = random.Random(1)
    truths = [float(rng.randint(1, 5)) for _ in range(150)]
    rows = [judged(n, truth, min(5.0, truth * 0.5 + 2 + rng.random())) for n, truth in enumerate(truths)]
    found = run(rows, info=ScorerInfo(name="j", low=1.0, high=5.0))
    assert found.kind == "numeric" and found.agreement.value is not None and found.agreement.value > 0.8
    assert found.mean_error and found.mean_error.value is not None
    own = [ScoredCase(case_id=f"c{n}", values=[row.score.value or 0.0]) for n, row in enumerate(rows)]
    others = [ScoredCase(case_id=f"o{n}", values=[row.score.value or 0.0]) for n, row in enumerate(rows * 4)]
    estimate = corrected(found, [*own, *others], "ev")
    assert estimate.value is not None and estimate.low is not None and estimate.high is not None
    assert estimate.low < sum(truths) / 150 < estimate.high
    assert estimate.n == 750 and "150 labels" in estimate.method


def test_labels_of_another_evaluation_do_not_make_the_mean_of_this_one() -> None:
    rng = random.Random(3)
    rows = [judged(n, 0.4 * rng.random(), 0.5 + 0.1 * rng.random()) for n in range(60)]
    found = run(rows)
    better = [ScoredCase(case_id=f"c{n}", values=[0.9]) for n in range(500)]
    assert found.kind == "numeric"
    for evaluation in ("newer", None):
        estimate = corrected(found, better, evaluation)
        assert (estimate.value, estimate.low, estimate.high) == (None, None, None)
        assert "0 of its own outputs" in estimate.method and estimate.n == 500
    assert corrected(found, better, "ev").value is not None
    few = corrected(found, better[45:], "ev")
    assert few.value is None and "15 of its own outputs" in few.method


def test_a_case_labelled_in_each_of_its_repeats_is_one_label() -> None:
    rng = random.Random(5)
    truths = [rng.random() for _ in range(40)]
    found = run([judged(n, truth, truth + 0.1 * (n % 3)) for n, truth in enumerate(truths)])
    doubled = msgspec.structs.replace(found, pairs=[pair for pair in found.pairs for _ in range(4)])
    cases = [ScoredCase(case_id=f"c{n}", values=[0.5 + n % 2 * 0.1]) for n in range(40)]
    once, four = corrected(found, cases, "ev"), corrected(doubled, cases, "ev")
    assert once.low is not None and four.low is not None and four.low == pytest.approx(once.low, abs=1e-9)


def test_words_are_compared_as_words_and_have_no_corrected_figure() -> None:
    rows = [judged(n, ("a", "b", "c")[n % 3], 0.5, label=("a", "b", "b")[n % 3]) for n in range(60)]
    found = run(rows)
    assert found.kind == "labels" and found.agreement.value == pytest.approx(2 / 3)
    assert found.labels == ["a", "b", "c"] and not found.is_usable


def test_a_liking_for_length_is_seen_apart_from_quality() -> None:
    rng = random.Random(2)
    human = [float(n % 2) for n in range(200)]
    fair = [h if rng.random() < 0.9 else 1 - h for h in human]
    long_when_good = [int(50 + 200 * h + rng.random() * 40) for h in human]
    plain = measure_length_bias(fair, long_when_good, human)
    assert plain.low is not None and plain.high is not None and plain.low < 0 < plain.high
    lengths = [int(20 + 300 * rng.random()) for _ in human]
    drawn_to_length = [float(h == 1 or length > 200) for h, length in zip(human, lengths, strict=True)]
    biased = measure_length_bias(drawn_to_length, lengths, human)
    assert biased.low is not None and biased.low > 0.2
    assert measure_length_bias([1.0] * 50, lengths[:50], human[:50]).value is None


def test_correlations_without_spread_or_with_few_outputs_are_undefined() -> None:
    assert correlate([1.0] * 30, list(range(30))).value is None
    assert correlate([1.0, 2.0], [1.0, 2.0]).value is None
    found = correlate(list(range(30)), list(range(30)))
    assert (found.value, found.low) == (1.0, None)


def test_kindness_to_its_own_model_is_told() -> None:
    human, is_own = [0.0, 1.0] * 40, [n < 40 for n in range(80)]
    kind = [1.0 if mine else truth for truth, mine in zip(human, is_own, strict=True)]
    found = measure_kinship(kind, human, is_own)
    assert found and found.value == 0.5 and found.low is not None and found.low > 0
    assert measure_kinship(kind, human, [False] * 80) is None


def test_kindness_is_claimed_of_no_few_answers_and_of_no_few_groups() -> None:
    few = measure_kinship([1.0, 0.98] + [0.5, 0.4] * 20, [0.5] * 42, [n < 2 for n in range(42)])
    assert few and few.value is not None and few.low is None and "2 outputs of its own" in few.method
    human, is_own = [0.0] * 240, [n < 120 for n in range(240)]
    kind = [0.3 * (n // 10 % 2) + 0.2 * mine for n, mine in enumerate(is_own)]
    alone = measure_kinship(kind, human, is_own)
    grouped = measure_kinship(kind, human, is_own, [str(n // 10) for n in range(240)])
    assert alone and alone.low is not None and grouped and grouped.low is not None
    assert alone.low > 0 and grouped.low < alone.low - 0.04
    assert (few_groups := measure_kinship(kind, human, is_own, [str(n // 30) for n in range(240)]))
    assert few_groups.low is None and "4 outputs in groups" in few_groups.method


def test_kindness_that_is_not_there_is_claimed_as_seldom_as_promised() -> None:
    rng = np.random.default_rng(4)
    found = [
        measure_kinship(list(rng.normal(0, 1, 60)), [0.0] * 60, [n < 10 for n in range(60)])
        for _ in range(1500)
    ]
    claimed = sum(each is not None and each.low is not None and each.low > 0 for each in found)
    assert claimed / 1500 < 0.035


def test_both_orders_of_a_pair_count_once_for_its_place_and_pairs_of_a_group_together() -> None:
    flip, fair = {"is_flip": True, "orders": ["a", "b"]}, {"is_flip": False, "orders": ["a", "a"]}
    rows = [judged(n, n % 2, n % 2, evidence=flip if n // 5 % 2 else fair) for n in range(60)]
    alone = run(rows).first_place
    grouped = run(
        [judged(n, n % 2, n % 2, group=str(n // 5), evidence=flip if n // 5 % 2 else fair) for n in range(60)]
    )
    assert alone and alone.n == 60 and alone.low is not None
    assert grouped.first_place and grouped.first_place.low is not None
    assert grouped.first_place.low < alone.low - 0.05
    assert grouped.flip_rate and "12 groups" in grouped.flip_rate.method
    wins = [(2, 0), (0, 2)] * 30
    doubled = share_figure([True, True, False, False] * 30)
    once = place_figure(wins)
    assert once.low is not None and doubled.low is not None and once.low < doubled.low - 0.02
    assert place_figure([(0, 0)]).value is None


def test_a_flip_rate_and_a_liking_for_the_first_place_are_told() -> None:
    flip = {"is_flip": True, "orders": ["a", "b"]}
    rows = [
        judged(n, n % 2, n % 2, evidence=flip if n < 30 else {"is_flip": False, "orders": ["a", "a"]})
        for n in range(60)
    ]
    found = run(rows)
    assert found.flip_rate and found.flip_rate.value == 0.5
    assert found.first_place and found.first_place.value == 0.75


def test_the_cheapest_judge_that_is_not_surely_worse_is_chosen() -> None:
    def calibration(stamp: str, hits: int, cost: str | None) -> JudgeCalibration:
        rows = table(hits // 2, 50 - hits // 2, hits // 2, 50 - hits // 2)
        found = run(rows, info=ScorerInfo(name=stamp))
        return type(found)(
            **{
                **{name: getattr(found, name) for name in found.__struct_fields__},
                "stamp": stamp,
                "cost_usd": None if cost is None else Decimal(cost),
            }
        )

    ranked = rank_judges(
        [calibration("cheap", 88, "0.01"), calibration("dear", 90, "1"), calibration("weak", 60, "0.001")],
        name="ok",
    )
    assert [row.calibration.stamp for row in ranked.rows] == ["dear", "cheap", "weak"]
    assert ranked.choice == "cheap" and ranked.rows[2].is_worse and not ranked.rows[1].is_worse
    assert ranked.n_items == 100 and "2 of 3 judges cannot be told apart" in ranked.sentence


def test_pairs_are_counted_with_an_interval_and_their_flips() -> None:
    def verdict(number: int, winner: str, is_flip: bool = False) -> Mapping[str, object]:
        return {
            "case_id": str(number),
            "group": None,
            "winner": winner,
            "is_flip": is_flip,
            "first_place_wins": 2 if is_flip else 1,
            "second_place_wins": 0 if is_flip else 1,
        }

    rows = [verdict(n, "candidate") for n in range(40)] + [verdict(40 + n, "tie", True) for n in range(20)]
    given: dict[str, Any] = {"baseline": "a", "candidate": "b", "judge": "p", "errors": {}, "cost_usd": None}
    found = count_pairs(rows, **given)
    assert (found.n_wins, found.n_losses, found.n_ties, found.n_flips) == (40, 0, 20, 20)
    assert found.win_rate.value == pytest.approx(5 / 6) and found.word == "better"
    assert found.first_place.value == pytest.approx(80 / 120)
    even = count_pairs([verdict(n, "candidate" if n % 2 else "baseline") for n in range(40)], **given)
    assert even.word == "undecided" and even.win_rate.value == 0.5
    none = count_pairs([], **given)
    assert none.win_rate.value is None and none.sentence == "No pair was judged."


def test_half_of_what_to_label_is_drawn_by_chance_and_the_rest_stands_out() -> None:
    def candidate(number: int, *values: float | None) -> Candidate:
        scores = {
            f"j{n}": Score(
                name=f"j{n}", value=value, status="error" if value is None else "scored", scorer="j"
            )
            for n, value in enumerate(values)
        }
        return Candidate(
            case_id=f"{number:03}",
            repeat=0,
            stratum="rare" if number % 10 == 0 else "usual",
            scores=scores,
            bounds=dict.fromkeys(scores, (0.0, 1.0)),
        )

    some = [candidate(n, 1.0, 1.0) for n in range(90)]
    telling = [candidate(90, 0.0, 1.0), candidate(91, 0.5, 0.6), candidate(92, None, 1.0)]
    found = choose_next([*some, *telling], n=20, seed=3)
    assert [choice.drawn for choice in found].count("random") >= 10 and len(found) == 20
    why = [choice.why for choice in found if choice.drawn == "chosen"]
    assert why and (why[0].startswith("judges disagree") or "undecided" in why[0] or "no score" in why[0])
    assert choose_next([*some, *telling], n=20, seed=3) == found
    assert len({choice.candidate.case_id for choice in found}) == 20
    assert len(choose_next(some[:5], n=20)) == 5 and choose_next([], n=5) == []
    assert {choice.why for choice in choose_next([*some, *telling], n=92)} == {"drawn by chance"}
    plain = choose_next(some, n=30, share_chosen=0.0)
    assert sum(choice.candidate.stratum == "rare" for choice in plain) == 3


def test_what_stands_out_is_drawn_by_chance_as_often_as_anything_else() -> None:
    def candidate(number: int, *, is_labelled: bool = False) -> Candidate:
        score = Score(name="j", value=0.5 if number < 30 else 1.0, status="scored", scorer="j")
        return Candidate(
            case_id=f"{number:03}",
            repeat=0,
            scores={"j": score},
            bounds={"j": (0.0, 1.0)},
            is_labelled=is_labelled,
        )

    def share(candidates: Sequence[Candidate]) -> float:
        drawn = [
            choice.candidate.case_id
            for seed in range(60)
            for choice in choose_next(candidates, n=40, seed=seed)
            if choice.drawn == "random"
        ]
        return sum(case_id < "030" for case_id in drawn) / len(drawn)

    few = [candidate(n) for n in range(24, 104)]  # 6 of 80 stand out, fewer than the 20 asked for
    assert share(few) == pytest.approx(6 / 80, abs=0.02)
    labelled = [candidate(n, is_labelled=n < 30) for n in range(100)]  # all 30 were labelled for standing out
    assert share(labelled) == pytest.approx(0.3, abs=0.04)
    found = choose_next(labelled, n=40)
    assert all(choice.drawn == "random" for choice in found) and len(found) == 40
    assert {choice.why for choice in found if choice.candidate.is_labelled} == {
        "drawn by chance; its label counts for rates once it is given again"
    }


class FakeEvaluations:
    """One evaluation of `n` cases."""

    def __init__(self, answers: Mapping[str, Sequence[str]]) -> None:
        self.answers = answers

    def cases(self, evaluation_id: str, query: CaseQuery | None = None) -> CasePage:
        texts = self.answers[evaluation_id]
        start = int((query and query.cursor) or 0)
        rows = [self._view(number, text) for number, text in enumerate(texts)][start : start + 30]
        more = str(start + 30) if start + 30 < len(texts) else None
        return CasePage(rows=rows, n_matching=len(texts), next_cursor=more)

    def case(self, evaluation_id: str, case_id: str) -> CaseView:
        number = int(case_id.removeprefix("c"))
        if number >= len(self.answers[evaluation_id]):
            raise UnknownCase("no")
        return self._view(number, self.answers[evaluation_id][number])

    def answered(self, evaluation_id: str) -> list[AnsweredCase]:
        return [
            AnsweredCase(case_id=f"c{number}", repeat=0, split=None, judged=[])
            for number, text in enumerate(self.answers[evaluation_id])
            if text
        ]

    @staticmethod
    def _view(number: int, text: str) -> CaseView:
        case = Case(id=f"c{number}", inputs={"input": f"question {number}"})
        status: Any = "ok" if text else "error"
        output = Output(case_id=case.id, text=text, status=status)
        return CaseView(position=number, case=case, outputs=[output], scores=[])


class FakeTraffic:
    """One trace, and what two people said of it and another."""

    def read(self, trace_id: str) -> tuple[Case, Output] | None:
        if trace_id != "a" * 32:
            return None
        return Case(id=trace_id, inputs={"input": "q"}), Output(case_id=trace_id, text="a")

    def feedback(self, name: str) -> Sequence[SpanScore]:
        return [
            SpanScore(name=name, label="thumbs_down", trace_id="a" * 32, time_ns=1, scorer="ada"),
            SpanScore(name=name, value=1.0, trace_id="b" * 32, time_ns=1, scorer="bo"),
        ]


@pytest.fixture
def engine(sqlite_engine: Engine) -> Engine:
    return sqlite_engine


def services(engine: Engine, model: FakeModel, answers: Mapping[str, Sequence[str]]) -> JudgeService:
    @asynccontextmanager
    async def tools() -> Any:
        yield model.tools

    evaluations = FakeEvaluations(answers)
    labels = LabelService(
        engine, evaluations=evaluations, traffic=FakeTraffic(), now_ns=iter(range(1, 10**6)).__next__
    )
    columns = ScoreColumn(name="j", stamp="x", source="model")
    scored = [ScoredCase(case_id=f"c{n}", values=[float(n % 2)]) for n in range(100)]
    return JudgeService(
        engine, labels, open_tools=tools, evaluations=evaluations, read_scored=lambda _, __: (scored, columns)
    )


def answers_of(n: int) -> list[str]:
    return ["good" if number % 2 else "bad" for number in range(n)]


def label_all(service: JudgeService, n: int) -> None:
    drafts = [
        LabelDraft(
            name="ok", label="pass" if number % 2 else "fail", evaluation="eval:ev", case_id=f"c{number}"
        )
        for number in range(n)
    ]
    service.labels.add(drafts, actor="ada")


def by_text(user: str) -> dict[str, Any]:
    return {"reason": "", "label": "yes" if "\ngood\n" in user else "no"}


def test_a_calibration_asks_once_keeps_verdicts_and_asks_again_only_for_errors(
    control_engine: Engine,
) -> None:
    broken = {"n": 0}

    def sometimes(user: str) -> Any:
        broken["n"] += 1
        return fail(500) if broken["n"] == 7 else by_text(user)

    model = FakeModel(by=sometimes)
    service = services(control_engine, model, {"ev": answers_of(60)})
    with pytest.raises(TooFewLabels, match="Nothing was asked"):
        service.calibrate(SPEC, "ok", min_labels=30)
    assert not model.calls
    label_all(service, 40)
    first = service.calibrate(SPEC, "ok", min_labels=30)
    assert first.n_errors == 1 and first.n_items == 39 and len(model.calls) == 40
    told: list[tuple[int, int]] = []
    second = service.calibrate(SPEC, "ok", min_labels=30, tell=lambda done, total: told.append((done, total)))
    assert second.n_errors == 0 and second.n_items == 40 and len(model.calls) == 41
    assert second.agreement.value == 1.0 and told == [(1, 1)]
    assert [each.id for each in service.calibrations(name="ok")] == [second.id, first.id]
    assert service.calibrations(stamp=second.stamp)[0].pairs == []
    assert len(service.calibration(second.id).pairs) == 40


def test_figures_of_a_calibrated_judge_are_corrected_beside_the_raw_ones(engine: Engine) -> None:
    service = services(engine, FakeModel(by=by_text), {"ev": answers_of(60)})
    label_all(service, 60)
    found = service.calibrate(SPEC, "ok", min_labels=50)
    spec = EvaluationSpec(name="e", target=TargetSpec(model="m"))
    column = ScoreColumn(name="closed_qa", stamp=found.stamp, source="model")
    other = ScoreColumn(name="plain", stamp="other@1#0", source="model")
    record = EvaluationRecord(id="ev", name="e", state="done", spec=spec, columns=[column, other])
    report = service.correct_report(record, EstimateReport(evaluation="ev", estimates=[]))
    assert [estimate.name for estimate in report.corrected] == ["closed_qa"]
    assert report.corrected[0].value == pytest.approx(0.5)
    assert "Rogan-Gladen, 60 labels" in report.corrected[0].method and not report.notes
    stars = [ScoredCase(case_id=str(n), values=[0.5 + n % 2 / 4]) for n in range(60)]
    service._read_scored = lambda *_: (stars, column)  # type: ignore[method-assign, assignment, return-value]
    [note] = service.correct_report(record, EstimateReport(evaluation="ev", estimates=[])).notes
    assert note.startswith("closed_qa, corrected, is a share and not a mean: share of yes (0.5 or more; 1 as")


def test_several_judges_are_held_against_the_same_labels(engine: Engine) -> None:
    model = FakeModel(by=by_text)
    service = services(engine, model, {"ev": answers_of(40)})
    label_all(service, 40)
    other = ScorerSpec(scorer="closed_qa", parameters={"model": "small"})
    found = service.compare([SPEC, other], "ok", min_labels=30)
    assert len(found.rows) == 2 and found.n_items == 40 and len(model.calls) == 80
    assert all(not row.calibration.pairs for row in found.rows)
    with pytest.raises(InvalidInput, match="twice"):
        service.compare([SPEC, SPEC], "ok")
    with pytest.raises(InvalidInput):
        service.compare([SPEC], "ok")


def test_two_evaluations_are_judged_side_by_side_in_both_orders(engine: Engine) -> None:
    def prefer_good(user: str) -> dict[str, Any]:
        first = user.split("<<<FIRST ANSWER")[1].split("<<<END", maxsplit=1)[0]
        return {"reason": "", "better": "first" if "good" in first else "second"}

    model = FakeModel(by=prefer_good)
    answers = {"old": ["bad"] * 20 + [""], "new": ["good"] * 20 + ["good"], "none": []}
    service = services(engine, model, answers)
    spec = ScorerSpec(scorer="pairwise", parameters={"model": "m"})
    found = service.compare_pairs("eval:old", "eval:new", spec)
    assert (found.n_pairs, found.n_wins, found.n_flips, found.word) == (20, 20, 0, "better")
    assert len(model.calls) == 40 and found.first_place.value == 0.5
    with pytest.raises(NotComparable):
        service.compare_pairs("old", "none", spec)


def test_labels_are_kept_by_rater_and_come_back_page_by_page(control_engine: Engine) -> None:
    service = services(control_engine, FakeModel("x"), {"ev": answers_of(10)})
    label_all(service, 5)
    service.labels.add(
        [LabelDraft(name="ok", value=True, evaluation="ev", case_id="c0", comment="changed")], actor="ada"
    )
    service.labels.add([LabelDraft(name="ok", value=0, evaluation="ev", case_id="c0", rater="bo")], actor="x")
    [labelled] = service.labels.sets()
    assert (labelled.n_items, labelled.n_labels, labelled.n_raters) == (5, 6, 2)
    first = service.labels.page("ok", limit=3)
    second = service.labels.page("ok", limit=3, cursor=first.next_cursor)
    assert first.rows[0].case.id == "c0" and {label.value for label in first.rows[0].labels} == {1.0, 0.0}
    assert len(first.rows) == 3 and len(second.rows) == 2 and second.next_cursor is None
    assert service.labels.remove(first.rows[0].id, "ok", rater="bo") == 1
    with pytest.raises(UnknownItem):
        service.labels.remove(first.rows[0].id, "ok", rater="bo")
    service.labels.add(
        [LabelDraft(name="ok", value=1, evaluation="ev", case_id="c5", drawn="chosen")], actor="ada"
    )
    nexts = service.next_items("eval:ev", "ok", n=10)
    assert {each.item.case.id for each in nexts} == {f"c{n}" for n in range(5, 10)}


@pytest.mark.parametrize(
    "draft",
    [
        LabelDraft(name="ok", output="a"),
        LabelDraft(name="", value=1, output="a"),
        LabelDraft(name="ok", value=float("nan"), output="a"),
        LabelDraft(name="ok", value=1),
        LabelDraft(name="ok", value=1, output="a", trace_id="b"),
        LabelDraft(name="ok", value=1, evaluation="ev"),
    ],
)
def test_a_label_without_subject_or_value_is_refused_and_nothing_is_kept(
    engine: Engine, draft: LabelDraft
) -> None:
    service = services(engine, FakeModel("x"), {"ev": answers_of(3)})
    with pytest.raises(LabelInvalid, match=r"."):
        service.labels.add([LabelDraft(name="ok", value=1, output="fine"), draft], actor="ada")
    assert service.labels.sets() == []


def test_labels_go_to_files_and_come_back(engine: Engine) -> None:
    service = services(engine, FakeModel("x"), {"ev": answers_of(4)})
    label_all(service, 4)
    rows = list(service.labels.export("ok"))
    again = read_rows(write_csv(rows))
    assert [draft.label for draft in again] == ["fail", "pass", "fail", "pass"]
    assert again[0].input == "question 0" and again[0].output == "bad"
    service.labels.add(
        [LabelDraft(**{**_plain(each), "name": "copy"}) for each in again], actor="x", source="import"
    )
    assert service.labels.sets()[0].n_labels == 4
    with pytest.raises(LabelInvalid, match="Line 2"):
        read_rows('{"name": "a", "value": 1, "output": "x"}\n{"value": "very"}\n')
    with pytest.raises(LabelInvalid, match="empty"):
        read_rows("\n")
    with pytest.raises(LabelInvalid, match="more cells"):
        read_rows("name,value\na,1,2\n")
    assert read_rows("value,output\n1,schlafen\n", name="ok")[0].name == "ok"


@pytest.mark.parametrize(
    "text", ["=cmd|calc!A1", "+1", "-- list", "@SUM(A1)", "\t=1", "'=1", "''-1", "'tis so", "plain", "a=b"]
)
def test_texts_of_users_are_no_formulas_in_a_table_and_come_back_as_they_were(text: str) -> None:
    row = {"name": "ok", "value": -1.0, "comment": text, "output": "x", "rater": text}
    written = write_csv([row])
    cells = next(iter(list(csv.reader(io.StringIO(written)))[1:]))
    assert not any(cell[:1] in {"=", "+", "@", "\t"} for cell in cells) and cells[1] == "-1.0"
    [draft] = read_rows(written)
    assert (draft.comment, draft.rater, draft.value) == (text, text, -1.0)


def _plain(draft: LabelDraft) -> dict[str, Any]:
    return {name: getattr(draft, name) for name in draft.__struct_fields__}


def test_feedback_on_traces_becomes_labels(engine: Engine) -> None:
    service = services(engine, FakeModel("x"), {})
    [label] = service.labels.take_feedback("helpful", actor="ada")
    assert (label.value, label.rater, label.source) == (0.0, "ada", "feedback")
    assert service.labels.items("helpful")[0].trace_id == "a" * 32


def test_erased_traces_leave_no_labelled_copy_and_erased_people_no_label(engine: Engine) -> None:
    service = services(engine, FakeModel("x"), {})
    service.labels.take_feedback("helpful", actor="ada")
    service.labels.add([LabelDraft(name="helpful", value=1, output="kept", rater="bo")], actor="x")
    subject = Subject(kind="user", id="bo")
    doomed = Doomed(subject=subject, trace_ids=["a" * 32], calls=[], covers=lambda _: False)
    assert clear_labels(engine, doomed).removed == {"outputs": 1, "labels": 1}
    assert service.labels.sets() == [] and service.labels.items("helpful") == []
    assert clear_labels(engine, doomed).removed == {"outputs": 0, "labels": 0}
