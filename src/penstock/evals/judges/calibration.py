"""Holds a judge against people: from labelled outputs and the judge's scores of them to one `JudgeCalibration`. Pure.

Only outputs that were drawn by chance tell rates. Where several people labelled an output, their majority (of numbers: the mean) is
what the judge is held against, and outputs on which they are split say nothing.
"""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import msgspec
import numpy as np

from penstock.evals.judges.asking import sum_costs
from penstock.evals.judges.bias import (
    correlate,
    kappa_table,
    mean_figure,
    measure_kinship,
    measure_length_bias,
    place_figure,
    share_figure,
)
from penstock.evals.judges.errors import TooFewLabels
from penstock.evals.judges.materials import show_output
from penstock.evals.judges.rates import find_rates, said_yes
from penstock.evals.judges.types import (
    CalibrationKind,
    Figure,
    JudgeCalibration,
    Label,
    LabelItem,
    LabelledPair,
)
from penstock.evals.scorers.types import ScorerInfo
from penstock.evals.statistics.agreement import agreement, krippendorff_alpha
from penstock.evals.statistics.types import Interval
from penstock.spec.evaluations import ScorerSpec
from penstock.spec.scores import Score

MIN_LABELS = 100
"""Labelled outputs without which rates are not told, unless a person asks for fewer."""
MIN_OF_EACH = 10
"""Of each of yes and no."""
LEAST_LABELS = 20
"""Fewer cannot be asked for."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One labelled output with the judge's score of it."""

    item: LabelItem
    score: Score


def agree_on(labels: Sequence[Label]) -> float | str | None:
    """Return what people say of one output together; None when they are split or said nothing."""
    latest = {label.rater: label for label in sorted(labels, key=lambda label: label.made_ns)}
    said = [label.value if label.value is not None else label.label for label in latest.values()]
    known = [value for value in said if value is not None]
    if not known:
        return None
    if any(isinstance(value, str) for value in known) or set(known) <= {0.0, 1.0}:
        (first, n), *rest = Counter(known).most_common(2)
        return None if rest and rest[0][1] == n else first
    return math.fsum(float(value) for value in known) / len(known)


def calibrate(
    judged: Sequence[Judged],
    *,
    identity: str,
    name: str,
    spec: ScorerSpec,
    info: ScorerInfo,
    made_ns: int,
    threshold: float | None = None,
    min_labels: int = MIN_LABELS,
) -> JudgeCalibration:
    """Return how the judge agrees with people.

    Raises `TooFewLabels`, which says how many more are needed, when fewer than `min_labels` outputs drawn by chance have
    both a label and a score, or fewer than `MIN_OF_EACH` of yes or no.
    """
    drawn = [each for each in judged if any(label.drawn == "random" for label in each.item.labels)]
    truths = [agree_on(each.item.labels) for each in drawn]
    kind = kind_of([truth for truth in truths if truth is not None])
    usable = [
        (each, truth)
        for each, truth in zip(drawn, truths, strict=True)
        if truth is not None and _judged_value(each.score, kind) is not None
    ]
    least = max(LEAST_LABELS, min_labels)
    if len(usable) < least:
        raise _too_few(name, len(usable), least, drawn)
    bound = None
    if kind == "binary":
        bound = threshold if threshold is not None else _middle(info)
    pairs = [_make_pair(each, truth, kind, bound) for each, truth in usable]
    calibration = _base(judged, drawn, pairs, kind, identity=identity, name=name, spec=spec, info=info)
    changes: dict[str, object] = {"made_ns": made_ns, "threshold": bound}
    calibration = msgspec.structs.replace(calibration, **changes)
    items = [each for each, _ in usable]
    calibration = _rate(calibration, pairs) if kind != "numeric" else _relate(calibration, pairs)
    calibration = _look_for_bias(calibration, items, [truth for _, truth in usable], kind)
    return msgspec.structs.replace(calibration, sentences=describe(calibration))


def kind_of(truths: Sequence[float | str]) -> CalibrationKind:
    """Return what sort of labels these are."""
    if any(isinstance(truth, str) for truth in truths):
        return "labels"
    return "binary" if set(truths) <= {0.0, 1.0} else "numeric"


def is_yes(value: float, threshold: float) -> bool:
    """Return whether a judge's value counts as yes. Yes is 1 for people and judge alike, whichever is better."""
    return value >= threshold


def _judged_value(score: Score, kind: CalibrationKind) -> float | str | None:
    if score.status != "scored":
        return None
    return score.label if kind == "labels" else score.value


def _middle(info: ScorerInfo) -> float:
    if info.low is None or info.high is None:
        return 0.5
    return (info.low + info.high) / 2


def _make_pair(
    each: Judged, truth: float | str, kind: CalibrationKind, threshold: float | None
) -> LabelledPair:
    judged = _judged_value(each.score, kind)
    assert judged is not None
    if kind == "binary":
        assert threshold is not None
        judged = float(is_yes(float(judged), threshold))
    return LabelledPair(
        item=each.item.id,
        human=truth,
        judged=judged,
        group=each.item.case.group,
        evaluation_id=each.item.evaluation_id,
        case_id=each.item.case.id,
    )


def _base(
    judged: Sequence[Judged],
    drawn: Sequence[Judged],
    pairs: Sequence[LabelledPair],
    kind: CalibrationKind,
    *,
    identity: str,
    name: str,
    spec: ScorerSpec,
    info: ScorerInfo,
) -> JudgeCalibration:
    statuses = Counter(each.score.status for each in drawn)
    labels = [label for each in drawn for label in each.item.labels]
    costs: list[Decimal | None] = [each.score.cost_usd for each in judged]
    latencies = [
        float(value)
        for each in judged
        if isinstance(value := each.score.evidence.get("latency_ms"), int | float)
    ]
    models = Counter(
        str(each.score.evidence["judged_by"]) for each in judged if "judged_by" in each.score.evidence
    )
    return JudgeCalibration(
        id=identity,
        name=name,
        judge=spec,
        stamp=info.stamp,
        model=models.most_common(1)[0][0] if models else "",
        kind=kind,
        direction=info.direction,
        n_items=len(pairs),
        n_labels=len(labels),
        n_raters=len({label.rater for label in labels}),
        n_scored=statuses["scored"],
        n_undefined=statuses["undefined"],
        n_errors=statuses["error"],
        n_chosen=len(judged) - len(drawn),
        agreement=Figure(value=None),
        human_alpha=_alpha_of_people(drawn, kind),
        cost_usd=sum_costs(costs),
        n_cost_unknown=sum(cost is None for cost in costs),
        p50_latency_ms=statistics.median(latencies) if latencies else None,
        pairs=list(pairs),
    )


def _alpha_of_people(drawn: Sequence[Judged], kind: CalibrationKind) -> float | None:
    units: list[list[str | float | None]] = []
    for each in drawn:
        latest = {label.rater: label for label in sorted(each.item.labels, key=lambda label: label.made_ns)}
        units.append([label.value if label.value is not None else label.label for label in latest.values()])
    if not any(len(unit) > 1 for unit in units):
        return None
    return krippendorff_alpha(units, metric="interval" if kind == "numeric" else "nominal")


def _rate(calibration: JudgeCalibration, pairs: Sequence[LabelledPair]) -> JudgeCalibration:
    """Fill in what yes-or-no and words have: shares, kappa, confusion."""
    human, judged = [pair.human for pair in pairs], [pair.judged for pair in pairs]
    is_binary = calibration.kind == "binary"
    groups = [pair.group for pair in pairs]
    found = agreement(
        human, judged, positive=1.0 if is_binary else None, groups=groups, rng=np.random.default_rng(0)
    )
    calibration = msgspec.structs.replace(
        calibration,
        agreement=_figure(found.observed),
        kappa=_figure(found.kappa),
        alpha=_figure(found.alpha),
        labels=["no" if label == "0.0" else "yes" for label in found.labels] if is_binary else found.labels,
        confusion=found.confusion,
    )
    if not is_binary:
        return msgspec.structs.replace(calibration, is_usable=False)
    counts = Counter((pair.human, pair.judged) for pair in pairs)
    n_positive, n_negative = counts[1.0, 1.0] + counts[1.0, 0.0], counts[0.0, 0.0] + counts[0.0, 1.0]
    if min(n_positive, n_negative) < MIN_OF_EACH:
        word, n = ("yes", n_positive) if n_positive < n_negative else ("no", n_negative)
        raise TooFewLabels(
            f"Only {n} of the labelled outputs are labelled {word}; it takes {MIN_OF_EACH} of each.",
            hint=f"Label more outputs, {MIN_OF_EACH - n} of which turn out {word}; rare answers need more labels.",
            name=calibration.name,
        )
    proof = find_rates(pairs).correct(said_yes(pairs))
    sensitivity, specificity = _optional(found.sensitivity), _optional(found.specificity)
    return msgspec.structs.replace(
        calibration,
        sensitivity=sensitivity,
        specificity=specificity,
        prevalence=_optional(found.prevalence),
        n_positive=n_positive,
        n_true_positive=counts[1.0, 1.0],
        n_negative=n_negative,
        n_true_negative=counts[0.0, 0.0],
        is_usable=proof.value is not None,
        kappa_by_prevalence=dict(
            kappa_table(
                sensitivity.value if sensitivity else None, specificity.value if specificity else None
            )
        ),
    )


def _relate(calibration: JudgeCalibration, pairs: Sequence[LabelledPair]) -> JudgeCalibration:
    """Fill in what numbers have: correlation and mean error."""
    human, judged = [float(pair.human) for pair in pairs], [float(pair.judged) for pair in pairs]
    errors = [value - truth for value, truth in zip(judged, human, strict=True)]
    return msgspec.structs.replace(
        calibration,
        agreement=correlate(human, judged),
        mean_error=mean_figure(errors, [pair.group for pair in pairs]),
    )


def _look_for_bias(
    calibration: JudgeCalibration,
    items: Sequence[Judged],
    truths: Sequence[float | str],
    kind: CalibrationKind,
) -> JudgeCalibration:
    values = [each.score.value for each in items]
    changes: dict[str, object] = {}
    if all(value is not None for value in values):
        known = [float(value) for value in values if value is not None]
        lengths = [len(show_output(each.item.output)) for each in items]
        changes["length_bias"] = measure_length_bias(known, lengths, truths)
        if kind != "labels":
            own = [
                bool(each.item.output.model)
                and each.item.output.model == each.score.evidence.get("judged_by")
                for each in items
            ]
            changes["self_preference"] = measure_kinship(
                known, [float(truth) for truth in truths], own, [each.item.case.group for each in items]
            )
    paired = [each for each in items if "is_flip" in each.score.evidence]
    if paired:
        flips = [bool(each.score.evidence["is_flip"]) for each in paired]
        groups = [each.item.case.group for each in paired]
        changes["flip_rate"] = share_figure(flips, groups)
        changes["first_place"] = place_figure(
            [_count_places(each.score.evidence.get("orders")) for each in paired], groups
        )
    return msgspec.structs.replace(calibration, **changes)


def _count_places(orders: object) -> tuple[int, int]:
    """How often the first place won and how often the second; `orders` names the winner of each order, as a or b."""
    if not isinstance(orders, list):
        return 0, 0
    decided = [side == first for side, first in zip(orders, ("a", "b"), strict=True) if side != "tie"]
    return sum(decided), len(decided) - sum(decided)


def describe(calibration: JudgeCalibration) -> list[str]:
    """Return what a reader should take from a calibration."""
    told = []
    found = calibration.agreement
    if calibration.kind == "numeric":
        told.append(f"Its numbers go with people's by a correlation of {_text(found)}.")
        if (
            (error := calibration.mean_error)
            and error.low is not None
            and not error.low <= 0 <= (error.high or 0)
        ):
            word = "above" if (error.value or 0) > 0 else "below"
            told.append(f"It rates {word} people by {abs(error.value or 0):.2g} on average.")
    else:
        told.append(f"It says what people say on {_percent(found)} of {calibration.n_items} outputs.")
    if calibration.kind == "binary":
        told.append(
            f"Where people say yes it says so {_percent(calibration.sensitivity)}, where they say no "
            f"{_percent(calibration.specificity)}."
        )
        if not calibration.is_usable:
            told.append(
                "On these labels it is not surely better than chance: its figures cannot be corrected."
            )
    if calibration.human_alpha is not None:
        told.append(f"People among themselves reach an alpha of {calibration.human_alpha:.2f}.")
    if (flip := calibration.flip_rate) and flip.value:
        told.append(f"Its verdict follows the place of the answers in {_percent(flip)} of the pairs.")
    length = calibration.length_bias
    if length and length.low is not None and length.high is not None and not length.low <= 0 <= length.high:
        word = "longer" if (length.value or 0) > 0 else "shorter"
        told.append(f"It favours {word} answers that people hold equal (correlation {_text(length)}).")
    own = calibration.self_preference
    if own and own.low is not None and own.low > 0:
        told.append(
            f"It rates answers of its own model higher than people do, by {own.value:.2g} more than others."
        )
    lost = calibration.n_undefined + calibration.n_errors
    if lost:
        told.append(
            f"It gave no score to {lost} labelled outputs ({calibration.n_errors} errors); they are not in these figures."
        )
    return told


def _too_few(name: str, n: int, least: int, drawn: Sequence[Judged]) -> TooFewLabels:
    n_lost = sum(each.score.status != "scored" for each in drawn)
    told = f" The judge gave no score to {n_lost} others." if n_lost else ""
    return TooFewLabels(
        f"Outputs with a usable label {name!r} and a score of this judge: {n}; it takes {least}.{told}",
        hint=f"Label {least - n} more: `penstock judge next` says which. A lower bound can be asked for, down to {LEAST_LABELS}.",
        name=name,
        n=n,
        missing=least - n,
    )


def _figure(found: Interval) -> Figure:
    return Figure(
        value=found.value, low=found.low, high=found.high, level=found.level, method=found.method, n=found.n
    )


def _optional(found: Interval | None) -> Figure | None:
    return None if found is None else _figure(found)


def _text(figure: Figure | None) -> str:
    if figure is None or figure.value is None:
        return "unknown"
    return (
        f"{figure.value:.2f}"
        if figure.low is None or figure.high is None
        else f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})"
    )


def _percent(figure: Figure | None) -> str:
    if figure is None or figure.value is None:
        return "an unknown share"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.0%}"
    return f"{figure.value:.0%} ({figure.low:.0%} to {figure.high:.0%})"
