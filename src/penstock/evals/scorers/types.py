"""What a scorer is: something that judges outputs, and says of itself what its numbers mean.

Knows nothing of datasets, runs or statistics. The surprise: a scorer whose figure is no mean (BLEU, F1) also carries a
`Figure`; each of its scores then holds a vector, and the figure is a function of the sum of these vectors. That is what
lets statistics resample it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec
from numpy import float64
from numpy.typing import NDArray

from penstock.base.digest import digest_json
from penstock.spec.cases import Case, Output, TokenChance
from penstock.spec.evaluations import Direction, Scale
from penstock.spec.scores import ErrorFault, Score, ScoreSource

Need = Literal[
    "expected",
    "passages",
    "relevant",
    "context",
    "logprobs",
    "latency",
    "cost",
    "judge",
    "embedder",
    "likelihood",
    "samples",
]
"""What a scorer cannot do without: of the case (`expected`, `passages`, `relevant`), of the output (`context`: passages that
the target retrieved; `logprobs`, `latency`, `cost`), of `ScorerTools` (`judge`, `embedder`, `likelihood`), or all repeats
of a case at once (`samples`)."""


@dataclass(frozen=True, kw_only=True)
class ScorerInfo:
    """What a scorer says of itself. Two scorers with equal stamps give equal scores to equal outputs, models aside."""

    name: str
    """Of the scorer; its score may be called otherwise."""
    version: int = 1
    """Rises whenever the same parameters would give another number."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """All of them, those left to their defaults too; JSON."""
    kind: ScoreSource = "code"
    direction: Direction = "higher"
    scale: Scale = "bounded"
    low: float | None = 0.0
    high: float | None = 1.0
    """Bounds of the value; None: none. `scale` is `bounded` only with both."""
    unit: str | None = None
    """None: a plain number or a share of one."""
    summary: str = ""
    """One sentence: what the number says."""
    undefined_when: str = ""
    """When there is no number at all; empty: never."""
    needs: frozenset[Need] = frozenset()
    takes_errors: bool = False
    """Whether it judges outputs that are refused or failed, too; others are never shown one."""

    @cached_property
    def stamp(self) -> str:
        """`NAME@VERSION#DIGEST`, with eight hex characters of the parameters' digest."""
        digest = digest_json(dict(self.parameters)).removeprefix("sha256:")
        return f"{self.name}@{self.version}#{digest[:8]}"


class Figure(Protocol):
    """A figure over many outputs that is a function of the sum of their scores' `statistics`."""

    @property
    def size(self) -> int:
        """Length of one vector."""
        ...

    def reduce(self, sums: NDArray[float64]) -> NDArray[float64]:
        """Return the figure of each sum: `[..., size]` becomes `[...]`; NaN means undefined and never leaves statistics."""
        ...


class Ask(Protocol):
    """Asks a model through the gateway, as every other call."""

    async def __call__(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        parameters: Mapping[str, Any],
        *,
        purpose: str,
        repeat: int = 0,
        trace_parent: str | None = None,
    ) -> Output:
        """Return what it answered; an output whose status is not `ok` instead of raising.

        `purpose` is told to the trace (`judge:groundedness`); `repeat` keeps repeated judgements apart in caches.
        """
        ...


class Embed(Protocol):
    """Embeds texts with a route of the gateway."""

    async def __call__(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        """Return one vector a text, in order; raises `UpstreamError` when the route fails."""
        ...


class EmbedTokens(Protocol):
    """Embeds texts with an embedded encoder, a vector a token."""

    async def __call__(self, model: str, texts: Sequence[str]) -> list[list[list[float]]]:
        """Return one vector for each token of each text; raises `UpstreamError` when the engine cannot."""
        ...


class Likelihood(Protocol):
    """Asks an engine how likely it holds a given text."""

    async def __call__(self, model: str, prompt: str, continuation: str) -> list[TokenChance]:
        """Return the tokens of `continuation` after `prompt`, each with its log probability (natural logarithm)."""
        ...


@dataclass(frozen=True, kw_only=True)
class ScorerTools:
    """What a scorer may reach beyond the output; None: not to be had here, and a scorer that needs it says so."""

    ask: Ask | None = None
    embed: Embed | None = None
    embed_tokens: EmbedTokens | None = None
    likelihood: Likelihood | None = None


@runtime_checkable
class Scorer(Protocol):
    """Judges the outputs of one case."""

    @property
    def info(self) -> ScorerInfo:
        """What it is."""
        ...

    @property
    def name(self) -> str:
        """Of its score; of its main score where it gives several."""
        ...

    @property
    def figure(self) -> Figure | None:
        """How the figure over many outputs is made; None: it is the mean of the values."""
        ...

    async def score(self, case: Case, outputs: Sequence[Output], tools: ScorerTools) -> list[Score]:
        """Return the scores of `outputs`: one output, or all repeats of the case for scorers that need `samples`.

        Never raises for what the content is: that is a score `undefined` or `error` with a reason.
        """
        ...


@runtime_checkable
class Preparable(Protocol):
    """A scorer that must see all cases before the first score, such as to know every label."""

    def prepare(self, cases: Iterable[Case], outputs: Iterable[Output] = ()) -> Scorer:
        """Return the scorer to use for these cases. Its parameters, and so its stamp, say what was collected."""
        ...


def make_score(
    scorer: Scorer,
    value: float | None,
    *,
    label: str | None = None,
    reason: str | None = None,
    statistics: Sequence[float] = (),
    evidence: Mapping[str, Any] | None = None,
) -> Score:
    """Return the score of `scorer`: `scored`, or `undefined` where the value is None (then say why in `reason`)."""
    return Score(
        name=scorer.name,
        value=value,
        status="undefined" if value is None else "scored",
        scorer=scorer.info.stamp,
        label=label,
        reason=reason,
        source=scorer.info.kind,
        statistics=list(statistics),
        evidence=dict(evidence or {}),
    )


def make_error(
    scorer: Scorer, reason: str, *, fault: ErrorFault = "scorer", evidence: Mapping[str, Any] | None = None
) -> Score:
    """Return an error of `scorer`, which is neither a zero nor a fail."""
    return Score(
        name=scorer.name,
        value=None,
        status="error",
        scorer=scorer.info.stamp,
        reason=reason,
        fault=fault,
        source=scorer.info.kind,
        evidence=dict(evidence or {}),
    )


def score_unanswered(scorer: Scorer, output: Output) -> Score:
    """Return the score of an output without an answer: an error of the target, or skipped as the output is."""
    told = (
        f"{output.error.code}: {output.error.message}" if output.error else f"the output is {output.status}"
    )
    score = make_error(scorer, told, fault="target")
    return (
        msgspec.structs.replace(score, status="skipped", fault=None) if output.status == "skipped" else score
    )
