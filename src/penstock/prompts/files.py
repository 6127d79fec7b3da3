"""A prompt as a file for git: settings in TOML between lines of `+++`, then one block a turn. Exact both ways.

    +++
    description = "Sorts mail"
    model = "gpt-4o-mini"
    variables.mail = { type = "text" }
    +++

    --- system
    You sort mail.

    --- slot examples

    --- user
    {{ mail }}

A block is the text up to the next line that begins with `--- `; blank lines around it do not count. A line of the text that
begins like one is written with a backslash in front. What TOML or such a block cannot say exactly stands as JSON: parts, a text with
blank lines at its ends (`--- user json`), or a whole member (`--- tools`, `--- output_schema`).
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from penstock.prompts.errors import BadPromptFile
from penstock.prompts.toml_text import can_be_toml, toml_lines
from penstock.spec.prompts import PromptContent, PromptMessage

SUFFIX = ".prompt"
FENCE = "+++"
_ROLES = ("system", "developer", "user", "assistant")
_HEADER = re.compile(r"--- +(\w+)(?: +(\w+))? *")
_LIKE_HEADER = re.compile(r"^(\\*)--- ", re.MULTILINE)
_MEMBERS = tuple(name for name in PromptContent.__struct_fields__ if name != "messages")
_AS_JSON = frozenset({"tools", "tool_choice", "output_schema"})
"""Members that read better as JSON."""


def write_prompt(content: PromptContent) -> str:
    """Return the text of a prompt's file; `read_prompt` gives the same content back."""
    members: dict[str, Any] = msgspec.to_builtins(content)
    messages = content.messages
    members.pop("messages", None)
    settings = {name: value for name, value in members.items() if name not in _AS_JSON and can_be_toml(value)}
    blocks = [f"--- {name}\n{_json(value)}" for name, value in members.items() if name not in settings]
    blocks += [_write_message(message) for message in messages]
    front = "\n".join([FENCE, *toml_lines(settings), FENCE]) + "\n\n" if settings else ""
    return front + "\n\n".join(blocks) + "\n"


def _write_message(message: PromptMessage) -> str:
    if message.role == "slot":
        return f"--- slot {message.content}"
    text = message.content
    if isinstance(text, str) and text == text.strip("\n") and "\r" not in text:
        return f"--- {message.role}\n" + _LIKE_HEADER.sub(r"\\\1--- ", text)
    return f"--- {message.role} json\n{_json(text)}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def read_prompt(text: str, *, where: str = "the file") -> PromptContent:
    """Return the prompt that a file's text holds; raise `BadPromptFile` that names line and reason."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    settings, rest, first_line = _read_front(text, where)
    members: dict[str, Any] = dict(settings)
    messages: list[dict[str, Any]] = []
    for line, name, mode, body in _read_blocks(rest, first_line, where):
        if name == "slot":
            if not mode or body.strip():
                raise BadPromptFile(f"{where}, line {line}: write `--- slot NAME` and no text below it.")
            messages.append({"role": "slot", "content": mode})
        elif name in _ROLES:
            messages.append({"role": name, "content": _read_body(body, mode, line, where)})
        elif name in _MEMBERS and mode is None:
            if name in members:
                raise BadPromptFile(f"{where}, line {line}: {name!r} is said twice.")
            members[name] = _read_json(body, line, where)
        else:
            known = ", ".join((*_ROLES, "slot", *_MEMBERS))
            raise BadPromptFile(
                f"{where}, line {line}: there is no block `{name}{f' {mode}' if mode else ''}`.",
                hint=f"There are {known}.",
            )
    unknown = sorted(set(members) - set(_MEMBERS))
    if unknown:
        raise BadPromptFile(
            f"{where}: a prompt has no member {unknown[0]!r}.", hint=f"It has {', '.join(_MEMBERS)}."
        )
    try:
        return msgspec.convert({**members, "messages": messages}, PromptContent)
    except msgspec.ValidationError as error:
        raise BadPromptFile(f"{where}: {error}.") from None


def _read_front(text: str, where: str) -> tuple[Mapping[str, Any], str, int]:
    if not text.startswith(FENCE + "\n"):
        return {}, text, 1
    end = text.find(f"\n{FENCE}\n", len(FENCE) - 1)
    if end < 0:
        if not text.endswith(f"\n{FENCE}"):
            raise BadPromptFile(
                f"{where}: the settings end nowhere.", hint=f"Close them with a line of {FENCE}."
            )
        end = len(text) - len(FENCE) - 1
    front = text[len(FENCE) + 1 : end + 1]
    try:
        settings = tomllib.loads(front)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        line = f", line {int(found.group(1)) + 1}" if found else ""
        raise BadPromptFile(f"{where}{line}: {str(error).partition(' (at ')[0]}.") from None
    rest = text[end + len(FENCE) + 2 :]
    return settings, rest, front.count("\n") + 3


def _read_blocks(text: str, first_line: int, where: str) -> Iterator[tuple[int, str, str | None, str]]:
    header: tuple[int, str, str | None] | None = None
    lines: list[str] = []
    for number, line in enumerate(text.split("\n"), start=first_line):
        if not line.startswith("--- "):
            if header is None and line.strip():
                raise BadPromptFile(
                    f"{where}, line {number}: text before the first block.",
                    hint="Begin a turn with `--- user`.",
                )
            lines.append(line)
            continue
        found = _HEADER.fullmatch(line)
        if found is None:
            raise BadPromptFile(
                f"{where}, line {number}: {line[:60]!r} begins no block.",
                hint="Write `--- user`; within a text write `\\--- `.",
            )
        if header is not None:
            yield (*header, "\n".join(lines).strip("\n"))
        header, lines = (number, found.group(1), found.group(2)), []
    if header is None:
        raise BadPromptFile(f"{where} holds no turns.", hint="Begin one with a line `--- user`.")
    yield (*header, "\n".join(lines).strip("\n"))


def _read_body(body: str, mode: str | None, line: int, where: str) -> Any:
    if mode == "json":
        return _read_json(body, line, where)
    if mode is not None:
        raise BadPromptFile(f"{where}, line {line}: a turn is text or `json`, not {mode!r}.")
    return re.sub(r"^\\(\\*--- )", r"\1", body, flags=re.MULTILINE)


def _read_json(body: str, line: int, where: str) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        at = getattr(error, "lineno", 1) + line
        raise BadPromptFile(f"{where}, line {at}: no JSON: {getattr(error, 'msg', error)}.") from None
