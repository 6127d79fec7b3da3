"""The same rows told in another format, where that has a meaning. Pure functions; what cannot be told raises `WrongFormat`."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from penstock.datasets.cases import case_to_row, message_text, row_to_case
from penstock.datasets.errors import WrongFormat
from penstock.spec.datasets import DatasetFormat, DatasetRow

_Way = Callable[[DatasetRow], DatasetRow]


def convert_row(row: DatasetRow, of: DatasetFormat, to: DatasetFormat) -> DatasetRow:
    """Return the row in format `to`, with its id, split, group, tags, metadata and provenance; raise `WrongFormat`."""
    if of == to:
        return row
    way = _WAYS.get((of, to))
    if way is None and to == "cases":
        made = case_to_row(row_to_case(row, of))
        return msgspec.structs.replace(made, provenance=row.provenance)
    if way is None:
        targets = sorted({each[1] for each in _WAYS if each[0] == of} | {"cases"})
        raise WrongFormat(
            f"Rows of {of} cannot be told as {to}.", hint=f"They can be told as {', '.join(targets)}."
        )
    return way(row)


def _with(row: DatasetRow, fields: dict[str, Any]) -> DatasetRow:
    return msgspec.structs.replace(row, fields=fields)


def _instruct_to_chat(row: DatasetRow) -> DatasetRow:
    context = row.fields.get("input")
    asked = f"{row.fields['instruction']}\n\n{context}" if context else row.fields["instruction"]
    return _with(row, {"messages": [_turn("user", asked), _turn("assistant", row.fields["output"])]})


def _chat_to_instruct(row: DatasetRow) -> DatasetRow:
    messages = row.fields["messages"]
    roles = [message["role"] for message in messages]
    if roles not in (["user", "assistant"], ["system", "user", "assistant"]) or row.fields.get("tools"):
        raise _untold(
            row, "instruct", f"its turns are {', '.join(roles)}; only one question and one answer can be"
        )
    texts = [message_text(message) for message in messages]
    if any(text is None for text in texts):
        raise _untold(row, "instruct", "a message holds more than text")
    fields = {"instruction": texts[0], "output": texts[-1]}
    return _with(
        row, {"instruction": texts[0], "input": texts[1], "output": texts[2]} if len(texts) == 3 else fields
    )


def _cases_to_chat(row: DatasetRow) -> DatasetRow:
    expected = row.fields.get("expected")
    reply = expected[0] if isinstance(expected, list) and expected else expected
    if not isinstance(reply, str):
        raise _untold(row, "chat", "its expected answer is no text")
    messages = list(row.fields.get("messages", []))
    if not messages:
        case = row_to_case(row, "cases")
        asked = case.inputs.get("input")
        if not isinstance(asked, str):
            raise _untold(row, "chat", "its inputs are variables of a prompt, not one text")
        messages = [_turn("user", asked)]
    return _with(row, {"messages": [*messages, _turn("assistant", reply)]})


def _cases_to_instruct(row: DatasetRow) -> DatasetRow:
    return _chat_to_instruct(_cases_to_chat(row))


def _preference_to_chat(row: DatasetRow) -> DatasetRow:
    asked = row.fields.get("messages") or [_turn("user", row.fields["prompt"])]
    chosen = row.fields["chosen"]
    reply = chosen if isinstance(chosen, list) else [_turn("assistant", chosen)]
    tools = {"tools": row.fields["tools"]} if row.fields.get("tools") else {}
    return _with(row, {"messages": [*asked, *reply], **tools})


def _turn(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


def _untold(row: DatasetRow, to: str, why: str) -> WrongFormat:
    return WrongFormat(
        f"Row {row.id!r} cannot be told as {to}: {why}.", hint="Leave it out with a filter first.", row=row.id
    )


_WAYS: Mapping[tuple[DatasetFormat, DatasetFormat], _Way] = {
    ("instruct", "chat"): _instruct_to_chat,
    ("chat", "instruct"): _chat_to_instruct,
    ("cases", "chat"): _cases_to_chat,
    ("cases", "instruct"): _cases_to_instruct,
    ("preference", "chat"): _preference_to_chat,
    ("label", "chat"): lambda row: _with(
        row, {"messages": [_turn("user", row.fields["text"]), _turn("assistant", str(row.fields["label"]))]}
    ),
}
