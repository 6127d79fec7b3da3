"""Content of a message and parts of the hub, both ways.

An assistant's message of this dialect has four places for what the hub keeps in one list: thoughts and texts in
`content`, the plan for calling tools in `tool_plan`, the calls, and the citations, which belong to a text.
"""

from typing import Any

import msgspec

from penstock.dialects.data_urls import join_data_url, split_data_url
from penstock.dialects.members import Members, wrong
from penstock.spec.hub import Media, Opaque, Part, Text, Thinking, ToolCall

PLAN = "tool_plan"
"""Marks, in `extra`, the thought that is the plan for calling tools."""


def read_content(value: Any, path: str) -> list[Part]:
    """Return the parts of `content`: nothing, one string, one block or a list of blocks."""
    if isinstance(value, str):
        return [Text(text=value)] if value else []
    if value is None:
        return []
    if isinstance(value, dict):
        return [_read_block(value, path)]
    if not isinstance(value, list):
        raise wrong(path, "a string or a list of blocks", value)
    return [_read_block(block, f"{path}[{index}]") for index, block in enumerate(value)]


def _read_block(value: Any, path: str) -> Part:
    block = Members(value, path)
    kind = block.required("type")
    if kind == "text":
        return Text(text=block.required("text"), extra=block.rest())
    if kind == "thinking":
        return Thinking(text=block.required("thinking") or None, origin="cohere", extra=block.rest())
    if kind == "image_url":
        return _read_image(block)
    return Opaque(dialect="cohere", raw=value)


def _read_image(block: Members) -> Media:
    image = block.inner("image_url")
    if image is None:
        raise wrong(block.at("image_url"), "an object", None)
    url, detail = image.required("url"), image.text("detail")
    found = split_data_url(url)
    if found is None:
        return Media(kind="image", url=url, detail=detail, extra=block.rest())
    return Media(kind="image", media_type=found[0], data=found[1], detail=detail, extra=block.rest())


def read_assistant(message: Members) -> list[Part]:
    """Return the parts of an assistant's message, of a request or of a reply."""
    parts = read_content(message.take("content"), message.at("content"))
    plan = message.text("tool_plan")
    if plan:
        parts.append(Thinking(text=plan, origin="cohere", extra={PLAN: True}))
    _attach_citations(parts, message.listed("citations"))
    parts += [read_call(call) for call in message.inners("tool_calls")]
    return parts


def _attach_citations(parts: list[Part], citations: list[Any]) -> None:
    """Put each citation to the text it names, else to the first."""
    texts = {index: part for index, part in enumerate(parts) if isinstance(part, Text)}
    if not texts:
        return
    first = next(iter(texts.values()))
    for citation in citations:
        named = citation.get("content_index") if isinstance(citation, dict) else None
        part = texts.get(named, first) if isinstance(named, int) else first
        part.extra = {**part.extra, "citations": [*part.extra.get("citations", []), citation]}


def read_call(call: Members) -> ToolCall:
    """Return one entry of `tool_calls`."""
    call.take("type")
    function = call.inner("function")
    if function is None:
        raise wrong(call.at("function"), "an object", None)
    name, arguments = function.text("name") or "", function.text("arguments") or ""
    return ToolCall(id=call.text("id") or "", name=name, arguments=arguments, extra=call.rest())


def write_image(part: Media) -> dict[str, Any] | None:
    """Return the block for `part`, or None if this dialect cannot hold it: only images by URL or by value."""
    if part.kind != "image" or part.file_id is not None:
        return None
    place: dict[str, Any] = {"url": part.url or join_data_url(part.media_type, part.data or "")}
    if part.detail is not None:
        place["detail"] = part.detail
    return {"type": "image_url", "image_url": place}


def write_call(part: ToolCall, extra: dict[str, Any]) -> dict[str, Any]:
    """Return one entry of `tool_calls`. No arguments are written as an empty object."""
    function = {"name": part.name, "arguments": part.arguments or "{}"}
    return {"id": part.id, "type": "function", "function": function, **extra}


def is_plan(part: Part) -> bool:
    """Return whether `part` is the plan for calling tools."""
    return isinstance(part, Thinking) and part.origin == "cohere" and PLAN in part.extra


def is_citation(value: Any) -> bool:
    """Return whether `value` is a citation of this dialect: it names sources or a place in the text, and no type of
    another dialect."""
    if not isinstance(value, dict) or "start" not in value:
        return False
    return value.get("type") in (None, "TEXT_CONTENT", "THINKING_CONTENT", "PLAN")


def own_citations(part: Text) -> list[Any]:
    """Return the citations of a text that this dialect can write."""
    listed = part.extra.get("citations")
    return [one for one in listed if is_citation(one)] if isinstance(listed, list) else []


def without_citations(part: Text) -> Text:
    """Return the text with the rest of its `extra`."""
    rest = {name: value for name, value in part.extra.items() if name != "citations"}
    return msgspec.structs.replace(part, extra=rest)
