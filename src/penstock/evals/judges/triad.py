"""The RAG triad: is what was retrieved relevant, does the answer rest on it, does the answer meet the question.

An answer that declines is judged by none of the last two: its score is undefined with the label `abstained`, so that abstaining can
be counted by itself. Each verdict names its evidence, and the evidence is looked up in the text.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from penstock.evals.judges.asking import FormAsker, JudgeParameters
from penstock.evals.judges.fencing import fence_texts
from penstock.evals.judges.forms import Field, Form
from penstock.evals.judges.kinds import HOUSE_RULES, Judgement, form_request, judge_kind
from penstock.evals.judges.materials import NotThere, choose_passages, collect, show_input, show_output
from penstock.evals.judges.quoting import stands_in
from penstock.evals.scorers.types import ScorerTools
from penstock.spec.cases import Case, Output, Passage

MAX_PASSAGES = 40


class ContextParameters(JudgeParameters, frozen=True, kw_only=True):
    """Parameters of `context_relevance`."""

    by: Literal["share", "rank"] = "share"
    """`share`: of the passages that are relevant. `rank`: average precision, which also asks whether they come first."""


class ContextJudge:
    """Judges each retrieved passage by itself, all in one form."""

    _task = (
        "For each PASSAGE say whether it holds something that helps to answer the INPUT. The same topic alone is not "
        "enough. Quote the words that help."
    )

    def __init__(self, given: ContextParameters) -> None:
        self._given = given

    @property
    def instruction(self) -> Any:
        """What it is told."""
        return [HOUSE_RULES, self._task, _passage_form(1).schema()]

    @property
    def facts(self) -> Mapping[str, Any]:
        """Nothing further."""
        return {}

    async def judge(
        self, case: Case, output: Output, tools: ScorerTools, asker: FormAsker, repeat: int
    ) -> Judgement:
        """Return the share of relevant passages, or their average precision."""
        passages = output.passages[:MAX_PASSAGES]
        if not passages:
            raise NotThere("the output names no passages that were retrieved")
        question = show_input(case)
        if question is None:
            raise NotThere("the case has no input")
        form = _passage_form(len(passages))
        shown = {"INPUT": question, **_number(passages)}
        system = "\n".join([HOUSE_RULES, self._task, form_request(form.describe())])
        asked = await asker.fill(
            tools, system, f"{fence_texts(shown)}\n\nNow judge each passage.", form, repeat=repeat
        )
        if asked.answers is None:
            return Judgement(problem=asked.problem, evidence=asked.evidence, asked=[asked])
        rows = []
        for number, passage in enumerate(passages, 1):
            answer = asked.answers[f"passage_{number}"]
            quote = str(answer["quote"]).strip()
            row: dict[str, Any] = {"passage": passage.id or number, "relevant": answer["relevant"] == "yes"}
            if quote:
                row |= {"quote": quote, "quote_found": stands_in(quote, [passage.text])}
            if row["relevant"] and row.get("quote_found") is False:
                row |= {"relevant": False, "void": "its quotation stands nowhere in the passage"}
            rows.append(row)
        hits = [bool(row["relevant"]) for row in rows]
        value = sum(hits) / len(hits) if self._given.by == "share" else average_precision(hits)
        return Judgement(
            value=value,
            reason=f"{sum(hits)} of {len(hits)} passages are relevant",
            evidence={**asked.evidence, "passages": rows},
            asked=[asked],
        )


def average_precision(hits: Sequence[bool]) -> float:
    """Return the mean precision at each relevant place; 0 when none is relevant."""
    found, total = 0, 0.0
    for rank, hit in enumerate(hits, 1):
        if hit:
            found += 1
            total += found / rank
    return total / found if found else 0.0


class GroundednessParameters(JudgeParameters, frozen=True, kw_only=True):
    """Parameters of `groundedness`."""

    source: Literal["either", "output", "case"] = "either"
    """Passages that the target retrieved (`output`), those of the dataset (`case`), or the first where there are any."""


class GroundednessJudge:
    """Splits an answer into claims and looks for each in the passages."""

    _task = (
        "List every claim of fact that the OUTPUT makes, each as one short sentence that stands by itself. Greetings, "
        "questions, advice to ask somebody and remarks about the answer itself are no claims. For each claim say whether "
        "the PASSAGES support it, contradict it, or hold nothing about it (not found), and quote the words of the passage "
        "that decide it, verbatim. Only the passages count, not what you know. If the OUTPUT declines to answer or says "
        "that it does not know, answer abstains with yes and list no claims."
    )

    def __init__(self, given: GroundednessParameters) -> None:
        self._given = given
        claim = Form(
            (
                Field(name="claim", kind="text", ask="the claim"),
                Field(
                    name="quote",
                    kind="text",
                    ask="the passage's words, verbatim; empty if none",
                    is_optional=True,
                ),
                Field(name="verdict", kind="choice", choices=("supported", "contradicted", "not found")),
            )
        )
        self._form = Form(
            (
                Field(name="abstains", kind="choice", choices=("yes", "no")),
                Field(name="claims", kind="list", form=claim),
            )
        )
        self._system = "\n".join([HOUSE_RULES, self._task, form_request(self._form.describe())])

    @property
    def instruction(self) -> Any:
        """What it is told."""
        return [self._system, self._form.schema()]

    @property
    def facts(self) -> Mapping[str, Any]:
        """What it looks at."""
        return {"needs": frozenset({"judge", "context" if self._given.source == "output" else "judge"})}

    async def judge(
        self, case: Case, output: Output, tools: ScorerTools, asker: FormAsker, repeat: int
    ) -> Judgement:
        """Return the share of claims that are supported by words that stand in a passage."""
        passages = choose_passages(case, output, self._given.source)[:MAX_PASSAGES]
        if not passages:
            raise NotThere("there are no passages that the answer could rest on")
        answer = show_output(output)
        if not answer.strip():
            raise NotThere("the answer is empty and claims nothing")
        shown = {"INPUT": show_input(case) or "", "OUTPUT": answer, **_number(passages)}
        asked = await asker.fill(
            tools,
            self._system,
            f"{fence_texts(shown)}\n\nNow check the claims of the OUTPUT.",
            self._form,
            repeat=repeat,
        )
        if asked.answers is None:
            return Judgement(problem=asked.problem, evidence=asked.evidence, asked=[asked])
        if asked.answers["abstains"] == "yes":
            return Judgement(
                label="abstained", reason="the answer declines", evidence=asked.evidence, asked=[asked]
            )
        rows = [_check_claim(entry, passages) for entry in asked.answers["claims"] if entry["claim"].strip()]
        evidence = {**asked.evidence, "claims": rows}
        if not rows:
            return Judgement(reason="the answer makes no claim", evidence=evidence, asked=[asked])
        n_good = sum(row["counts"] for row in rows)
        missed = [str(row["claim"]) for row in rows if not row["counts"]]
        reason = f"{n_good} of {len(rows)} claims are supported"
        return Judgement(
            value=n_good / len(rows),
            label="grounded" if not missed else "ungrounded",
            reason=f"{reason}; not: {missed[0]}" if missed else reason,
            evidence=evidence,
            asked=[asked],
        )


def _check_claim(entry: Mapping[str, Any], passages: Sequence[Passage]) -> dict[str, Any]:
    quote, verdict = str(entry["quote"]).strip(), str(entry["verdict"])
    where = next(
        (number for number, passage in enumerate(passages, 1) if stands_in(quote, [passage.text])), None
    )
    row: dict[str, Any] = {"claim": entry["claim"], "verdict": verdict}
    if quote:
        row["quote"] = quote
    if where is not None:
        row["passage"] = passages[where - 1].id or where
    row["counts"] = verdict == "supported" and where is not None
    if verdict == "supported" and where is None:
        row["void"] = "its quotation stands in no passage"
    return row


class AnswerJudge:
    """Judges whether an answer meets the question."""

    _task = (
        "Say how far the OUTPUT meets what the INPUT asks. Whether it is true does not count here. `abstains`: it declines "
        "or says that it does not know. `evades`: it talks of something else. `partly`: it meets a part of the question, or "
        "buries it in what was not asked. `meets`: it answers what was asked, all of it."
    )
    _worth: Mapping[str, float | None] = {"meets": 1.0, "partly": 0.5, "evades": 0.0, "abstains": None}

    def __init__(self, _given: JudgeParameters) -> None:
        self._form = Form(
            (
                Field(name="reason", kind="text", ask="one short sentence", is_optional=True),
                Field(name="verdict", kind="choice", choices=tuple(self._worth)),
            )
        )
        self._system = "\n".join([HOUSE_RULES, self._task, form_request(self._form.describe())])

    @property
    def instruction(self) -> Any:
        """What it is told."""
        return [self._system, self._form.schema()]

    @property
    def facts(self) -> Mapping[str, Any]:
        """Nothing further."""
        return {}

    async def judge(
        self, case: Case, output: Output, tools: ScorerTools, asker: FormAsker, repeat: int
    ) -> Judgement:
        """Return 1, a half or 0."""
        shown = fence_texts(collect(case, output, ("input", "output"), needed=("input", "output")))
        asked = await asker.fill(
            tools, self._system, f"{shown}\n\nNow judge the OUTPUT.", self._form, repeat=repeat
        )
        if asked.answers is None:
            return Judgement(problem=asked.problem, evidence=asked.evidence, asked=[asked])
        verdict = str(asked.answers["verdict"])
        value = self._worth[verdict]
        return Judgement(
            value=value,
            label="abstained" if value is None else verdict,
            reason=asked.answers["reason"] or ("the answer declines" if value is None else None),
            evidence=asked.evidence,
            asked=[asked],
        )


def _number(passages: Sequence[Passage]) -> dict[str, str]:
    return {f"PASSAGE {number}": passage.text for number, passage in enumerate(passages, 1)}


def _passage_form(n: int) -> Form:
    answer = Form(
        (
            Field(
                name="quote",
                kind="text",
                ask="the words that help, verbatim; empty if none",
                is_optional=True,
            ),
            Field(name="relevant", kind="choice", choices=("yes", "no")),
        )
    )
    return Form(
        tuple(
            Field(name=f"passage_{number}", kind="object", form=answer, short="relevant")
            for number in range(1, n + 1)
        )
    )


KINDS = (
    judge_kind(
        "context_relevance",
        summary="Share of the retrieved passages that help to answer the question, by a model.",
        parameters=ContextParameters,
        build=ContextJudge,
        undefined_when="nothing was retrieved",
        needs=("context",),
    ),
    judge_kind(
        "groundedness",
        summary="Share of the answer's claims that words of the passages support, by a model; quotations are looked up.",
        parameters=GroundednessParameters,
        build=GroundednessJudge,
        undefined_when="there are no passages, the answer claims nothing, or it abstains",
    ),
    judge_kind(
        "answer_relevance",
        summary="How far the answer meets the question: 1, a half or 0, by a model.",
        parameters=JudgeParameters,
        build=AnswerJudge,
        undefined_when="the answer abstains",
    ),
)
