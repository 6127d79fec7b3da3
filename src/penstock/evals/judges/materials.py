"""What a judge is shown of a case and an output, by name; texts as they are, nothing cut."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from penstock.evals.scorers.reading import whole_text
from penstock.spec.cases import Case, Output, Passage

Part = Literal["input", "output", "expected", "passages"]
PARTS: tuple[Part, ...] = ("input", "output", "expected", "passages")


class NotThere(Exception):
    """A part that the judge needs is not there; the text says which."""


def collect(
    case: Case, output: Output, parts: Sequence[Part], *, needed: Sequence[Part] = ("output",)
) -> dict[str, str]:
    """Return name (in capitals) to text of the parts that exist; raise `NotThere` for a needed one that does not."""
    found: dict[str, str] = {}
    for part in parts:
        text = _PARTS[part](case, output)
        if text is not None:
            found[part.upper()] = text
        elif part in needed:
            raise NotThere(_ABSENT[part])
    return found


def show_input(case: Case) -> str | None:
    """Return what the target was asked: the last user's text alone, a conversation with roles, or the variables as JSON."""
    if case.messages:
        if len(case.messages) == 1:
            return _content(case.messages[0].get("content"))
        return "\n\n".join(
            f"[{message.get('role', 'user')}] {_content(message.get('content'))}" for message in case.messages
        )
    if set(case.inputs) == {"input"} and isinstance(case.inputs["input"], str):
        return case.inputs["input"]
    return json.dumps(case.inputs, ensure_ascii=False, default=str) if case.inputs else None


def show_output(output: Output) -> str:
    """Return the answer, tool calls after it; an empty answer is one, too."""
    pieces = [text] if (text := whole_text(output)) else []
    for call in output.tool_calls:
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping):
            pieces.append(f"[calls {function.get('name')}({function.get('arguments')})]")
    return "\n".join(pieces)


def show_expected(case: Case) -> str | None:
    """Return the reference answer; several acceptable ones as a numbered list."""
    if case.expected is None or case.expected == []:
        return None
    if isinstance(case.expected, list):
        texts = [_content(each) for each in case.expected]
        return texts[0] if len(texts) == 1 else "\n".join(f"({n}) {text}" for n, text in enumerate(texts, 1))
    return _content(case.expected)


def choose_passages(case: Case, output: Output, source: str = "either") -> list[Passage]:
    """Return what an answer rests on: what was retrieved, or (`case`, `either`) what the dataset gives."""
    if source == "output":
        return output.passages
    return case.passages if source == "case" or not output.passages else output.passages


def _show_passages(case: Case, output: Output) -> str | None:
    passages = choose_passages(case, output)
    return (
        "\n\n".join(f"[{number}] {passage.text}" for number, passage in enumerate(passages, 1))
        if passages
        else None
    )


def _content(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
        texts = [str(each["text"]) for each in value if isinstance(each.get("text"), str)]
        if texts:
            return "\n".join(texts)
    return json.dumps(value, ensure_ascii=False, default=str)


_PARTS = {
    "input": lambda case, _: show_input(case),
    "output": lambda _, output: show_output(output),
    "expected": lambda case, _: show_expected(case),
    "passages": _show_passages,
}
_ABSENT: dict[str, str] = {
    "input": "the case has no input",
    "output": "there is no output",
    "expected": "the case has no expected answer",
    "passages": "there are no passages",
}
