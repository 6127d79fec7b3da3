"""Rows from traffic: what was asked becomes a case, what was answered or what a person said becomes what is expected of it.

What was masked when it was recorded stays masked; calls whose payloads are gone are counted, never guessed. Pure functions.
"""

from typing import Any

from penstock.base.errors import InvalidInput
from penstock.datasets.types import Judgement, TrafficRow
from penstock.spec.datasets import DatasetFormat, DatasetRow, Provenance

EXPECTED = ("none", "reply", "feedback")
FEEDBACK_FORMATS: tuple[DatasetFormat, ...] = ("cases", "label", "preference")
GOOD = 0.5
"""Judgements of this value and over count as approval."""


def check_expected(expected: str) -> None:
    """Raise `InvalidInput` for what is no way to fill what is expected."""
    if expected not in EXPECTED:
        raise InvalidInput(
            f"{expected!r} is no source of expected answers.", hint=f"Use {', '.join(EXPECTED)}."
        )


def call_to_row(call: TrafficRow, expected: str, correction: str | None = None) -> DatasetRow | str:
    """Return a row of format `cases`, or why there is none. `expected`: `none`, `reply` or `feedback`."""
    if call.dropped:
        return "payload not kept"
    fields = _asked(call)
    if not fields:
        return "nothing was asked"
    if expected == "reply":
        if call.reply is None:
            return "no reply"
        fields["expected"] = call.reply
    elif expected == "feedback":
        if correction is None:
            return "no correction by a person"
        fields["expected"] = correction
    return _row(call, fields, "trace")


def judgement_to_row(judged: Judgement, form: DatasetFormat, good: float = GOOD) -> DatasetRow | str:
    """Return a row of `cases`, `label` or `preference` from what a person said, or why there is none.

    cases       expected is the correction, or the reply when it was approved; rejected without correction it is unknown
    label       the reply that was judged, with the person's label, or `good` / `bad` by the value
    preference  the correction is chosen, the reply rejected
    """
    call = judged.call
    if call is None:
        return "judged call not found"
    if call.dropped:
        return "payload not kept"
    asked = _asked(call)
    if not asked:
        return "nothing was asked"
    is_good = None if judged.value is None else judged.value >= good
    if form == "label":
        label = judged.label or (None if is_good is None else "good" if is_good else "bad")
        if label is None or not isinstance(call.reply, str):
            return "no label" if label is None else "reply is no text"
        return _row(call, {"text": call.reply, "label": label}, "feedback", judged, question=_question(call))
    if form == "preference":
        if judged.correction is None or not isinstance(call.reply, str):
            return "no correction by a person" if judged.correction is None else "reply is no text"
        talk: dict[str, Any] = {"messages": call.messages} if call.messages else {"prompt": _question(call)}
        return _row(call, {**talk, "chosen": judged.correction, "rejected": call.reply}, "feedback", judged)
    expected = judged.correction if judged.correction is not None else call.reply if is_good else None
    more = {} if expected is None else {"expected": expected}
    return _row(call, {**asked, **more}, "feedback", judged)


def likeness(row: DatasetRow) -> str:
    """Return text that is equal for rows that ask the same."""
    asked = {name: row.fields.get(name) for name in ("messages", "input", "inputs", "prompt", "text")}
    return repr(asked)


def _asked(call: TrafficRow) -> dict[str, Any]:
    if call.messages:
        return {"messages": call.messages}
    if set(call.inputs) == {"input"} and isinstance(call.inputs["input"], str):
        return {"input": call.inputs["input"]} if call.inputs["input"].strip() else {}
    return {"inputs": call.inputs} if call.inputs else {}


def _question(call: TrafficRow) -> str | None:
    for message in reversed(call.messages):
        if message.get("role") == "user" and isinstance(message.get("content"), str):
            return str(message["content"])
    asked = call.inputs.get("input")
    return asked if isinstance(asked, str) else None


def _row(
    call: TrafficRow, fields: dict[str, Any], kind: str, judged: Judgement | None = None, **more: Any
) -> DatasetRow:
    metadata = {**call.facts, **{name: value for name, value in more.items() if value is not None}}
    tags = []
    if judged is not None:
        metadata["feedback"] = {
            name: value
            for name, value in (
                ("name", judged.name),
                ("value", judged.value),
                ("label", judged.label),
                ("comment", judged.comment),
            )
            if value is not None
        }
        if judged.value is not None:
            tags = ["approved" if judged.value >= GOOD else "disapproved"]
    return DatasetRow(
        id=f"{kind}-{call.span_id}-{judged.name}"[:200] if judged is not None else f"{kind}-{call.span_id}",
        fields=fields,
        group=call.group,
        tags=tags,
        metadata=metadata,
        provenance=Provenance(kind=kind, source=f"{call.trace_id}/{call.span_id}"),  # type: ignore[arg-type]
    )
