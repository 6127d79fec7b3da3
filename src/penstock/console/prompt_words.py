"""How a prompt reads on a page: its templates in pieces, what is wrong with a draft and where, and lines that use it. Pure."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from penstock.base.errors import InvalidInput, suggest
from penstock.console.formats import format_json
from penstock.spec.prompts import PromptContent, PromptMessage, PromptVariable, VariableType
from penstock.templating.check import ROW_NAMES, find_problems, templates_of
from penstock.templating.errors import InvalidTemplate
from penstock.templating.template import read_template

_MARKS = re.compile(r"(\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\})", re.DOTALL)
_KINDS = {"{{": "value", "{%": "step", "{#": "remark"}
_MESSAGE = re.compile(r"messages\[(\d+)\]")
_LINE = re.compile(r"\bline (\d+)")
SLOT_WORDS = {
    "history": "the messages that the caller sends along",
    "examples": "the examples, a user and an assistant turn each",
}
TYPE_WORDS: Mapping[VariableType, str] = {
    "text": "text",
    "number": "number",
    "integer": "whole number",
    "boolean": "yes or no",
    "list": "list",
    "object": "object",
    "messages": "messages",
}


@dataclass(frozen=True, kw_only=True)
class TemplatePiece:
    """A run of a template: plain `text`, a `value` that is filled in, a `step` of its logic, a `remark`."""

    kind: str
    text: str


@dataclass(frozen=True, kw_only=True)
class ShownTurn:
    """One turn of a prompt."""

    role: str
    pieces: tuple[TemplatePiece, ...]
    slot: str = ""
    """What is put in here; empty for a turn of its own."""


@dataclass(frozen=True, kw_only=True)
class DraftProblem:
    """One thing that keeps a draft from being saved."""

    text: str
    """The sentence; with a template's fault, the line and a mark under the place follow it."""
    place: str = ""
    """`message` or `variable` where the page can show it beside that; else empty."""
    key: str = ""
    """The number of the message, the name of the variable."""
    line: int | None = None


@dataclass(frozen=True, kw_only=True)
class DraftReport:
    """What a draft lacks."""

    problems: tuple[DraftProblem, ...]
    undeclared: Mapping[str, str]
    """Names that templates read and nobody declared, with a declared one that looks alike or nothing."""
    unused: tuple[str, ...]


def mark_template(text: str) -> tuple[TemplatePiece, ...]:
    """Return the pieces of a template in order; joined they are the text."""
    return tuple(
        TemplatePiece(kind=_KINDS.get(piece[:2], "text") if _MARKS.fullmatch(piece) else "text", text=piece)
        for piece in _MARKS.split(text)
        if piece
    )


def show_turn(message: PromptMessage) -> ShownTurn:
    """Return a turn as it stands on a page."""
    if message.role == "slot":
        name = str(message.content)
        return ShownTurn(role=name, pieces=(), slot=SLOT_WORDS.get(name, name))
    text = message.content if isinstance(message.content, str) else format_json(message.content)
    return ShownTurn(role=message.role, pieces=mark_template(text))


def inspect_draft(content: PromptContent) -> DraftReport:
    """Return everything that is wrong with a draft, each with the place where a page can show it."""
    used = set(_names_of(content))
    own = ROW_NAMES if content.few_shot is not None else frozenset[str]()
    undeclared = sorted(used - set(content.variables) - own)
    return DraftReport(
        problems=tuple(_place(text, content) for text in find_problems(content)),
        undeclared={name: _near(name, set(content.variables) - used) for name in undeclared},
        unused=tuple(name for name in content.variables if name not in used),
    )


def _names_of(content: PromptContent) -> Iterator[str]:
    sources = [
        source
        for message in content.messages
        if message.role != "slot"
        for _, source in templates_of(message)
    ]
    if content.few_shot is not None:
        sources += [content.few_shot.input_template, content.few_shot.output_template]
    for source in sources:
        try:
            yield from read_template(source).names
        except InvalidTemplate:
            continue  # told among the problems


def _near(name: str, known: set[str]) -> str:
    near = suggest(name, known)
    return next((each for each in known if near and repr(each) in near), "")


def _place(text: str, content: PromptContent) -> DraftProblem:
    found = _MESSAGE.match(text)
    line = _LINE.search(text)
    if found is not None:
        said = text[found.end() :].removeprefix(".content").lstrip(",: ")
        return DraftProblem(
            text=said[:1].upper() + said[1:],
            place="message",
            key=found[1],
            line=int(line[1]) if line else None,
        )
    for name in content.variables:
        if text.startswith((f"{name!r} ", f"The variable {name!r} ", f"The default of {name!r} ")):
            return DraftProblem(text=text, place="variable", key=name)
    return DraftProblem(text=text)


# -- values of variables


def read_value(name: str, variable: PromptVariable, text: str) -> Any:
    """Return what was typed for a variable as its type wants it; raise `InvalidInput` that names it."""
    if variable.type == "text":
        return text
    if variable.type == "boolean":
        return text.strip().lower() in {"true", "yes", "on", "1"}
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidInput(
            f"{name!r} must be a {TYPE_WORDS[variable.type]}: {error}.", hint="Write it as JSON."
        ) from None


def write_value(value: Any) -> str:
    """Return a value as it is typed."""
    return value if isinstance(value, str) else "" if value is None else format_json(value)


def sample_values(content: PromptContent) -> dict[str, Any]:
    """Return values that stand for the needed variables in lines that people copy."""
    samples: dict[VariableType, Any] = {
        "text": "…",
        "number": 0.5,
        "integer": 1,
        "boolean": True,
        "list": [],
        "object": {},
        "messages": [],
    }
    return {
        name: variable.choices[0] if variable.choices else samples[variable.type]
        for name, variable in content.variables.items()
        if variable.required
    }


# -- lines that use it


def use_lines(
    name: str, reference: str, values: Mapping[str, Any], gateway_url: str
) -> list[tuple[str, str]]:
    """Return a title and the lines for each way to ask a prompt."""
    model = f"prompt:{name}{reference}"
    python = repr(dict(values))
    arguments = ", ".join(f"{key}={value!r}" for key, value in values.items())
    base = f"{gateway_url.rstrip('/')}/v1"
    body = json.dumps({"model": model, "messages": [], "prompt_variables": values}, ensure_ascii=False)
    quoted = body.replace("'", "'\\''")
    client = (
        "import os\nfrom openai import OpenAI\n\n"
        f'client = OpenAI(base_url="{base}", api_key=os.environ["PENSTOCK_KEY"])\n'
        "reply = client.chat.completions.create(\n"
        f'    model="{model}",\n    messages=[],\n'
        f'    extra_body={{"prompt_variables": {python}}},\n)\n'
        "print(reply.choices[0].message.content)"
    )
    program = (
        "import penstock\n\n"
        f'prompt = penstock.prompt("{name}{reference}")\n'
        f"messages = prompt.render({arguments})"
    )
    curl = (
        f'curl {base}/chat/completions \\\n  -H "Authorization: Bearer $PENSTOCK_KEY" \\\n'
        f"  -H 'Content-Type: application/json' \\\n  -d '{quoted}'"
    )
    given = "".join(f" -v {key}={_shell(write_value(value))}" for key, value in values.items())
    return [
        ("OpenAI's client", client),
        ("Rendered in your program", program),
        ("curl", curl),
        ("Command line", f"penstock prompt test {name}{reference}{given}"),
    ]


def _shell(text: str) -> str:
    return text if re.fullmatch(r"[\w./:-]+", text) else "'" + text.replace("'", "'\\''") + "'"
