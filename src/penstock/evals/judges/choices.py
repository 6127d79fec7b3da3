"""Judges that choose one of several labels, each of which is worth something: classification, factuality, closed questions.

A label may be worth nothing that can be counted (`null`): then the score is undefined and carries the label.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from penstock.evals.judges.asking import Asked, FormAsker, JudgeParameters
from penstock.evals.judges.fencing import fence_texts
from penstock.evals.judges.forms import Field, Form, FormProblem, read_reply
from penstock.evals.judges.kinds import HOUSE_RULES, Judgement, form_request, judge_kind
from penstock.evals.judges.materials import PARTS, Part, collect
from penstock.evals.scorers.types import ScorerTools
from penstock.spec.cases import Case, Output


class ClassifyParameters(JudgeParameters, frozen=True, kw_only=True):
    """Parameters of `classify`."""

    question: str
    """What decides between the choices. `{input}`, `{output}`, `{expected}` and `{passages}` are named, not filled in:
    the texts stand between marks below it."""
    choices: dict[str, float | None]
    """Label to what it is worth; `null`: undefined."""
    meanings: dict[str, str] = msgspec.field(default_factory=dict)
    """When a label is right."""
    parts: list[Part] = msgspec.field(default_factory=lambda: ["input", "output", "expected"])
    reason_first: bool = True
    """The judge writes its reason before it chooses."""
    constrained: bool = False
    """Hold the reply to one of the labels and nothing else (`structured_outputs`, as the embedded engine and vLLM take it).
    Lets small models judge; there is no reason then."""


class ChoiceJudge:
    """Chooses a label."""

    def __init__(self, given: ClassifyParameters, *, needed: Sequence[Part] = ("output",)) -> None:
        labels = list(given.choices)
        if len(labels) < 2:
            raise ValueError("`choices` needs two labels at least")
        if len({label.strip().casefold() for label in labels}) < len(labels) or not all(
            map(str.strip, labels)
        ):
            raise ValueError("two labels of `choices` are alike, or one is empty")
        if set(given.meanings) - set(labels):
            raise ValueError("`meanings` names a label that `choices` lacks")
        self._given, self._needed = given, needed
        self._form = _choice_form(labels, has_reason=given.reason_first)
        self._bare = _choice_form(labels, has_reason=False)
        told = [
            f"- {label}: {given.meanings[label].strip()}" if label in given.meanings else f"- {label}"
            for label in labels
        ]
        question = given.question
        for part in PARTS:
            question = question.replace("{" + part + "}", f"the {part.upper()}")
        end = (
            "Reply with one label and nothing else."
            if given.constrained
            else form_request(self._form.describe())
        )
        self._system = "\n".join([HOUSE_RULES, question.strip(), "Choose one label:", *told, end])

    @property
    def instruction(self) -> Any:
        """What it is told."""
        return [self._system, self._form.schema()]

    @property
    def facts(self) -> Mapping[str, Any]:
        """Bounds by what the labels are worth; 0 and 1 alone are binary."""
        worths = [float(worth) for worth in self._given.choices.values() if worth is not None]
        if not worths:
            raise ValueError("each of the `choices` is worth null")
        if set(worths) <= {0.0, 1.0} and self._given.samples == 1:
            return {"scale": "binary"}
        low, high = min([0.0, *worths]), max([1.0, *worths])
        return {"low": low, "high": high}

    async def judge(
        self, case: Case, output: Output, tools: ScorerTools, asker: FormAsker, repeat: int
    ) -> Judgement:
        """Return what the chosen label is worth."""
        shown = fence_texts(collect(case, output, self._given.parts, needed=self._needed))
        asked = await self._ask(f"{shown}\n\nNow choose the label.", tools, asker, repeat)
        if asked.answers is None:
            return Judgement(problem=asked.problem, evidence=asked.evidence, asked=[asked])
        label = str(asked.answers["label"])
        worth = self._given.choices[label]
        reason = str(asked.answers.get("reason") or "") or None
        return Judgement(
            value=None if worth is None else float(worth),
            label=label,
            reason=reason or (f"judged {label}" if worth is None else None),
            evidence=asked.evidence,
            asked=[asked],
        )

    async def _ask(self, user: str, tools: ScorerTools, asker: FormAsker, repeat: int) -> Asked:
        if not self._given.constrained:
            return await asker.fill(tools, self._system, user, self._form, repeat=repeat)
        extra = {"structured_outputs": {"choice": list(self._given.choices)}}
        asked = await asker.say(tools, self._system, user, repeat=repeat, extra=extra)
        if asked.problem is not None:
            return asked
        try:
            answers = read_reply(asked.text, self._bare)
        except FormProblem as error:
            return Asked(
                problem=f"the judge's reply could not be read: {error}",
                evidence={**asked.evidence, "replies": [asked.text]},
                cost_usd=asked.cost_usd,
                trace_id=asked.trace_id,
            )
        return Asked(
            answers=answers,
            text=asked.text,
            evidence={**asked.evidence, "format": "choice"},
            cost_usd=asked.cost_usd,
            trace_id=asked.trace_id,
        )


def _choice_form(labels: Sequence[str], *, has_reason: bool) -> Form:
    label = Field(name="label", kind="choice", choices=labels)
    reason = Field(name="reason", kind="text", ask="two short sentences", is_optional=True)
    return Form((reason, label) if has_reason else (label,))


class PresetChoiceParameters(JudgeParameters, frozen=True, kw_only=True):
    """Parameters of judges whose question is given."""

    choices: dict[str, float | None] = msgspec.field(default_factory=dict)
    """What a label is worth, where that should differ."""
    constrained: bool = False
    """Hold the reply to a label alone, for small models."""


_FACTS: dict[str, tuple[float | None, str]] = {
    "same": (1.0, "both say the same facts"),
    "immaterial": (1.0, "they differ in wording or in details that do not matter to the INPUT"),
    "part": (0.5, "the OUTPUT leaves out facts that EXPECTED has, and contradicts none"),
    "more": (0.5, "the OUTPUT has all facts of EXPECTED and further ones, and contradicts none"),
    "conflict": (0.0, "they contradict each other"),
    "no answer": (None, "the OUTPUT declines or says that it does not know"),
}


def _build_factuality(given: PresetChoiceParameters) -> ChoiceJudge:
    unknown = set(given.choices) - set(_FACTS)
    if unknown:
        raise ValueError(f"`choices` knows {', '.join(_FACTS)}, not {', '.join(sorted(unknown))}")
    shared = {name: getattr(given, name) for name in JudgeParameters.__struct_fields__}
    parameters = ClassifyParameters(
        **shared,
        question="Compare the facts of the OUTPUT with those of EXPECTED, which is right. Style and order do not count.",
        choices={label: given.choices.get(label, worth) for label, (worth, _) in _FACTS.items()},
        meanings={label: meaning for label, (_, meaning) in _FACTS.items()},
        constrained=given.constrained,
    )
    return ChoiceJudge(parameters, needed=("output", "expected"))


class ClosedQAParameters(JudgeParameters, frozen=True, kw_only=True):
    """Parameters of `closed_qa`."""

    criterion: str = "The OUTPUT answers the INPUT correctly and completely."
    """A sentence that is true of a good answer."""
    parts: list[Part] = msgspec.field(default_factory=lambda: ["input", "output", "expected"])
    constrained: bool = False
    """Hold the reply to a label alone, for small models."""


def _build_closed(given: ClosedQAParameters) -> ChoiceJudge:
    shared = {name: getattr(given, name) for name in JudgeParameters.__struct_fields__}
    parameters = ClassifyParameters(
        **shared,
        question=f"Is this true of the OUTPUT? {given.criterion}",
        choices={"yes": 1.0, "no": 0.0},
        parts=given.parts,
        constrained=given.constrained,
    )
    return ChoiceJudge(parameters)


KINDS = (
    judge_kind(
        "classify",
        summary="What the label is worth that a model chooses for the answer.",
        parameters=ClassifyParameters,
        build=ChoiceJudge,
        undefined_when="the label is worth null",
    ),
    judge_kind(
        "factuality",
        summary="Whether an answer's facts agree with the expected answer: 1 same, 0.5 part or more, 0 conflict.",
        parameters=PresetChoiceParameters,
        build=_build_factuality,
        undefined_when="the case has no expected answer, or the answer declines",
        needs=("expected",),
    ),
    judge_kind(
        "closed_qa",
        summary="1 when a model finds that a criterion holds of the answer, else 0.",
        parameters=ClosedQAParameters,
        build=_build_closed,
        scale="binary",
    ),
)
