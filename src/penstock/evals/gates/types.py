"""The nouns of gates: rules as they are read, the file that holds them, pages of results. Frozen, no behaviour."""

from typing import Any, Literal

import msgspec

from penstock.spec.evaluations import EvaluationSpec, GateResult, VerdictWord

Operator = Literal[">=", ">", "<=", "<", "=="]
Statistic = Literal["mean", "quantile", "total", "max", "min", "every", "new"]
"""`every`: of each case; `new`: findings in cases where the baseline has none."""
Unit = Literal["", "point", "%", "usd", "ms", "s", "tokens"]
CorrectionWord = Literal["holm", "bh", "none"]


class Bound(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a figure is held against: a number, or the baseline with a margin."""

    is_baseline: bool = False
    amount: float = 0.0
    """The number; with a baseline what is added to it (negative: taken off)."""
    unit: Unit = ""
    """Of `amount`. `point` is a hundredth of the score's range; `%` of a bare number is a hundredth, of a margin a
    hundredth of the baseline's own figure."""


class Rule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One rule, read."""

    text: str
    """As it was written."""
    measure: str
    """Name of the score, or of a figure of outputs: `latency_ms`, `ttft_ms`, `cost_usd`, `output_tokens`, `errors`."""
    statistic: Statistic = "mean"
    quantile: float | None = None
    by: str | None = None
    """A slice key: the rule then holds for each of its values."""
    operator: Operator
    bound: Bound
    level: float | None = None
    """Of this rule; None: the gate's."""


class GateSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A gate as it is kept: what is compared, and by which rules."""

    name: str
    rules: list[Rule]
    evaluation: EvaluationSpec | None = None
    """How candidate and baseline are evaluated; None when evaluations are named."""
    candidate: str | None = None
    """`prompt:triage@latest`, a route, an app, or `eval:ID`."""
    baseline: str | None = None
    """The same; None: rules hold against numbers alone."""
    level: float = 0.95
    correction: CorrectionWord = "holm"
    min_coverage: float = 0.95
    """Share of answers (cases and repeats) that must have a score, or the rule is invalid."""
    min_slice_cases: int = 0
    """Slices with fewer cases are left out, and told."""
    description: str = ""


class GateQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which verdicts, newest first."""

    name: str | None = None
    candidate: str | None = None
    """As in the result, `prompt:triage@7`; without `@…` every version of it."""
    verdict: VerdictWord | None = None
    cursor: str | None = None
    limit: int = 50


class GatePage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of verdicts."""

    rows: list[GateResult]
    next_cursor: str | None = None


class GatePlan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What running a gate would do, before anything is spent."""

    name: str
    rules: list[dict[str, Any]]
    """{rule, reads_as, measure} of each."""
    looks: int | None = None
    """Looks that the correction is over, slices not counted (they are known when there are cases)."""
    detectable: list[dict[str, Any]] = []
    """{discordance, difference}: the smallest difference that the planned cases would show."""
    problems: list[str] = []
