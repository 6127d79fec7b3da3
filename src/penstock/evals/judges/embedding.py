"""Scorers that go by vectors: how near an answer is to the expected one, token by token, or how near to the question.

`bertscore` is BERTScore's greedy matching (Zhang et al., 2020) over the token vectors of a local embedder, without idf weights and
without rescaling. Its numbers are not those of roberta-large: compare them with each other only, for one and the same embedder.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy import float64
from numpy.typing import NDArray

from penstock.base.errors import PenstockError
from penstock.evals.judges.asking import FormAsker, JudgeParameters
from penstock.evals.judges.fencing import fence_texts
from penstock.evals.judges.forms import Field, Form
from penstock.evals.judges.kinds import HOUSE_RULES, Judgement, form_request, judge_kind, never_built
from penstock.evals.judges.materials import NotThere, show_input, show_output
from penstock.evals.scorers.code import ScorerKind
from penstock.evals.scorers.reading import NoScore, Reading, compile_pattern, read_references, read_text
from penstock.evals.scorers.types import Figure, Scorer, ScorerInfo, ScorerTools, make_error, make_score
from penstock.spec.cases import Case, Output
from penstock.spec.scores import Score

EMBEDDER = "minilm"
"""The route that is asked unless told."""


class EmbeddingParameters(Reading, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of `embedding_similarity`."""

    model: str = EMBEDDER
    """The route that embeds."""


class TokenParameters(Reading, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of `bertscore`."""

    model: str = EMBEDDER
    """An embedded encoder of this installation."""
    part: Literal["f1", "precision", "recall"] = "f1"


class VectorScorer:
    """Compares the vector of the output with those of the acceptable answers; the nearest one counts."""

    figure: Figure | None = None

    def __init__(self, kind: ScorerKind[Any], given: Any, name: str) -> None:
        self._given, self._name = given, name
        self._info: ScorerInfo = kind.describe(given)
        self._extractor = compile_pattern(given.extract) if given.extract else None

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
        try:
            references = [text for text in read_references(case, self._given) if text.strip()]
            text = read_text(output, self._given, self._extractor)
            if not references:
                raise NoScore("the expected answer is empty")
            if not text.strip():
                raise NoScore("the output is empty, and nothing has no vector")
            value, evidence = await self._compare(text, references, tools)
        except NoScore as reason:
            return make_score(self, None, reason=str(reason))
        except PenstockError as error:
            return make_error(self, str(error), fault="judge")
        return make_score(self, value, evidence=evidence)

    async def _compare(
        self, text: str, references: Sequence[str], tools: ScorerTools
    ) -> tuple[float, dict[str, Any]]:
        if tools.embed is None:
            raise NoScore("no embedder can be asked here")
        rows = await tools.embed(self._given.model, [text, *references])
        found = [cosine(rows[0], row) for row in rows[1:]]
        known = [value for value in found if value is not None]
        if not known:
            raise NoScore("the embedder knows none of the words")
        return max(known), {"reference": found.index(max(known)), "cosines": found}


class TokenScorer(VectorScorer):
    """BERTScore over the tokens of a local encoder."""

    async def _compare(
        self, text: str, references: Sequence[str], tools: ScorerTools
    ) -> tuple[float, dict[str, Any]]:
        if tools.embed_tokens is None:
            raise NoScore("no embedder that gives a vector a token can be asked here")
        rows = await tools.embed_tokens(self._given.model, [text, *references])
        found = [
            match_tokens(np.asarray(rows[0], dtype=np.float64), np.asarray(row, dtype=np.float64))
            for row in rows[1:]
        ]
        best = max(range(len(found)), key=lambda number: found[number]["f1"])
        return found[best][self._given.part], {"reference": best, **found[best]}


def match_tokens(candidate: NDArray[float64], reference: NDArray[float64]) -> dict[str, float]:
    """Return precision, recall and F1 of greedy matching: each token with the nearest one of the other side."""
    a, b = _normalise(candidate), _normalise(reference)
    near = a @ b.T
    precision, recall = float(near.max(axis=1).mean()), float(near.max(axis=0).mean())
    f1 = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    return {
        name: min(1.0, value) for name, value in (("precision", precision), ("recall", recall), ("f1", f1))
    }


def _normalise(rows: NDArray[float64]) -> NDArray[float64]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[float64] = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    return unit


def cosine(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the cosine of two vectors, or None when one of them is zero."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return min(1.0, max(-1.0, float(a @ b) / length)) if length > 0 else None


class AskedBackParameters(JudgeParameters, frozen=True, kw_only=True):
    """Parameters of `answer_similarity`."""

    embedder: str = EMBEDDER
    """The route that embeds."""
    n_questions: int = 3
    """Questions that the answer would answer, written by the model."""


class AskedBackJudge:
    """Asks which questions the answer would answer, and how near they are to the one that was asked."""

    _task = (
        "Write the questions that the OUTPUT is the answer to, as different from each other as the OUTPUT allows. If the "
        "OUTPUT declines or says that it does not know, answer abstains with yes."
    )

    def __init__(self, given: AskedBackParameters) -> None:
        if not 1 <= given.n_questions <= 10:
            raise ValueError("`n_questions` is 1 to 10")
        self._given = given
        names = [f"question_{number}" for number in range(1, given.n_questions + 1)]
        self._names = names
        self._form = Form(
            (
                Field(name="abstains", kind="choice", choices=("yes", "no")),
                *(Field(name=name, kind="text", ask="a question", is_optional=True) for name in names),
            )
        )
        self._system = "\n".join([HOUSE_RULES, self._task, form_request(self._form.describe())])

    @property
    def instruction(self) -> Any:
        """What it is told."""
        return [self._system, self._form.schema()]

    @property
    def facts(self) -> Mapping[str, Any]:
        """A cosine can be below zero."""
        return {"low": -1.0, "high": 1.0}

    async def judge(
        self, case: Case, output: Output, tools: ScorerTools, asker: FormAsker, repeat: int
    ) -> Judgement:
        """Return the mean cosine of the question and those that the answer would answer."""
        question = show_input(case)
        if question is None:
            raise NotThere("the case has no input")
        if tools.embed is None:
            raise NotThere("no embedder can be asked here")
        shown = fence_texts({"OUTPUT": show_output(output)})
        asked = await asker.fill(
            tools, self._system, f"{shown}\n\nNow fill in the form.", self._form, repeat=repeat
        )
        if asked.answers is None:
            return Judgement(problem=asked.problem, evidence=asked.evidence, asked=[asked])
        if asked.answers["abstains"] == "yes":
            return Judgement(
                label="abstained", reason="the answer declines", evidence=asked.evidence, asked=[asked]
            )
        texts = [asked.answers[name] for name in self._names if asked.answers[name].strip()]
        if not texts:
            return Judgement(problem="the judge wrote no question", evidence=asked.evidence, asked=[asked])
        try:
            rows = await tools.embed(self._given.embedder, [question, *texts])
        except PenstockError as error:
            return Judgement(problem=str(error), evidence=asked.evidence, asked=[asked])
        near = [value for row in rows[1:] if (value := cosine(rows[0], row)) is not None]
        evidence = {**asked.evidence, "questions": texts, "cosines": near}
        if not near:
            return Judgement(reason="the embedder knows none of the words", evidence=evidence, asked=[asked])
        return Judgement(value=sum(near) / len(near), evidence=evidence, asked=[asked])


def _make_vector(kind: ScorerKind[Any], given: Any, name: str) -> Scorer:
    return VectorScorer(kind, given, name)


def _make_token(kind: ScorerKind[Any], given: Any, name: str) -> Scorer:
    return TokenScorer(kind, given, name)


KINDS: tuple[ScorerKind[Any], ...] = (
    ScorerKind(
        name="embedding_similarity",
        summary="Cosine of the answer's vector and the nearest expected answer's.",
        parameters=EmbeddingParameters,
        build=never_built,
        group="embedding",
        low=-1.0,
        high=1.0,
        undefined_when="the case has no expected answer, or the answer is empty",
        needs=frozenset({"expected", "embedder"}),
        make=_make_vector,
    ),
    ScorerKind(
        name="bertscore",
        summary="Greedy matching of the answer's token vectors with the expected answer's, by a local encoder.",
        parameters=TokenParameters,
        build=never_built,
        group="embedding",
        low=-1.0,
        high=1.0,
        undefined_when="the case has no expected answer, or the answer is empty",
        needs=frozenset({"expected", "embedder"}),
        make=_make_token,
    ),
    judge_kind(
        "answer_similarity",
        summary="Cosine of the question and the questions that the answer would answer, which a model writes.",
        parameters=AskedBackParameters,
        build=AskedBackJudge,
        undefined_when="the answer abstains",
        needs=("embedder",),
        low=-1.0,
        high=1.0,
    ),
)
