"""From raw facts of measured versions to figures with intervals, and to differences paired by row, case or round.

Every figure is made from one series a version: values by row. Two series of the same rows can be compared at any time.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from penstock.evals.statistics.comparisons import compare
from penstock.evals.statistics.estimates import estimate
from penstock.evals.statistics.types import PlainMeasure, ScoredCase
from penstock.evals.types import ScoreColumn
from penstock.spec.evaluations import Comparison, Estimate
from penstock.tuning.compress.types import ModelMeasurement, SizeFacts, SpeedRound, TextFacts

MIN_ROWS = 2
PROCESSOR = "reply_processor_ms_per_token"
"""Name of a figure, before the number of streams."""


@dataclass(frozen=True)
class RatioFigure:
    """A function of the ratio of two sums: perplexity is exp(nats / tokens)."""

    change: Callable[[NDArray[np.float64]], NDArray[np.float64]] = np.asarray
    size: int = 2

    def reduce(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the figure of each vector of sums."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.change(sums[..., 0] / sums[..., 1]), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Series:
    """One figure of one version, value by value."""

    measure: PlainMeasure | ScoreColumn
    cases: list[ScoredCase]
    figure: Any = None

    @property
    def name(self) -> str:
        """Of the figure."""
        return self.measure.name


def list_series(made: ModelMeasurement) -> list[Series]:
    """Return the series of a kept measurement."""
    if made.part == "speed":
        return list(_speed_series(msgspec.convert(made.facts["rounds"], list[SpeedRound])))
    if made.part == "texts":
        return list(_text_series(msgspec.convert(made.facts, TextFacts)))
    if made.part == "tasks":
        return list(_task_series(made.facts))
    return []


def make_figures(made: ModelMeasurement) -> tuple[Estimate, ...]:
    """Return the figures of a measurement with their intervals."""
    if made.part == "size":
        return tuple(_size_figures(msgspec.convert(made.facts, SizeFacts)))
    return tuple(
        estimate(each.cases, each.measure, name=each.name, figure=each.figure) for each in list_series(made)
    )


def compare_figures(baseline: ModelMeasurement, candidate: ModelMeasurement) -> tuple[Comparison, ...]:
    """Return the differences of two measurements of one part over what both have."""
    if candidate.part == "size":
        return tuple(_size_differences(baseline, candidate))
    known = {each.name: each for each in list_series(baseline)}
    return tuple(
        compare(known[each.name].cases, each.cases, each.measure, name=each.name, figure=each.figure)
        for each in list_series(candidate)
        if each.name in known
    )


# size: measured once, without an interval

_SIZES: tuple[tuple[str, str], ...] = (
    ("file_bytes", "bytes"),
    ("resident_bytes", "bytes"),
    ("bits_per_parameter", "bits"),
    ("load_s", "s"),
)


def _size_figures(facts: SizeFacts) -> Iterator[Estimate]:
    for name, unit in _SIZES:
        value = getattr(facts, name)
        if value is not None:
            yield Estimate(
                name=name,
                value=float(value),
                method="measured once",
                n=1,
                n_cases=1,
                direction="lower",
                scale="unbounded",
                unit=unit,
            )


def _size_differences(baseline: ModelMeasurement, candidate: ModelMeasurement) -> Iterator[Comparison]:
    known = {each.name: each.value for each in baseline.figures}
    for each in candidate.figures:
        before = known.get(each.name)
        if each.value is None or before is None:
            continue
        yield Comparison(
            name=each.name,
            baseline=before,
            candidate=each.value,
            difference=each.value - before,
            method="measured once",
            n_pairs=1,
            word="undecided" if each.name != "file_bytes" else _exact(each.value - before),
            direction="lower",
            scale="unbounded",
            unit=each.unit,
        )


def _exact(difference: float) -> Literal["better", "worse", "undecided"]:
    """Bytes of a file are what they are."""
    return "better" if difference < 0 else "worse" if difference > 0 else "undecided"


# speed: one value a round


def _speed_series(rounds: list[SpeedRound]) -> Iterator[Series]:
    for streams in sorted({each.streams for each in rounds}):
        chosen = [each for each in rounds if each.streams == streams]
        for name, sides in (
            ("prompt_tokens_per_s", [(each.prompt_tokens, each.prompt_s) for each in chosen]),
            ("reply_tokens_per_s", [(each.reply_tokens, each.reply_s) for each in chosen]),
        ):
            measure = PlainMeasure(
                name=f"{name}_{streams}", scale="unbounded", low=0.0, high=None, unit="tokens/s"
            )
            # of all rounds together: a mean of rates counts the quick ones twice, and its interval may reach below nothing
            cases = [
                ScoredCase(case_id=f"round {number}", values=[tokens / s], statistics=[[tokens, s]])
                for number, (tokens, s) in enumerate(sides, 1)
                if s > 0
            ]
            yield Series(measure=measure, cases=cases, figure=RatioFigure())
        worked = [
            (1000 * each.reply_processor_s, each.reply_tokens)
            for each in chosen
            if each.reply_processor_s is not None and each.reply_tokens
        ]
        if worked:
            yield Series(
                measure=PlainMeasure(
                    name=f"{PROCESSOR}_{streams}",
                    direction="lower",
                    scale="unbounded",
                    low=0.0,
                    high=None,
                    unit="ms",
                ),
                cases=[
                    ScoredCase(case_id=f"round {number}", values=[ms / tokens], statistics=[[ms, tokens]])
                    for number, (ms, tokens) in enumerate(worked, 1)
                ],
                figure=RatioFigure(),
            )


# texts: sums a row


def _text_series(facts: TextFacts) -> Iterator[Series]:
    def series(
        name: str,
        parts: Callable[[Any], tuple[float, float] | None],
        figure: RatioFigure,
        **measure: Any,
    ) -> Series | None:
        cases = []
        for row in facts.rows:
            vector = parts(row)
            if vector is None or vector[1] <= 0:
                continue
            value = float(figure.reduce(np.array(vector)))
            cases.append(
                ScoredCase(case_id=row.row, group=row.group, values=[value], statistics=[list(vector)])
            )
        if not cases:
            return None
        return Series(measure=PlainMeasure(name=name, **measure), cases=cases, figure=figure)

    unbounded = {"direction": "lower", "scale": "unbounded", "low": 0.0, "high": None}
    made = (
        series("perplexity", lambda row: (row.nll, row.n_tokens), RatioFigure(np.exp), **unbounded),
        series("bits_per_byte", lambda row: (row.nll / np.log(2.0), row.n_bytes), RatioFigure(), **unbounded),
        series(
            "kl",
            lambda row: None if row.kl is None else (row.kl, row.n_tokens),
            RatioFigure(),
            **unbounded,
            unit="nats",
        ),
        series(
            "top1_agreement",
            lambda row: None if row.n_same_top is None else (row.n_same_top, row.n_tokens),
            RatioFigure(),
        ),
    )
    yield from (each for each in made if each is not None)


# tasks: scores a case


def task_facts(
    columns: Mapping[str, ScoreColumn], scored: Mapping[str, list[ScoredCase]], replies: list[Any]
) -> dict[str, Any]:
    """Return what is kept of scored cases."""
    return {
        "columns": {name: msgspec.to_builtins(column) for name, column in columns.items()},
        "scores": {
            name: [
                {"case": each.case_id, "group": each.group, "values": each.values, "n_errors": each.n_errors}
                | ({"statistics": each.statistics} if each.statistics else {})
                for each in cases
            ]
            for name, cases in scored.items()
        },
        "replies": [msgspec.to_builtins(each) for each in replies],
    }


@dataclass(frozen=True, kw_only=True)
class Unasked:
    """A case that a version could not be asked."""

    case: str
    why: str


def list_unasked(facts: Mapping[str, Any]) -> list[Unasked]:
    """Return the cases of a kept measurement that could not be asked, such as prompts over the version's context."""
    return [
        Unasked(case=reply["case"], why=str(reply["error"]))
        for reply in facts.get("replies", ())
        if reply.get("error") is not None
    ]


def _task_series(facts: Mapping[str, Any]) -> Iterator[Series]:
    unasked = {each.case for each in list_unasked(facts)}
    for name, rows in facts["scores"].items():
        column = msgspec.convert(facts["columns"][name], ScoreColumn)
        # left out, a version would be compared over the cases alone that it can do
        worst = column.low if column.direction == "higher" else column.high
        cases = [
            ScoredCase(
                case_id=row["case"],
                group=row["group"],
                values=[worst] if row["case"] in unasked and worst is not None else row["values"],
                statistics=row.get("statistics", []),
                n_errors=0 if row["case"] in unasked and worst is not None else row.get("n_errors", 0),
            )
            for row in rows
        ]
        yield Series(measure=column, cases=cases)
