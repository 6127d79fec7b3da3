"""The nouns of evaluations: what is asked for, and the figures and verdicts that come out. Frozen, no behaviour.

An evaluation is cases × target × scorers. Its figures are `Estimate`s: never a bare mean, always with an interval, the number of
scores behind it and coverage. Two evaluations are compared case by case; a gate reads comparisons and estimates.
"""

from decimal import Decimal
from typing import Any, Literal

import msgspec

Direction = Literal["higher", "lower", "none"]
"""Which way is better."""
Scale = Literal["binary", "bounded", "unbounded"]
"""`binary`: 0 or 1; `bounded`: within `low` and `high` of its scorer; it decides which interval and test is valid."""
EvaluationState = Literal["queued", "running", "done", "stopped", "failed"]
"""`stopped`: by a person, a budget or a sequential rule; what it has is valid and can be read, resumed and compared."""
VerdictWord = Literal["pass", "fail", "undecided", "invalid"]
ComparisonWord = Literal["better", "worse", "undecided", "invalid"]


class TargetSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What answers. Exactly one of `model`, `http`, `python`, `outputs` is set."""

    name: str = ""
    """How it is called in tables; empty: the model, URL or function."""
    model: str | None = None
    """Anything a client can put into `model`: a route, `prompt:NAME@ALIAS`, an app, `model:NAME@3`. Aliases are pinned
    to the version they name when the evaluation starts."""
    prompt: str | None = None
    """With `model` a plain route: a prompt version whose template is sent to that route instead of its own."""
    parameters: dict[str, Any] = {}
    """Sampling parameters for each call; they win over the prompt's."""
    http: dict[str, Any] | None = None
    """{url, method, headers, body (JSON template over the case), reply (JSON pointer to the text)}; local runs only."""
    python: str | None = None
    """`module:function` or `file.py:function`, called with the case; local runs only."""
    outputs: str | None = None
    """A file of outputs made elsewhere (`outputs.jsonl`), or `eval:ID` to score stored outputs again."""


class ScorerSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A scorer with its parameters."""

    scorer: str
    """Name of a built-in one, `scorer:NAME@ALIAS` of the registry, or `module:function` / `file.py:function` (local runs)."""
    name: str = ""
    """Of its score in tables; empty: the scorer's own."""
    parameters: dict[str, Any] = {}
    n_samples: int = 1
    """For model judges: how often each output is judged."""


class EvaluationBudget(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """Bounds after which an evaluation stops, keeping what it has."""

    usd: Decimal | None = None
    """Of targets and judges together. A call whose cost is unknown counts as unknown, and is told."""
    tokens: int | None = None
    minutes: float | None = None


class StopWhen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """When a run may end before all cases were asked. Exactly one of `half_width`, `threshold` and `baseline` is set."""

    score: str
    """Name of a score with two bounds."""
    half_width: float | None = None
    """Enough is known once its mean is known to ± this."""
    threshold: float | None = None
    """Enough is known once its mean lies surely above, or below, this."""
    baseline: str | None = None
    """`eval:ID`: enough is known once it is sure whether it is worse than that by more than `margin`."""
    margin: float = 0.0
    """In the score's own unit."""
    level: float = 0.95


class EvaluationSpec(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """Cases × target × scorers, as people write it (TOML, JSON) and as it is stored, aliases pinned."""

    name: str
    target: TargetSpec
    dataset: str | None = None
    """`dataset:NAME@ALIAS`, pinned on start; or `file`."""
    file: str | None = None
    """A local file of cases in any format that datasets read."""
    where: dict[str, Any] = {}
    """Which rows: `split`, `tags`, `ids`, metadata keys; all must hold."""
    limit: int | None = None
    """At most so many cases, drawn by `seed`, whole groups first."""
    scorers: list[ScorerSpec] = []
    repeats: int = 1
    seed: int = 0
    slices: list[str] = []
    """`split`, `tag`, or metadata keys by which figures are given as well."""
    budget: EvaluationBudget = EvaluationBudget()
    stop_when: StopWhen | None = None
    """End before the last case once a question is decided; cases are then asked in an order that `seed` decides."""
    concurrency: int = 8
    """At most so many calls at once; fewer where the provider asks to slow down."""
    case_timeout_s: float = 300.0
    """Of one call with its retries, from the moment it is sent, and of what a scorer does beside its calls; waiting for a turn
    within the run is not counted."""
    preflight: bool = True
    """Try target and scorers on the first cases, and stop when none of them works, before the rest is spent."""
    cache: bool = True
    """Take an earlier answer to the same request of the same repeat, target version and parameters; never across repeats."""
    tags: list[str] = []
    experiment: str | None = None


class Estimate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A figure over many scores. `value` is None when nothing was scored; an interval may be None when it has no meaning (n < 2)."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    method: str = ""
    """How value and interval were made: `wilson`, `t, clustered by group`, `bootstrap BCa by group, 10,000`."""
    n: int = 0
    """Cases with a score."""
    n_cases: int = 0
    """Cases asked for."""
    n_groups: int | None = None
    n_undefined: int = 0
    n_errors: int = 0
    n_skipped: int = 0
    n_partial: int = 0
    """Cases with a score of which some repeats have none: their figure is that of the repeats that came through."""
    scored_share: float | None = None
    """Mean over the cases of the share of their repeats that have a score, where that is not n / n_cases."""
    deviation: float | None = None
    """Standard deviation between cases."""
    deviation_within: float | None = None
    """Between repeats of one case; None with one repeat."""
    worst: float | None = None
    best: float | None = None
    """For a bounded score: the value were all missing scores the worst, or the best, possible ones."""
    direction: Direction = "higher"
    scale: Scale = "bounded"
    unit: str | None = None
    slice: str | None = None
    """`KEY=VALUE` where it is about a part of the cases."""

    @property
    def coverage(self) -> float | None:
        """Share of answers that have a score, repeats counted; None without cases."""
        if self.scored_share is not None:
            return self.scored_share
        return self.n / self.n_cases if self.n_cases else None


class Comparison(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One score of a candidate beside a baseline, over the cases that both have."""

    name: str
    baseline: float | None
    candidate: float | None
    """Over the paired cases."""
    difference: float | None
    """candidate − baseline, in the score's own direction."""
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    p_value: float | None = None
    p_adjusted: float | None = None
    """After correction over the family that was looked at."""
    correction: str | None = None
    method: str = ""
    n_pairs: int = 0
    n_groups: int | None = None
    n_only_baseline: int = 0
    n_only_candidate: int = 0
    n_wins: int = 0
    n_losses: int = 0
    n_ties: int = 0
    """Cases where the candidate is better, worse, the same."""
    detectable: float | None = None
    """The smallest true difference that so many pairs would show at this level with 80 % power."""
    word: ComparisonWord = "undecided"
    reason: str = ""
    direction: Direction = "higher"
    scale: Scale = "bounded"
    unit: str | None = None
    slice: str | None = None


class RuleResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one rule of a gate came out."""

    rule: str
    """As it was written."""
    verdict: VerdictWord
    sentence: str
    """`token_f1 0.71 beats baseline 0.66 by 4.1 points (95 % interval 1.2 to 7.0, 214 paired cases): pass.`"""
    next: str = ""
    """The cheapest thing that would decide it, or mend it; empty when it passed."""
    estimate: Estimate | None = None
    comparison: Comparison | None = None
    slice: str | None = None


class GateResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The verdict of a gate: evidence for the move of an alias."""

    id: str
    name: str
    gate_digest: str
    """Of the rules as they were read."""
    verdict: VerdictWord
    reason: str
    rules: list[RuleResult]
    candidate: str
    """What was judged: `prompt:triage@7`, with its digest in `versions`."""
    baseline: str | None
    versions: dict[str, str]
    """Asset to stamp, of both sides and of the dataset."""
    evaluations: list[str]
    """Ids of the evaluations it rests on, the candidate's first."""
    made_ns: int
    cost_usd: Decimal | None = None
    actor: str = ""
    """Who asked for it."""
    level: float = 0.95
    correction: str = ""
    """How fails were corrected for the number of looks."""
    left_out: list[str] = []
    """Slices that were too small to be looked at."""
    handed_in: list[str] = []
    """Those of the evaluations whose answers or scores were sent by whoever ran them, not made by this installation."""
