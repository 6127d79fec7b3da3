"""Scorers that go by how likely a model holds a text: of the answer (perplexity), or of the expected answer.

They need an engine that tells chances of a given text; the embedded one does. What is measured is the model named in the parameters,
which need not be the one that answered.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from penstock.base.errors import PenstockError
from penstock.evals.judges.kinds import never_built
from penstock.evals.judges.materials import show_expected, show_input, show_output
from penstock.evals.scorers.code import ScorerKind
from penstock.evals.scorers.types import Figure, Scorer, ScorerInfo, ScorerTools, make_error, make_score
from penstock.spec.cases import Case, Output, TokenChance
from penstock.spec.scores import Score

MAX_KEPT_TOKENS = 200


class PerplexityParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of `perplexity`."""

    model: str
    """An embedded model of this installation, or any that tells chances of given texts."""
    of: Literal["output", "expected"] = "output"
    after: Literal["input", "nothing"] = "input"
    """What stands before the text that is measured."""


class LikelihoodParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of `expected_likelihood`."""

    model: str
    per: Literal["token", "text"] = "token"
    """Mean log probability of a token, or the sum over the text (which long texts lose by)."""


class LikelihoodScorer:
    """Measures a text under a model."""

    figure: Figure | None = None

    def __init__(self, kind: ScorerKind[Any], given: Any, name: str) -> None:
        self._given, self._name = given, name
        self._info: ScorerInfo = kind.describe(given)
        self._is_perplexity = isinstance(given, PerplexityParameters)
        if not given.model.strip():
            raise ValueError("`model` is empty")

    @property
    def info(self) -> ScorerInfo:
        """What it is."""
        return self._info

    @property
    def name(self) -> str:
        """Of its score."""
        return self._name

    async def score(self, case: Case, outputs: Sequence[Output], tools: ScorerTools) -> list[Score]:
        """Return one score an output."""
        return [await self._score_one(case, output, tools) for output in outputs]

    async def _score_one(self, case: Case, output: Output, tools: ScorerTools) -> Score:
        of_expected = not self._is_perplexity or self._given.of == "expected"
        text = show_expected(case) if of_expected else show_output(output)
        if text is None or not text.strip():
            which = "the case has no expected answer" if of_expected else "the output is empty"
            return make_score(self, None, reason=which)
        if tools.likelihood is None:
            return make_error(self, "no engine that tells chances of given texts can be asked here")
        prompt = "" if self._is_perplexity and self._given.after == "nothing" else show_input(case) or ""
        try:
            chances = await tools.likelihood(self._given.model, prompt, text)
        except PenstockError as error:
            return make_error(self, str(error), fault="judge")
        value = self._measure(chances)
        if value is None:
            return make_score(self, None, reason="no token of the text has a chance")
        evidence = {
            "n_tokens": len(chances),
            "tokens": [[chance.token, round(chance.logprob, 4)] for chance in chances[:MAX_KEPT_TOKENS]],
        }
        return make_score(self, value, evidence=evidence)

    def _measure(self, chances: Sequence[TokenChance]) -> float | None:
        logs = [chance.logprob for chance in chances]
        if not logs or not all(map(math.isfinite, logs)):
            return None
        mean = sum(logs) / len(logs)
        if self._is_perplexity:
            return math.exp(min(-mean, 700.0))
        return mean if self._given.per == "token" else sum(logs)


def _make(kind: ScorerKind[Any], given: Any, name: str) -> Scorer:
    return LikelihoodScorer(kind, given, name)


KINDS: tuple[ScorerKind[Any], ...] = (
    ScorerKind(
        name="perplexity",
        summary="How surprised a model is by the answer: e to the mean negative log probability of its tokens.",
        parameters=PerplexityParameters,
        build=never_built,
        group="likelihood",
        direction="lower",
        scale="unbounded",
        low=1.0,
        high=None,
        undefined_when="the text is empty",
        needs=frozenset({"likelihood"}),
        make=_make,
    ),
    ScorerKind(
        name="expected_likelihood",
        summary="Log probability that a model gives to the expected answer after the question.",
        parameters=LikelihoodParameters,
        build=never_built,
        group="likelihood",
        scale="unbounded",
        low=None,
        high=0.0,
        undefined_when="the case has no expected answer",
        needs=frozenset({"expected", "likelihood"}),
        make=_make,
    ),
)
