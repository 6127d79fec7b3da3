"""What a prompt declares, held against what its templates use: found when it is saved, not when somebody asks it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from penstock.base.errors import suggest
from penstock.spec.prompts import PromptContent, PromptMessage
from penstock.templating.errors import InvalidPrompt, InvalidTemplate
from penstock.templating.template import Template, read_template
from penstock.templating.variables import find_mistake

SLOTS = ("examples", "history")
ROW_NAMES = frozenset({"input", "output"})
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_RESERVED = frozenset(
    {"range", "loop", "self", "true", "false", "none", "not", "and", "or", "in", "is", "if", "else"}
)
_OWN_PARAMETERS = frozenset(
    {"model", "messages", "stream", "stream_options", "tools", "tool_choice", "response_format", "prompt_variables",
     "prompt_model"}
)  # fmt: skip
MAX_MESSAGES = 500


def check_prompt(content: PromptContent) -> None:
    """Raise `InvalidPrompt` that names everything that is wrong with a prompt."""
    problems = list(find_problems(content))
    if problems:
        raise InvalidPrompt(problems)


def find_problems(content: PromptContent) -> Iterator[str]:
    """Yield what is wrong, one sentence each, in the order of the prompt."""
    if not content.messages:
        yield "It has no messages."
    if len(content.messages) > MAX_MESSAGES:
        yield f"It has {len(content.messages)} messages; {MAX_MESSAGES} are taken."
    used: dict[str, str] = {}
    for number, message in enumerate(content.messages):
        yield from _message_problems(f"messages[{number}]", message, used)
    yield from _slot_problems(content)
    yield from _few_shot_problems(content, used)
    yield from _variable_problems(content, used)
    yield from _rest_problems(content)


def templates_of(message: PromptMessage) -> list[tuple[str, str]]:
    """Return the templates of a message, each with the place where it stands in it."""
    if isinstance(message.content, str):
        return [("content", message.content)]
    return list(_texts("content", message.content))


def _texts(place: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _texts(f"{place}[{number}]", each)
    elif isinstance(value, dict):
        for name, each in value.items():
            if name != "type":
                yield from _texts(f"{place}.{name}", each)


def _message_problems(where: str, message: PromptMessage, used: dict[str, str]) -> Iterator[str]:
    if message.role == "slot":
        if message.content not in SLOTS:
            near = suggest(str(message.content), SLOTS) or f"There are {' and '.join(SLOTS)}."
            yield f"{where}: there is no slot {str(message.content)[:60]!r}. {near}"
        return
    for place, source in templates_of(message):
        template, problem = _read(f"{where}.{place}", source)
        if problem:
            yield problem
        for name in sorted(template.names if template else ()):
            used.setdefault(name, f"{where}.{place}{_line_of(source, name)}")


def _read(where: str, source: str) -> tuple[Template | None, str | None]:
    try:
        return read_template(source), None
    except InvalidTemplate as error:
        return None, f"{where}, {error.message}"


def _line_of(source: str, name: str) -> str:
    for number, line in enumerate(source.split("\n"), start=1):
        if re.search(rf"\b{re.escape(name)}\b", line) and ("{" in line or number > 1):
            return f", line {number}"
    return ""


def _slot_problems(content: PromptContent) -> Iterator[str]:
    slots = [message.content for message in content.messages if message.role == "slot"]
    for slot in SLOTS:
        if slots.count(slot) > 1:
            yield f"The slot {slot!r} stands there {slots.count(slot)} times; once is enough."
    if "examples" in slots and content.few_shot is None:
        yield "It has a slot for examples and no `few_shot` that says which."


def _few_shot_problems(content: PromptContent, used: dict[str, str]) -> Iterator[str]:
    few = content.few_shot
    if few is None:
        return
    if few.dataset is None and not few.rows:
        yield "few_shot names no dataset and has no rows."
    if few.dataset is not None and few.rows:
        yield "few_shot has both a dataset and rows; it takes one of them."
    if few.count < 0:
        yield "few_shot.count must not be negative."
    members = {name for row in few.rows for name in row} if few.rows else None
    for place, source in (("input_template", few.input_template), ("output_template", few.output_template)):
        template, problem = _read(f"few_shot.{place}", source)
        if problem:
            yield problem
        for name in sorted(template.names if template else ()):
            if name in content.variables or name in ROW_NAMES:
                used.setdefault(name, f"few_shot.{place}")
            elif members is not None and name not in members:
                yield f"few_shot.{place} uses {name!r}, which is no member of its rows and no variable."


def _variable_problems(content: PromptContent, used: Mapping[str, str]) -> Iterator[str]:
    declared = content.variables
    for name, variable in declared.items():
        if not _NAME.fullmatch(name) or name in _RESERVED:
            yield f"{name!r} cannot be a variable: use letters, digits and underscores, beginning with a letter."
            continue
        if name not in used:
            yield f"The variable {name!r} is declared and used nowhere.{_near(name, set(used) - set(declared))}"
        for value in [] if variable.default is None else [variable.default]:
            if wrong := find_mistake(variable, value):
                yield f"The default of {name!r} {wrong}."
    few_only = ROW_NAMES if content.few_shot is not None else frozenset[str]()
    for name, place in used.items():
        if name not in declared and not (name in few_only and place.startswith("few_shot")):
            yield f"{place}: {name!r} is used and not declared.{_near(name, declared)}"


def _near(name: str, known: Mapping[str, Any] | set[str]) -> str:
    near = suggest(name, known)
    return f" {near}" if near else ""


def _rest_problems(content: PromptContent) -> Iterator[str]:
    for name in sorted(_OWN_PARAMETERS & set(content.parameters)):
        yield f"parameters.{name}: this has a place of its own and is no parameter."
    cot = content.chain_of_thought
    if cot is not None and not cot.answer_marker.strip():
        yield "chain_of_thought.answer_marker is empty; nothing could tell the answer from the reasoning."
    yield from _tool_problems(content.tools)


def _tool_problems(tools: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for number, tool in enumerate(tools):
        if not isinstance(tool.get("type"), str):
            yield f"tools[{number}] has no `type`."
        elif tool["type"] == "function" and not (
            isinstance(tool.get("function"), dict) and tool["function"].get("name")
        ):
            yield f"tools[{number}].function has no `name`."
