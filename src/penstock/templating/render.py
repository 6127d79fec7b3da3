"""From a prompt and its variables to what is sent to a chat model. Pure: knows no dataset, no registry, no network.

Turns come from the prompt's messages alone: a value can add text to a turn and never a turn of its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from penstock.spec.prompts import ChainOfThought, FewShot, PromptContent, PromptMessage
from penstock.templating.errors import RenderFailed, TooMuchWork
from penstock.templating.template import read_template
from penstock.templating.values import text_of
from penstock.templating.variables import check_variables
from penstock.templating.work import Work

_SYSTEM = ("system", "developer")


class Rendered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a prompt and its variables make: the members of a chat request."""

    messages: list[dict[str, Any]]
    parameters: dict[str, Any] = {}
    tools: list[dict[str, Any]] = []
    tool_choice: Any = None
    response_format: dict[str, Any] | None = None
    model: str | None = None
    chain_of_thought: ChainOfThought | None = None
    """How the reply is taken apart again."""
    examples: list[str] = []
    """Ids of the rows that were put in, as far as they have one."""
    warnings: list[str] = []

    def request(self) -> dict[str, Any]:
        """Return the members of a chat completion request, but for the model."""
        members: dict[str, Any] = {**self.parameters, "messages": self.messages}
        if self.tools:
            members["tools"] = self.tools
        if self.tool_choice is not None:
            members["tool_choice"] = self.tool_choice
        if self.response_format is not None:
            members["response_format"] = self.response_format
        return members


def render_prompt(
    content: PromptContent,
    variables: Mapping[str, Any],
    *,
    history: Sequence[Mapping[str, Any]] = (),
    examples: Sequence[Mapping[str, Any]] = (),
    work: Work | None = None,
) -> Rendered:
    """Return what `content` makes of `variables`.

    `history` are chat messages that stand where the slot of that name is (without a slot: at the end, if the prompt has
    no user turn of its own); `examples` are rows that were picked, else those written in the prompt are taken. Raises
    `WrongVariables`, `RenderFailed`, `TooMuchWork`.
    """
    work = work or Work()
    values = check_variables(content.variables, variables)
    warnings: list[str] = []
    shots, ids = _shots(content.few_shot, examples, values, work)
    turns: list[dict[str, Any]] = []
    slots = {str(message.content) for message in content.messages if message.role == "slot"}
    for number, message in enumerate(content.messages):
        if message.role == "slot":
            turns += shots if message.content == "examples" else [dict(turn) for turn in history]
            continue
        turns.append(
            {"role": message.role, "content": _fill_message(f"messages[{number}]", message, values, work)}
        )
    if shots and "examples" not in slots:
        place = _last_user(turns)
        turns[place:place] = shots
    if history and "history" not in slots:
        if any(message.role == "user" for message in content.messages):
            warnings.append("The prompt has no slot for a history, so the messages given were left out.")
        else:
            turns += [dict(turn) for turn in history]
    if content.chain_of_thought is not None:
        _ask_for_reasoning(turns, content.chain_of_thought)
        if content.output_schema is not None:
            warnings.append("With an output schema the model cannot write its reasoning before the answer.")
    if not any(turn.get("role") not in _SYSTEM for turn in turns):
        warnings.append("There is no user turn.")
    return Rendered(
        messages=turns,
        parameters=dict(content.parameters),
        tools=list(content.tools),
        tool_choice=content.tool_choice,
        response_format=response_format_of(content),
        model=content.model,
        chain_of_thought=content.chain_of_thought,
        examples=ids,
        warnings=warnings,
    )


def response_format_of(content: PromptContent) -> dict[str, Any] | None:
    """Return the member of a request that asks for the prompt's output schema."""
    if content.output_schema is None:
        return None
    title = content.output_schema.get("title")
    name = "".join(char if char.isalnum() and char.isascii() else "_" for char in str(title or "reply"))[:64]
    return {"type": "json_schema", "json_schema": {"name": name, "schema": content.output_schema}}


def fill_text(where: str, source: str, values: Mapping[str, Any], work: Work) -> str:
    """Return a template filled in; errors say where it stands."""
    try:
        return read_template(source).fill(values, work)
    except (RenderFailed, TooMuchWork) as error:
        raise type(error)(f"{where}, {error.message}", hint=error.hint, **error.fields) from error


def _fill_message(where: str, message: PromptMessage, values: Mapping[str, Any], work: Work) -> Any:
    if isinstance(message.content, str):
        return fill_text(where, message.content, values, work)
    return _fill_parts(where, message.content, values, work)


def _fill_parts(where: str, value: Any, values: Mapping[str, Any], work: Work) -> Any:
    if isinstance(value, str):
        return fill_text(where, value, values, work)
    if isinstance(value, list):
        return [_fill_parts(f"{where}[{number}]", each, values, work) for number, each in enumerate(value)]
    if isinstance(value, dict):
        return {
            name: each if name == "type" else _fill_parts(f"{where}.{name}", each, values, work)
            for name, each in value.items()
        }
    return value


def _shots(
    few: FewShot | None, rows: Sequence[Mapping[str, Any]], values: Mapping[str, Any], work: Work
) -> tuple[list[dict[str, Any]], list[str]]:
    if few is None:
        return [], []
    turns: list[dict[str, Any]] = []
    ids: list[str] = []
    for row in rows or few.rows[: few.count]:
        known = {**values, **row}
        turns.append(
            {"role": "user", "content": fill_text("few_shot.input_template", few.input_template, known, work)}
        )
        turns.append(
            {
                "role": "assistant",
                "content": fill_text("few_shot.output_template", few.output_template, known, work),
            }
        )
        if row.get("id") is not None:
            ids.append(text_of(row["id"]))
    return turns, ids


def _last_user(turns: Sequence[Mapping[str, Any]]) -> int:
    for place in range(len(turns) - 1, -1, -1):
        if turns[place].get("role") == "user":
            return place
    return len(turns)


def _ask_for_reasoning(turns: list[dict[str, Any]], cot: ChainOfThought) -> None:
    """Add the instruction to the first system turn, or put one in front."""
    for turn in turns:
        if turn["role"] in _SYSTEM and isinstance(turn["content"], str):
            turn["content"] = f"{turn['content'].rstrip()}\n\n{cot.instruction}".lstrip()
            return
    turns.insert(0, {"role": "system", "content": cot.instruction})
