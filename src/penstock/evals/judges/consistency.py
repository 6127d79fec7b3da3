"""Self-consistency: how far the repeats of one case say the same thing. Needs no reference.

Answers are grouped: by their plain words, by the similarity of their vectors, or by a judge who is asked of each pair whether they mean
the same. Groups are connected components, so the order of the answers makes no difference. The value is the share of the largest group.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Literal

import msgspec

from penstock.base.digest import digest_json, short_digest
from penstock.base.errors import PenstockError
from penstock.evals.judges.asking import Asked, FormAsker, JudgeParameters, sum_costs
from penstock.evals.judges.embedding import cosine
from penstock.evals.judges.fencing import fence_texts
from penstock.evals.judges.forms import Field, Form
from penstock.evals.judges.kinds import HOUSE_RULES, form_request, never_built
from penstock.evals.judges.materials import show_input
from penstock.evals.judges.quoting import plain_words
from penstock.evals.scorers.code import ScorerKind
from penstock.evals.scorers.reading import Reading, compile_pattern, read_text
from penstock.evals.scorers.types import Figure, Scorer, ScorerInfo, ScorerTools, make_error, make_score
from penstock.spec.cases import Case, Output
from penstock.spec.scores import Score

MAX_ANSWERS = 32


class ConsistencyParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of `self_consistency`."""

    method: Literal["words", "embedding", "judge"] = "words"
    """How two answers are held to be the same."""
    extract: str | None = None
    """RE2 pattern; what is compared is the first group (or all) of its last match, such as `Answer: (.*)`."""
    model: str = ""
    """With `embedding` the route that embeds, with `judge` the one that judges."""
    threshold: float = 0.9
    """With `embedding`: the cosine from which on two answers are the same."""
    max_tokens: int = 512
    sampling: dict[str, Any] = {}


_FORM = Form(
    (
        Field(name="reason", kind="text", ask="one short sentence", is_optional=True),
        Field(name="same", kind="choice", choices=("yes", "no")),
    )
)
_SYSTEM = "\n".join(
    [
        HOUSE_RULES,
        "Say whether ANSWER 1 and ANSWER 2 mean the same as answers to the INPUT.",
        "Whoever acts on one would act the same on the other. Wording and detail do not count.",
        form_request(_FORM.describe()),
    ]
)


class ConsistencyScorer:
    """Judges all repeats of a case at once."""

    figure: Figure | None = None

    def __init__(
        self, kind: ScorerKind[ConsistencyParameters], given: ConsistencyParameters, name: str
    ) -> None:
        self._given, self._name = given, name
        self._info = kind.describe(given)
        self._reading = Reading(extract=given.extract)
        self._extractor = compile_pattern(given.extract) if given.extract else None
        asking = JudgeParameters(
            model=given.model or "none", max_tokens=given.max_tokens, sampling=given.sampling
        )
        self._asker = FormAsker(asking, f"judge:{name}")

    @property
    def info(self) -> ScorerInfo:
        """What it is."""
        return self._info

    @property
    def name(self) -> str:
        """Of its score."""
        return self._name

    async def score(self, case: Case, outputs: Sequence[Output], tools: ScorerTools) -> list[Score]:
        """Return one score for all repeats."""
        texts = [
            read_text(output, self._reading, self._extractor) for output in outputs if output.status == "ok"
        ]
        texts = [text for text in texts if text.strip()]
        if len(texts) < 2:
            return [make_score(self, None, reason=f"{len(texts)} of the repeats has an answer; it takes two")]
        if len(texts) > MAX_ANSWERS:
            return [make_error(self, f"{len(texts)} repeats; at most {MAX_ANSWERS} are compared")]
        plain = [plain_words(text) or text.strip() for text in texts]
        distinct = list(dict.fromkeys(plain))
        originals = [texts[plain.index(each)] for each in distinct]
        asked: list[Asked] = []
        try:
            pairs = await self._find_same(case, originals, tools, asked)
        except PenstockError as error:
            return [make_error(self, str(error), fault="judge")]
        problem = next((each.problem for each in asked if each.problem), None)
        if problem is not None:
            return [make_error(self, problem, fault="judge")]
        groups = join(len(distinct), pairs)
        sizes = sorted((sum(plain.count(distinct[n]) for n in group) for group in groups), reverse=True)
        shares = [size / len(texts) for size in sizes]
        largest = max(groups, key=lambda group: sum(plain.count(distinct[n]) for n in group))
        evidence = {
            "n_answers": len(texts),
            "group_sizes": sizes,
            "entropy": -sum(share * math.log(share) for share in shares) + 0.0,
            "majority": originals[min(largest)],
        }
        reason = f"{sizes[0]} of {len(texts)} answers agree"
        score = make_score(self, shares[0], reason=reason, evidence=evidence)
        return [
            msgspec.structs.replace(
                score,
                cost_usd=sum_costs([each.cost_usd for each in asked]),
                trace_id=next((each.trace_id for each in asked if each.trace_id), None),
            )
        ]

    async def _find_same(
        self, case: Case, texts: Sequence[str], tools: ScorerTools, asked: list[Asked]
    ) -> list[tuple[int, int]]:
        pairs = list(combinations(range(len(texts)), 2))
        if self._given.method == "words" or not pairs:
            return []
        if self._given.method == "embedding":
            if tools.embed is None:
                asked.append(Asked(problem="no embedder can be asked here"))
                return []
            rows = await tools.embed(self._given.model, texts)
            return [(a, b) for a, b in pairs if (cosine(rows[a], rows[b]) or 0.0) >= self._given.threshold]
        question = show_input(case) or ""
        replies = await asyncio.gather(*(self._ask(question, texts[a], texts[b], tools) for a, b in pairs))
        asked.extend(replies)
        return [
            pair
            for pair, reply in zip(pairs, replies, strict=True)
            if reply.answers and reply.answers["same"] == "yes"
        ]

    async def _ask(self, question: str, first: str, second: str, tools: ScorerTools) -> Asked:
        shown = fence_texts({"INPUT": question, "ANSWER 1": first, "ANSWER 2": second})
        return await self._asker.fill(
            tools, _SYSTEM, f"{shown}\n\nNow say whether they mean the same.", _FORM, repeat=0
        )


def join(n: int, pairs: Sequence[tuple[int, int]]) -> list[set[int]]:
    """Return the connected components of `n` things by the pairs that are the same."""
    groups = [{number} for number in range(n)]
    for a, b in pairs:
        first = next(group for group in groups if a in group)
        second = next(group for group in groups if b in group)
        if first is not second:
            first |= second
            groups.remove(second)
    return groups


def _adapt(given: ConsistencyParameters) -> Mapping[str, Any]:
    if given.method != "words" and not given.model.strip():
        raise ValueError(f"method {given.method!r} needs `model`")
    if not -1 <= given.threshold <= 1:
        raise ValueError("`threshold` is a cosine, -1 to 1")
    if given.method != "judge":
        tool = {"embedding": {"embedder"}}.get(given.method, set())
        return {"needs": frozenset({"samples", *tool})}
    digest = short_digest(digest_json([_SYSTEM, _FORM.schema()]))
    return {
        "kind": "model",
        "needs": frozenset({"samples", "judge"}),
        "parameters": {**msgspec.to_builtins(given), "prompt_digest": digest},
    }


def _make(kind: ScorerKind[ConsistencyParameters], given: ConsistencyParameters, name: str) -> Scorer:
    return ConsistencyScorer(kind, given, name)


KINDS = (
    ScorerKind(
        name="self_consistency",
        summary="Share of a case's repeats that give the answer most of them give.",
        parameters=ConsistencyParameters,
        build=never_built,
        group="consistency",
        undefined_when="fewer than two repeats have an answer",
        needs=frozenset({"samples"}),
        adapt=_adapt,
        make=_make,
    ),
)
