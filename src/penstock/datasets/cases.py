"""Rows as cases of an evaluation: what is asked, and what is known about a good answer. Pure functions."""

from typing import Any

from penstock.spec.cases import Case, Passage
from penstock.spec.datasets import DatasetFormat, DatasetRow


def row_to_case(row: DatasetRow, form: DatasetFormat) -> Case:
    """Return the case that a row of this format asks; id, group, split, tags and metadata go along.

    cases       as it says: a text of `inputs` or `input` is variable `input`, an object all variables
    chat        messages before the last assistant turn; expected is that turn's text
    instruct    variables `instruction` and `context`, and both as one text in `input`; expected is the output
    preference  the prompt; expected is the chosen answer, the rejected one lies in the metadata
    label       variable `input` is the text; expected is the label
    retrieval   variable `input` is the query; passages, relevant ids; expected is the answer where there is one
    """
    messages: list[dict[str, Any]] = []
    passages, relevant = (
        [to_passage(each) for each in row.fields.get("passages", [])],
        list(row.fields.get("relevant", [])),
    )
    metadata = dict(row.metadata)
    if form == "chat":
        messages, expected = split_reply(row.fields["messages"])
        if row.fields.get("tools"):
            metadata["tools"] = row.fields["tools"]
        inputs = last_question(messages)
    elif form == "instruct":
        inputs, expected = _instruct_inputs(row.fields), row.fields.get("output")
    elif form == "preference":
        messages = list(row.fields.get("messages", []))
        inputs = {"input": row.fields["prompt"]} if "prompt" in row.fields else last_question(messages)
        expected = answer_text(row.fields["chosen"])
        metadata["rejected"] = answer_text(row.fields["rejected"])
    elif form == "label":
        inputs, expected = {"input": row.fields["text"]}, row.fields.get("label")
    elif form == "retrieval":
        inputs, expected = {"input": row.fields["query"]}, row.fields.get("answer")
    else:
        messages = list(row.fields.get("messages", []))
        inputs, expected = _case_inputs(row.fields, messages), row.fields.get("expected")
    return Case(
        id=row.id,
        inputs=inputs,
        messages=messages,
        expected=expected,
        passages=passages,
        relevant=relevant,
        group=row.group,
        split=row.split,
        tags=row.tags,
        metadata=metadata,
    )


def case_to_row(case: Case) -> DatasetRow:
    """Return the row of format `cases` that asks this case."""
    fields: dict[str, Any] = {}
    if case.messages:
        fields["messages"] = case.messages
        rest = {
            name: value for name, value in case.inputs.items() if case.inputs != last_question(case.messages)
        }
        if rest:
            fields["inputs"] = rest
    elif set(case.inputs) == {"input"}:
        fields["input"] = case.inputs["input"]
    else:
        fields["inputs"] = case.inputs
    if case.expected is not None:
        fields["expected"] = case.expected
    if case.passages:
        fields["passages"] = [
            {
                name: value
                for name, value in (
                    ("text", each.text),
                    ("id", each.id),
                    ("document", each.document),
                    ("score", each.score),
                )
                if value is not None
            }
            for each in case.passages
        ]
    if case.relevant:
        fields["relevant"] = case.relevant
    return DatasetRow(
        id=case.id, fields=fields, split=case.split, group=case.group, tags=case.tags, metadata=case.metadata
    )


def split_reply(messages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str | None]:
    """Return the messages before the last assistant turn, and its text; all of them and None where it ends otherwise."""
    if messages and messages[-1].get("role") == "assistant":
        return list(messages[:-1]), message_text(messages[-1])
    return list(messages), None


def last_question(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return `{"input": text}` of the last user turn; nothing where there is none."""
    for message in reversed(messages):
        if message.get("role") == "user":
            text = message_text(message)
            return {} if text is None else {"input": text}
    return {}


def message_text(message: dict[str, Any]) -> str | None:
    """Return the text of a message in OpenAI's shape; None where it holds none, such as a call of a tool alone."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [
            part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
        ]
        return "\n".join(texts) if texts else None
    return None


def answer_text(answer: Any) -> str | None:
    """Return an answer of a preference as text: itself, or the last assistant turn of its messages."""
    if isinstance(answer, list):
        return next(
            (message_text(each) for each in reversed(answer) if each.get("role") == "assistant"), None
        )
    return answer if isinstance(answer, str) else None


def to_passage(value: Any) -> Passage:
    """Return a passage from a text or an object with `text` and maybe `id`, `document`, `score`."""
    if isinstance(value, str):
        return Passage(text=value)
    return Passage(
        text=value["text"], id=value.get("id"), document=value.get("document"), score=value.get("score")
    )


def _instruct_inputs(fields: dict[str, Any]) -> dict[str, Any]:
    instruction, context = fields["instruction"], fields.get("input") or ""
    together = f"{instruction}\n\n{context}" if context else instruction
    return {"instruction": instruction, "context": context, "input": together}


def _case_inputs(fields: dict[str, Any], messages: list[dict[str, Any]]) -> dict[str, Any]:
    if isinstance(fields.get("inputs"), dict):
        return dict(fields["inputs"])
    if "input" in fields:
        return {"input": fields["input"]}
    return last_question(messages)
