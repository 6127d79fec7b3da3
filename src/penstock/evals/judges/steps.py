"""Judging by steps, in the manner of G-Eval (Liu et al., 2023): criteria, evaluation steps written once, then a number.

Two estimators that are never mixed: `samples` is the mean of the numbers that were given, `weighted` the mean of the scale's numbers
weighted by the chances of their tokens. A judge that gives no chances is an error under `weighted`, never a plain number.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from penstock.base.errors import UpstreamError
from penstock.evals.judges.asking import FormAsker, JudgeParameters
from penstock.evals.judges.errors import JudgeUnusable
from penstock.evals.judges.fencing import fence_texts
from penstock.evals.judges.forms import Field, Form
from penstock.evals.judges.kinds import HOUSE_RULES, Judgement, form_request, judge_kind
from penstock.evals.judges.materials import Part, collect
from penstock.evals.judges.rubric import check_scale
from penstock.evals.scorers.types import ScorerTools
from penstock.spec.cases import Case, Output, TokenChance

MIN_MASS = 0.5
"""Share of a token's chance that must fall on numbers of the scale; with less the judge was not about to rate."""
N_RIVALS = 20


class StepsJudgeFailed(UpstreamError):
    """The model that should write evaluation steps did not."""

    code = "PS-4310"


class GEvalParameters(JudgeParameters, frozen=True, kw_only=True):
    """Parameters of `g_eval`."""

    criteria: str
    """What is judged, in a sentence or two."""
    steps: list[str] = msgspec.field(default_factory=list)
    """How it is judged, step by step. `penstock judge create` lets the model write them, once, into the judge's version."""
    low: int = 1
    high: int = 5
    estimator: Literal["samples", "weighted"] = "samples"
    """`samples`: the mean of the numbers given. `weighted`: by the chances of the number's token; needs log probabilities."""
    parts: list[Part] = msgspec.field(default_factory=lambda: ["input", "output", "expected"])


class StepsJudge:
    """Follows steps and rates."""

    def __init__(self, given: GEvalParameters) -> None:
        check_scale(given.low, given.high)
        if not given.steps:
            raise ValueError(
                "`steps` is empty; write them, or let `penstock judge create` have the model write them once"
            )
        if given.estimator == "weighted" and given.samples > 1:
            raise ValueError("`weighted` judges once; leave `samples` at 1")
        if given.estimator == "weighted" and given.high > 9 >= given.low:
            raise ValueError("`weighted` needs numbers of one digit, which are one token")
        self._given = given
        self._form = Form(
            (
                Field(name="reason", kind="text", ask="what the steps showed, briefly", is_optional=True),
                Field(name="rating", kind="integer", low=given.low, high=given.high),
            )
        )
        steps = [f"{number}. {step.strip()}" for number, step in enumerate(given.steps, 1)]
        scale = f"Then rate the OUTPUT with a whole number from {given.low} (worst) to {given.high} (best)."
        end = (
            "Reply with the number alone and nothing else."
            if given.estimator == "weighted"
            else form_request(self._form.describe())
        )
        self._system = "\n".join(
            [HOUSE_RULES, f"Criteria: {given.criteria.strip()}", "Steps:", *steps, scale, end]
        )

    @property
    def instruction(self) -> Any:
        """What it is told."""
        return [self._system, self._form.schema()]

    @property
    def facts(self) -> Mapping[str, Any]:
        """The bounds of the scale."""
        return {"low": float(self._given.low), "high": float(self._given.high)}

    async def judge(
        self, case: Case, output: Output, tools: ScorerTools, asker: FormAsker, repeat: int
    ) -> Judgement:
        """Return the number, by the one estimator that the judge has."""
        shown = fence_texts(collect(case, output, self._given.parts))
        if self._given.estimator == "samples":
            asked = await asker.fill(
                tools,
                self._system,
                f"{shown}\n\nNow follow the steps and fill in the form.",
                self._form,
                repeat=repeat,
            )
            if asked.answers is None:
                return Judgement(problem=asked.problem, evidence=asked.evidence, asked=[asked])
            return Judgement(
                value=float(asked.answers["rating"]),
                reason=asked.answers["reason"] or None,
                evidence=asked.evidence,
                asked=[asked],
            )
        extra = {"logprobs": True, "top_logprobs": N_RIVALS}
        asked = await asker.say(
            tools, self._system, f"{shown}\n\nThe rating, as a number alone:", repeat=repeat, extra=extra
        )
        if asked.problem is not None:
            return Judgement(problem=asked.problem, evidence=asked.evidence, asked=[asked])
        value, told = weigh_rating(asked.chances, self._given.low, self._given.high)
        evidence = {**asked.evidence, **told}
        if value is None:
            return Judgement(
                problem=str(told["problem"]), evidence={**evidence, "replies": [asked.text]}, asked=[asked]
            )
        return Judgement(value=value, evidence=evidence, asked=[asked])


def weigh_rating(chances: Sequence[TokenChance], low: int, high: int) -> tuple[float | None, dict[str, Any]]:
    """Return the mean of the scale's numbers weighted by their chances at the first token that is one of them.

    None with a `problem` when there are no chances, no such token, or less than `MIN_MASS` on the scale.
    """
    if not chances:
        return None, {
            "problem": "the model tells no token chances; use estimator = samples, or a model that does"
        }
    for chance in chances:
        if _number(chance.token, low, high) is None:
            continue
        masses: dict[int, float] = {}
        for token, logprob in {**chance.rivals, chance.token: chance.logprob}.items():
            number = _number(token, low, high)
            if number is not None and math.isfinite(logprob):
                masses[number] = masses.get(number, 0.0) + math.exp(logprob)
        mass = sum(masses.values())
        if mass < MIN_MASS:
            return None, {"problem": f"only {mass:.0%} of the token's chance is on the scale"}
        value = sum(number * share for number, share in masses.items()) / mass
        return value, {
            "chances": {str(number): share for number, share in sorted(masses.items())},
            "mass": mass,
        }
    return None, {"problem": f"the reply has no number from {low} to {high}"}


def _number(token: str, low: int, high: int) -> int | None:
    text = token.strip()
    return int(text) if text.isascii() and text.isdigit() and low <= int(text) <= high else None


_STEPS_FORM = Form(
    (
        Field(
            name="steps",
            kind="list",
            form=Form((Field(name="step", kind="text", ask="one step, as an instruction"),)),
        ),
    )
)


async def write_steps(given: GEvalParameters, tools: ScorerTools) -> GEvalParameters:
    """Return the parameters with steps that their model wrote from the criteria; those that are there stay.

    Raises `StepsJudgeFailed`. To be called once: the steps belong into the judge's version.
    """
    if given.steps:
        return given
    if not given.criteria.strip():
        raise JudgeUnusable("`criteria` is empty; there is nothing to write steps for.")
    system = (
        "You write evaluation procedures. From the criteria you are given, write three to six short steps that a careful "
        "reader follows to rate one answer of an AI system. Name nothing that the criteria do not ask for.\n"
        + form_request(_STEPS_FORM.describe())
    )
    parts = ", ".join(part.upper() for part in given.parts)
    user = f"{fence_texts({'CRITERIA': given.criteria})}\n\nThe reader sees: {parts}. The scale goes from {given.low} to {given.high}."
    asked = await FormAsker(given, "judge:steps").fill(tools, system, user, _STEPS_FORM, repeat=0)
    steps = [
        entry["step"].strip() for entry in (asked.answers or {}).get("steps", []) if entry["step"].strip()
    ]
    if not steps:
        raise StepsJudgeFailed(
            f"{given.model} wrote no steps: {asked.problem or 'an empty list'}.",
            hint="Write `steps` yourself, or name another model.",
        )
    return msgspec.structs.replace(given, steps=steps[:12])


KINDS = (
    judge_kind(
        "g_eval",
        summary="A number of a scale, given by a model that follows evaluation steps (G-Eval).",
        parameters=GEvalParameters,
        build=StepsJudge,
        low=1.0,
        high=5.0,
    ),
)
