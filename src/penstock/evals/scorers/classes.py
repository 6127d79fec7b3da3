"""Scorers of classification: accuracy, precision, recall, F1, Matthews' correlation, Cohen's kappa over a set of labels.

The value of one output is 1 when its label is right; the figure comes from counts. What has no denominator (the precision of a
label that nobody answered) is undefined and left out of averages, never 0. An answer that is none of the labels is wrong.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np
from numpy import float64
from numpy.typing import NDArray

from penstock.evals.scorers.code import CodeScorer, Judge, ScorerKind, Verdict
from penstock.evals.scorers.errors import BadScorerParameters
from penstock.evals.scorers.labels import finder_of, fold_labels, read_label
from penstock.evals.scorers.matching import extractor_of
from penstock.evals.scorers.reading import NoScore, Reading, read_references, read_text
from penstock.evals.scorers.types import Scorer
from penstock.spec.cases import Case, Output

MAX_LABELS = 200
NO_LABEL = "(none)"
Average = Literal["macro", "micro", "weighted", "binary"]
Measure = Literal["accuracy", "precision", "recall", "f1", "mcc", "kappa"]


class ClassParameters(Reading, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which labels there are, and how the answer's label is found."""

    labels: tuple[str, ...] = ()
    """Empty: those that the cases expect."""
    find: Literal["exact", "first", "last", "only"] = "exact"
    """`exact`: the answer is the label; else the `first` or `last` label mentioned in it, or the `only` one."""
    ignore_case: bool = True
    """Punctuation, emphasis and spaces around the answer never count, but for marks that a label begins or ends with."""


class AverageParameters(ClassParameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How labels are averaged; sorted out as in scikit-learn, with `zero_division=nan`."""

    average: Average = "macro"
    positive: str | None = None
    """With `binary`: the label that is looked for."""


@dataclass(frozen=True, kw_only=True)
class ClassFigure:
    """A measure of sums of [right by label, answered by label, expected by label, outputs]."""

    measure: Measure
    labels: tuple[str, ...]
    average: Average = "macro"
    positive: str | None = None

    @property
    def size(self) -> int:
        """Length of one vector."""
        return 3 * len(self.labels) + 1

    def reduce(self, sums: NDArray[float64]) -> NDArray[float64]:
        """Return the measure of each sum; NaN where it has no denominator."""
        sums = np.asarray(sums, dtype=float64)
        n = len(self.labels)
        right, answered, expected = sums[..., :n], sums[..., n : 2 * n], sums[..., 2 * n : 3 * n]
        total = sums[..., -1]
        if self.measure == "mcc":
            return _correlation(right, answered, expected, total)
        if self.measure == "kappa":
            by_chance = (answered * expected).sum(axis=-1)
            return _share(right.sum(axis=-1) * total - by_chance, total**2 - by_chance)
        if self.measure == "accuracy":
            return _share(right.sum(axis=-1), total)
        upper, lower = {
            "precision": (right, answered),
            "recall": (right, expected),
            "f1": (2 * right, answered + expected),
        }[self.measure]
        if self.average == "binary":
            place = self.labels.index(self.positive or "")
            return _share(upper[..., place], lower[..., place])
        if self.average == "micro":
            return _share(upper.sum(axis=-1), lower.sum(axis=-1))
        each = _share(upper, lower)
        weights = np.where(np.isnan(each), 0.0, expected if self.average == "weighted" else 1.0)
        return _share((np.nan_to_num(each) * weights).sum(axis=-1), weights.sum(axis=-1))


def _share(upper: NDArray[float64], lower: NDArray[float64]) -> NDArray[float64]:
    share: NDArray[float64] = np.divide(upper, lower, out=np.full(np.shape(upper), np.nan), where=lower != 0)
    return share


def _correlation(
    right: NDArray[float64], answered: NDArray[float64], expected: NDArray[float64], total: NDArray[float64]
) -> NDArray[float64]:
    """Return Matthews' correlation for several labels (Gorodkin 2004); what is none of the labels is one more label."""
    other = total - answered.sum(axis=-1)
    shared = right.sum(axis=-1) * total - (answered * expected).sum(axis=-1)
    spread_answered = total**2 - (answered**2).sum(axis=-1) - other**2
    spread_expected = total**2 - (expected**2).sum(axis=-1)
    return _share(shared, np.sqrt(spread_answered * spread_expected))


def find_label(text: str, labels: Sequence[str], parameters: ClassParameters) -> str | None:
    """Return the label that an answer gives, or None where it gives none (or, with `only`, several)."""
    finder = finder_of(tuple(labels), ignore_case=parameters.ignore_case)
    whole = finder.find_whole(text)
    if whole is not None or parameters.find == "exact":
        return whole
    mentions = finder.list_mentions(text)
    if not mentions or (parameters.find == "only" and len(set(mentions)) > 1):
        return None
    return mentions[0 if parameters.find == "first" else -1]


def _build(parameters: ClassParameters) -> Judge:
    extractor = extractor_of(parameters)
    labels = parameters.labels
    places = {label: place for place, label in enumerate(labels)}
    spellings = fold_labels(labels, ignore_case=parameters.ignore_case)

    def spell(label: str) -> str:
        return spellings.get(read_label(label, ignore_case=parameters.ignore_case), label)

    def judge(case: Case, output: Output) -> Verdict:
        accepted = list(map(spell, read_references(case, parameters)))
        found = find_label(
            read_text(output, parameters, extractor),
            [*labels, *(each for each in accepted if each not in places)],
            parameters,
        )
        expected = found if found in accepted else accepted[0]
        if labels and expected not in places:
            raise NoScore(f"the case expects {expected!r}, which is none of the labels")
        counts = [0.0] * (3 * len(labels) + 1) if labels else []
        if counts:
            n = len(labels)
            counts[2 * n + places[expected]] = counts[-1] = 1.0
            if found in places:
                counts[n + places[found]] = 1.0
            if found == expected:
                counts[places[expected]] = 1.0
        return Verdict(
            value=float(found == expected),
            label=found or NO_LABEL,
            statistics=counts,
            evidence={"expected": expected, "found": found},
        )

    return judge


class ClassScorer(CodeScorer[Any]):
    """A scorer that must know all labels before it counts."""

    def __init__(self, kind: ScorerKind[Any], parameters: Any, name: str) -> None:
        if len(set(parameters.labels)) != len(parameters.labels):
            raise ValueError("`labels` names a label twice")
        folded = fold_labels(parameters.labels, ignore_case=parameters.ignore_case)
        if len(folded) < len(parameters.labels):
            lost = next(label for label in parameters.labels if label not in folded.values())
            raise ValueError(
                f"`labels` holds {lost!r} in two spellings, which are one label here; set `ignore_case = false`, or name it once"
            )
        if parameters.labels and len(parameters.labels) > MAX_LABELS:
            raise ValueError(f"there are {len(parameters.labels)} labels; at most {MAX_LABELS} are counted")
        if getattr(parameters, "average", "") == "binary" and parameters.positive is None:
            raise ValueError('`average = "binary"` needs `positive`, the label that is looked for')
        if parameters.labels and getattr(parameters, "positive", None) not in {None, *parameters.labels}:
            raise ValueError(f"`positive` is {parameters.positive!r}, which is none of the labels")
        super().__init__(kind, parameters, name)
        self._kind, self._parameters = kind, parameters

    def prepare(self, cases: Iterable[Case], outputs: Iterable[Output] = ()) -> Scorer:
        """Return the scorer that knows the labels which these cases expect."""
        _ = outputs
        if self._parameters.labels:
            return self
        labels: set[str] = set()
        for case in cases:
            try:
                labels.update(read_references(case, self._parameters))
            except NoScore:
                continue
            if len(labels) > MAX_LABELS:
                raise BadScorerParameters(
                    self._kind.name,
                    f"the cases expect more than {MAX_LABELS} labels; name those that count in `labels`",
                )
        if not labels:
            return self
        # cases that spell one label in two ways expect one label
        positive = getattr(self._parameters, "positive", None)
        ordered = sorted(labels, key=lambda label: (label != positive, label))
        folded = fold_labels(ordered, ignore_case=self._parameters.ignore_case)
        known = msgspec.structs.replace(self._parameters, labels=tuple(sorted(folded.values())))
        return ClassScorer(self._kind, known, self.name)


def _figure_of(measure: Measure) -> Callable[[Any], ClassFigure]:
    def figure(parameters: Any) -> ClassFigure:
        return ClassFigure(
            measure=measure,
            labels=parameters.labels,
            average=getattr(parameters, "average", "macro"),
            positive=getattr(parameters, "positive", None),
        )

    return figure


_UNDEFINED = "the case expects no label, or one that is not among `labels`"
_MEASURES: tuple[tuple[Measure, str, str, float], ...] = (
    ("precision", "Share of the answers with a label that are right, averaged over labels.", "; over all: no answer gives a label", 0.0),
    ("recall", "Share of the cases with a label that are answered so, averaged over labels.", "", 0.0),
    ("f1", "Harmonic mean of precision and recall, averaged over labels.", "", 0.0),
    ("mcc", "Matthews' correlation of answered and expected labels, −1 to 1.", "; over all: only one label is answered, or expected", -1.0),
    ("kappa", "Cohen's kappa: agreement beyond what chance gives, −1 to 1.", "; over all: only one label is answered and expected", -1.0),
)  # fmt: skip
KINDS: tuple[ScorerKind[Any], ...] = (
    ScorerKind(
        name="accuracy",
        group="classes",
        summary="1 when the answer's label is the expected one.",
        undefined_when="the case expects no label",
        parameters=ClassParameters,
        build=_build,
        scale="binary",
        needs=frozenset({"expected"}),
        make=ClassScorer,
    ),
    *(
        ScorerKind(
            name=measure,
            group="classes",
            summary=summary,
            undefined_when=_UNDEFINED + extra,
            parameters=ClassParameters if measure in {"mcc", "kappa"} else AverageParameters,
            build=_build,
            low=low,
            needs=frozenset({"expected"}),
            figure=_figure_of(measure),
            make=ClassScorer,
        )
        for measure, summary, extra, low in _MEASURES
    ),
)
