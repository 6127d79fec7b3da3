"""Reads prompts that other tools keep: chat messages as JSON, plain text, exports with a name and a configuration.

Their `{{ name }}` means the same here; each name becomes a variable, of the kind its use shows.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

import msgspec
from jinja2 import nodes

from penstock.prompts.errors import BadPromptFile
from penstock.prompts.files import SUFFIX, read_prompt
from penstock.spec.assets import AssetRef, parse_asset_ref
from penstock.spec.prompts import PromptContent, PromptMessage, PromptVariable, VariableType
from penstock.templating.check import templates_of
from penstock.templating.errors import InvalidTemplate
from penstock.templating.template import parse_template

SUFFIXES = (SUFFIX, ".json", ".txt")
_PARAMETERS = frozenset(
    [
        "temperature",
        "top_p",
        "top_k",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "seed",
        "n",
        "presence_penalty",
        "frequency_penalty",
        "logprobs",
        "top_logprobs",
        "reasoning_effort",
        "parallel_tool_calls",
    ]
)
_HISTORY = re.compile(r"history|messages|conversation|chat", re.IGNORECASE)


def read_file(name: str, text: str) -> list[tuple[str, PromptContent]]:
    """Return the prompts of a file, each with its name; raise `BadPromptFile` that says where and why."""
    path = PurePath(name)
    own = asset_name(path.stem)
    if path.suffix == SUFFIX:
        return [(own, read_prompt(text, where=name))]
    if path.suffix == ".txt":
        texts = [
            each.strip("\n") for each in re.split(r"^---\s*$", text.replace("\r\n", "\n"), flags=re.MULTILINE)
        ]
        found = [
            _declared(PromptContent(messages=[PromptMessage(role="user", content=each)]), name)
            for each in texts
            if each
        ]
        names = [own] if len(found) == 1 else [f"{own}-{number}" for number in range(1, len(found) + 1)]
        return list(zip(names, found, strict=True))
    if path.suffix == ".json":
        try:
            value = json.loads(text)
        except ValueError as error:
            raise BadPromptFile(f"{name}: no JSON: {error}.") from None
        return list(_read_json(name, own, value))
    raise BadPromptFile(f"{name}: prompts are read from {', '.join(SUFFIXES)}.")


def asset_name(text: str) -> str:
    """Return a name that the registry takes, as near to `text` as can be."""
    name = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:80].rstrip("-._")
    ref: AssetRef = parse_asset_ref(f"prompt:{name or 'prompt'}")
    return ref.name


def _read_json(where: str, own: str, value: Any) -> Iterator[tuple[str, PromptContent]]:
    if (
        isinstance(value, list)
        and value
        and all(isinstance(each, dict) and "prompt" in each for each in value)
    ):
        for each in value:
            yield from _read_json(where, own, each)
        return
    if isinstance(value, dict) and "prompt" in value:
        yield _named(where, own, value)
        return
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        yield from _read_json(where, own, value["data"])
        return
    if isinstance(value, list):
        value = {"messages": value}
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        if "variables" in value or "few_shot" in value or "parameters" in value:
            yield own, _convert(where, value)
        else:
            yield own, _declared(_chat(where, value["messages"], value), where)
        return
    raise BadPromptFile(
        f"{where} holds no messages.", hint="A list of messages, or an object with `messages` or `prompt`."
    )


def _named(where: str, own: str, value: Mapping[str, Any]) -> tuple[str, PromptContent]:
    """Read an export of one version: `name`, `prompt` (text or messages), `config`."""
    told = value["prompt"]
    raw = value.get("config")
    config: Mapping[str, Any] = raw if isinstance(raw, dict) else {}
    messages = [{"role": "user", "content": told}] if isinstance(told, str) else told
    if not isinstance(messages, list):
        raise BadPromptFile(f"{where}: `prompt` is neither a text nor a list of messages.")
    name = value.get("name")
    content = _chat(where, messages, config)
    return (asset_name(name) if isinstance(name, str) and name else own), _declared(content, where)


def _chat(where: str, messages: list[Any], config: Mapping[str, Any]) -> PromptContent:
    turns: list[dict[str, Any]] = []
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            raise BadPromptFile(f"{where}: messages[{number}] is no message.")
        if message.get("type") == "placeholder" or message.get("role") == "placeholder":
            name = str(message.get("name") or "history")
            if not _HISTORY.search(name):
                raise BadPromptFile(
                    f"{where}: messages[{number}] stands for messages called {name!r}, which has no slot here.",
                    hint="Only a history does.",
                )
            turns.append({"role": "slot", "content": "history"})
        else:
            turns.append({"role": message.get("role"), "content": message.get("content") or ""})
    schema = config.get("response_format")
    members: dict[str, Any] = {
        "messages": turns,
        "model": config.get("model") if isinstance(config.get("model"), str) else None,
        "parameters": {
            name: each for name, each in config.items() if name in _PARAMETERS and each is not None
        },
    }
    for name in ("tools", "tool_choice"):
        if config.get(name) is not None:
            members[name] = config[name]
    if isinstance(schema, dict) and isinstance(schema.get("json_schema"), dict):
        members["output_schema"] = schema["json_schema"].get("schema")
    return _convert(where, members)


def _convert(where: str, value: Any) -> PromptContent:
    try:
        return msgspec.convert(value, PromptContent)
    except msgspec.ValidationError as error:
        raise BadPromptFile(f"{where}: {error}.") from None


def _declared(content: PromptContent, where: str) -> PromptContent:
    """Declare the variables that the templates use."""
    variables: dict[str, PromptVariable] = {}
    for message in content.messages:
        if message.role == "slot":
            continue
        for place, source in templates_of(message):
            try:
                tree, names = parse_template(source)
            except InvalidTemplate as error:
                raise BadPromptFile(
                    f"{where}, {place}, {error.message}",
                    hint="Write braces that mean themselves as {{ '{{' }}.",
                ) from None
            for name in sorted(names):
                kind = _kind_of(tree, name)
                known = variables.get(name)
                if known is None or known.type == "text":
                    variables[name] = PromptVariable(type=kind)
    return msgspec.structs.replace(content, variables=variables)


def _kind_of(tree: nodes.Template, name: str) -> VariableType:
    for loop in tree.find_all(nodes.For):
        if any(each.name == name for each in loop.iter.find_all(nodes.Name)) or (
            isinstance(loop.iter, nodes.Name) and loop.iter.name == name
        ):
            return "list"
    for member in tree.find_all(nodes.Getattr):
        if isinstance(member.node, nodes.Name) and member.node.name == name:
            return "object"
    return "text"
