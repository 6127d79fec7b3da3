"""Asks a judge to fill in a form: once, and once more when the reply cannot be read. Whatever happens, it is told, never scored.

A provider that takes JSON schemas is held to one; where it refuses, the next weaker way is tried and remembered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

import msgspec

from penstock.evals.judges.forms import Form, FormProblem, read_reply
from penstock.evals.scorers.types import Ask, ScorerTools
from penstock.spec.cases import Output, TokenChance

ReplyFormat = Literal["auto", "json_schema", "json_object", "text"]
_LADDER: tuple[ReplyFormat, ...] = ("json_schema", "json_object", "text")
_REFUSES_FORMAT = frozenset({400, 415, 422, 501})
MAX_KEPT_REPLY = 8_000
"""Characters of a reply that are kept as evidence."""


class JudgeParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every judge takes."""

    model: str
    """Who judges: a route, or anything else that clients put into `model`."""
    temperature: float | None = 0.0
    """None: the model's own."""
    max_tokens: int = 1024
    """Of one reply. A reply that is cut off is an error."""
    samples: int = 1
    """How often each output is judged; the score is the mean. Needs a temperature above 0."""
    format: ReplyFormat = "auto"
    """How the reply is held to the form. `auto`: by JSON schema where the provider takes one, else the next weaker way."""
    sampling: dict[str, Any] = {}
    """Further parameters of the call, such as `seed` or `reasoning_effort`."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What came of asking."""

    answers: dict[str, Any] | None = None
    """The form in order; None when there is a `problem`."""
    text: str = ""
    """The last reply."""
    problem: str | None = None
    chances: Sequence[TokenChance] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """`format`, `judged_by` and, when something went wrong, the raw `replies`."""
    cost_usd: Decimal | None = None
    """Of all calls; None when one is unknown."""
    trace_id: str | None = None


class FormAsker:
    """Asks one judge for forms. Remembers which ways of holding a reply to its form the model refuses."""

    def __init__(self, parameters: JudgeParameters, purpose: str) -> None:
        self._parameters = parameters
        self._purpose = purpose
        self._refused: set[ReplyFormat] = set()

    async def fill(self, tools: ScorerTools, system: str, user: str, form: Form, *, repeat: int) -> Asked:
        """Return the form as the judge filled it in, or why there is none."""
        if tools.ask is None:
            return Asked(problem="no model can be asked here")
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": system},
            {"role": "user", "content": user},
        ]
        calls: list[Output] = []
        replies: list[str] = []
        used: ReplyFormat = "text"
        problem = ""
        for attempt in (1, 2):
            output, used = await self._call(tools.ask, messages, form, calls, repeat)
            failure = _failure_of(output)
            if failure is not None:
                return _told(calls, replies, used, problem=failure)
            reply = output.text or ""
            replies.append(reply[:MAX_KEPT_REPLY])
            try:
                answers = read_reply(reply, form)
            except FormProblem as error:
                problem = str(error)
            else:
                return _told(
                    calls, replies if attempt > 1 else [], used, answers=answers, text=reply, output=output
                )
            if output.finish_reason == "length":
                problem = f"its reply was cut off at {self._parameters.max_tokens} tokens; raise max_tokens"
                break
            messages += [
                {"role": "assistant", "content": reply[:MAX_KEPT_REPLY] or "(nothing)"},
                {
                    "role": "user",
                    "content": f"That could not be read: {problem}. Judge the same material again and reply with the "
                    f"filled form alone, as one JSON object:\n{form.describe()}",
                },
            ]
        return _told(calls, replies, used, problem=f"the judge's reply could not be read: {problem}")

    async def say(
        self,
        tools: ScorerTools,
        system: str,
        user: str,
        *,
        repeat: int,
        extra: Mapping[str, Any] | None = None,
    ) -> Asked:
        """Return a reply in words; `extra` are further parameters of the call."""
        if tools.ask is None:
            return Asked(problem="no model can be asked here")
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        output = await tools.ask(
            self._parameters.model,
            messages,
            {**self._sampling(), **(extra or {})},
            purpose=self._purpose,
            repeat=repeat,
        )
        failure = _failure_of(output)
        if failure is None and not (output.text or "").strip():
            failure = "its reply is empty"
        if failure is not None:
            return _told([output], [output.text or ""], "text", problem=failure)
        return _told([output], [], "text", text=output.text or "", output=output)

    async def _call(
        self, ask: Ask, messages: Sequence[Mapping[str, Any]], form: Form, calls: list[Output], repeat: int
    ) -> tuple[Output, ReplyFormat]:
        wanted = self._parameters.format
        ways = [wanted] if wanted != "auto" else [way for way in _LADDER if way not in self._refused]
        refused: list[ReplyFormat] = []
        first: Output | None = None
        for way in ways:
            output = await ask(
                self._parameters.model,
                messages,
                {**self._sampling(), **_hold_to(form, way)},
                purpose=self._purpose,
                repeat=repeat,
            )
            calls.append(output)
            if not _refuses_format(output):
                self._refused.update(refused)  # it was the form: a weaker way was taken
                return output, way
            refused.append(way)
            first = first or output
        assert first is not None
        return first, ways[0]

    def _sampling(self) -> dict[str, Any]:
        given: dict[str, Any] = {"max_tokens": self._parameters.max_tokens, **self._parameters.sampling}
        if self._parameters.temperature is not None:
            given["temperature"] = self._parameters.temperature
        return given


def _hold_to(form: Form, way: ReplyFormat) -> dict[str, Any]:
    if way == "json_schema":
        schema = {"name": "form", "strict": True, "schema": form.schema()}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    return {"response_format": {"type": "json_object"}} if way == "json_object" else {}


def _refuses_format(output: Output) -> bool:
    error = output.error
    return (
        output.status == "error"
        and error is not None
        and not error.is_transient
        and error.status in _REFUSES_FORMAT
    )


def _failure_of(output: Output) -> str | None:
    if output.status == "refused" or output.finish_reason == "content_filter":
        return "the judge refused to answer"
    if output.status != "ok":
        error = output.error
        return (
            f"the judge could not be asked: {error.message} [{error.code}]"
            if error
            else "the judge was not asked"
        )
    return None


def _told(
    calls: Sequence[Output],
    replies: Sequence[str],
    used: ReplyFormat,
    *,
    problem: str | None = None,
    answers: dict[str, Any] | None = None,
    text: str = "",
    output: Output | None = None,
) -> Asked:
    last = calls[-1] if calls else None
    evidence: dict[str, Any] = {"format": used}
    if last is not None and last.model:
        evidence["judged_by"] = last.model
    if last is not None and last.versions:
        evidence["judge_versions"] = dict(last.versions)
    latencies = [call.latency_ms for call in calls if call.latency_ms is not None]
    if latencies:
        evidence["latency_ms"] = round(sum(latencies), 3)
    if replies:
        evidence["replies"] = list(replies)
    return Asked(
        answers=answers,
        text=text,
        problem=problem,
        chances=output.logprobs if output is not None else (),
        evidence=evidence,
        cost_usd=sum_costs([call.cost_usd for call in calls if call.status == "ok"]),
        trace_id=next((call.trace_id for call in reversed(calls) if call.trace_id), None),
    )


def sum_costs(costs: Sequence[Decimal | None]) -> Decimal | None:
    """Return the sum, or None when one of them is unknown or there is none."""
    known = [cost for cost in costs if cost is not None]
    return sum(known, Decimal(0)) if known and len(known) == len(costs) else None
