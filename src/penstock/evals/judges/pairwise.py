"""Two answers to one case beside each other, always in both orders: whoever wins only from one place does not win.

A flip (each order names another answer) is a tie, and is counted: the flip rate says how much the judge goes by position.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

import msgspec

from penstock.evals.judges.asking import Asked, FormAsker, JudgeParameters, sum_costs
from penstock.evals.judges.fencing import fence_texts
from penstock.evals.judges.forms import Field, Form
from penstock.evals.judges.kinds import HOUSE_RULES, Judgement, form_request, judge_kind
from penstock.evals.judges.materials import NotThere, Part, collect, show_expected, show_output
from penstock.evals.scorers.types import ScorerTools
from penstock.spec.cases import Case, Output

Side = Literal["a", "b", "tie"]
_NAMES: Mapping[str, Side] = {"first": "a", "second": "b", "tie": "tie"}


class PairwiseParameters(JudgeParameters, frozen=True, kw_only=True):
    """Parameters of `pairwise`."""

    criterion: str = (
        "Which answer serves the person who asked better: right first, then complete, then clear?"
    )
    parts: list[Part] = msgspec.field(default_factory=lambda: ["input"])
    """What is shown beside the two answers: input, expected, passages."""


@dataclass(frozen=True, kw_only=True)
class PairVerdict:
    """How two answers came out in both orders."""

    winner: Side | None = None
    """None when an order has no verdict."""
    is_flip: bool = False
    """Each order named the other answer: a tie by position."""
    first_place_wins: int = 0
    """How often the answer in the first place won, of two."""
    second_place_wins: int = 0
    problem: str | None = None
    reasons: Sequence[str] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)
    asked: Sequence[Asked] = ()

    @property
    def cost_usd(self) -> Decimal | None:
        """Of both calls."""
        return sum_costs([each.cost_usd for each in self.asked])


class PairJudge:
    """Judges pairs; as a scorer, the output against the expected answer."""

    def __init__(self, given: PairwiseParameters) -> None:
        self._given = given
        self._form = Form(
            (
                Field(name="reason", kind="text", ask="two short sentences", is_optional=True),
                Field(name="better", kind="choice", choices=tuple(_NAMES)),
            )
        )
        order = "Neither place nor length of an answer counts. If they are equally good, say tie."
        self._system = "\n".join(
            [
                HOUSE_RULES,
                f"Compare the FIRST ANSWER and the SECOND ANSWER. {given.criterion.strip()} {order}",
                form_request(self._form.describe()),
            ]
        )

    @property
    def instruction(self) -> Any:
        """What it is told."""
        return [self._system, self._form.schema()]

    @property
    def facts(self) -> Mapping[str, Any]:
        """Nothing further."""
        return {}

    async def compare(
        self, case: Case, texts: tuple[str, str], tools: ScorerTools, asker: FormAsker, repeat: int = 0
    ) -> PairVerdict:
        """Return how answer a and answer b came out; equal texts are a tie without asking."""
        if texts[0].strip() == texts[1].strip():
            return PairVerdict(winner="tie", reasons=("both answers are the same",))
        shown = collect(case, Output(case_id=case.id), self._given.parts, needed=())
        shown.pop("OUTPUT", None)
        found: list[Side] = []
        asked: list[Asked] = []
        for first, second in (texts, texts[::-1]):
            blocks = {**shown, "FIRST ANSWER": first, "SECOND ANSWER": second}
            reply = await asker.fill(
                tools,
                self._system,
                f"{fence_texts(blocks)}\n\nNow compare the two answers.",
                self._form,
                repeat=repeat,
            )
            asked.append(reply)
            if reply.answers is None:
                return PairVerdict(problem=reply.problem, evidence=reply.evidence, asked=asked)
            found.append(_NAMES[reply.answers["better"]])
        swapped: Side = {"a": "b", "b": "a", "tie": "tie"}[found[1]]  # type: ignore[assignment]  # of three words
        winner, is_flip = decide(found[0], swapped)
        return PairVerdict(
            winner=winner,
            is_flip=is_flip,
            first_place_wins=(found[0] == "a") + (swapped == "b"),
            second_place_wins=(found[0] == "b") + (swapped == "a"),
            reasons=[str(reply.answers["reason"]) for reply in asked if reply.answers],
            evidence={**asked[0].evidence, "orders": [found[0], swapped]},
            asked=asked,
        )

    async def judge(
        self, case: Case, output: Output, tools: ScorerTools, asker: FormAsker, repeat: int
    ) -> Judgement:
        """Return 1 when the output beats the expected answer, a half for a tie, 0 when it loses."""
        expected = show_expected(case)
        if expected is None:
            raise NotThere("the case has no expected answer to be compared with")
        verdict = await self.compare(case, (show_output(output), expected), tools, asker, repeat)
        if verdict.winner is None:
            return Judgement(problem=verdict.problem, evidence=verdict.evidence, asked=verdict.asked)
        return Judgement(
            value={"a": 1.0, "tie": 0.5, "b": 0.0}[verdict.winner],
            label="flip" if verdict.is_flip else {"a": "win", "tie": "tie", "b": "loss"}[verdict.winner],
            reason=next(iter(verdict.reasons), None),
            evidence={**verdict.evidence, "is_flip": verdict.is_flip},
            asked=verdict.asked,
        )


def decide(first: Side, second: Side) -> tuple[Side, bool]:
    """Return winner and whether the judge flipped, from the verdicts of both orders (both in terms of a and b).

    Only who wins in both orders wins. One win and one tie is a tie, but no flip.
    """
    if first == second:
        return first, False
    return "tie", "tie" not in {first, second}


KINDS = (
    judge_kind(
        "pairwise",
        summary="1 when a model prefers the answer to the expected one in both orders, 0.5 for a tie or a flip, else 0.",
        parameters=PairwiseParameters,
        build=PairJudge,
        undefined_when="the case has no expected answer",
        needs=("expected",),
    ),
)
