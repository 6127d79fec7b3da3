"""Whole Converse replies, both ways. They name neither an id nor a model: those stand in headers and in the path."""

from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.dialects.arguments import read_arguments
from penstock.dialects.bedrock.finish import MALFORMED, read_finish, write_finish
from penstock.dialects.bedrock.parts import read_block, write_media, write_thinking
from penstock.dialects.bedrock.usage import read_usage, write_usage
from penstock.spec.hub import Choice, HubReply, Media, Opaque, Part, Refusal, Text, Thinking, ToolCall
from penstock.spec.routes import DialectName


def read_reply(body: bytes) -> HubReply:
    """Return the reply in `body`; raises `ValueError` if it is none."""
    try:
        value = msgspec.json.decode(body)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    output = value.get("output") if isinstance(value, dict) else None
    message = output.get("message") if isinstance(output, dict) else None
    if not isinstance(message, dict):
        raise ValueError("not a Converse reply")
    content = message.get("content")
    raw = value.get("stopReason")
    choice = Choice(
        parts=[_read_part(item) for item in content] if isinstance(content, list) else [],
        finish=read_finish(raw),
        finish_raw=raw if isinstance(raw, str) else None,
        stop_sequence=read_stop_sequence(value),
    )
    known = ("output", "stopReason", "usage")
    extra = {name: item for name, item in value.items() if name not in known and item is not None}
    return HubReply(source="bedrock", choices=[choice], usage=read_usage(value.get("usage")), extra=extra)


def _read_part(item: Any) -> Part:
    try:
        return read_block(item, "content")
    except InvalidInput:
        return Opaque(dialect="bedrock", raw=item)


def read_stop_sequence(value: dict[str, Any]) -> str | None:
    """Return the stop sequence that was met, which Claude models tell on request."""
    fields = value.get("additionalModelResponseFields")
    found = fields.get("stop_sequence") if isinstance(fields, dict) else None
    return found if isinstance(found, str) else None


def write_reply(reply: HubReply) -> bytes:
    """Return the body for a client. Only the first choice can be told."""
    choice = reply.choices[0] if reply.choices else Choice()
    finish = write_finish(choice.finish, choice.finish_raw, choice.stop_sequence)
    content = []
    for part in choice.parts:
        if isinstance(part, ToolCall) and read_arguments(part.arguments) is None:
            finish = MALFORMED
        elif (block := write_part(part, reply.source)) is not None:
            content.append(block)
    body: dict[str, Any] = {"output": {"message": {"role": "assistant", "content": content}}}
    if finish is not None:
        body["stopReason"] = finish
    if reply.usage is not None:
        body["usage"] = write_usage(reply.usage)
    body |= reply.extra if reply.source == "bedrock" else stop_fields(choice.stop_sequence)
    return msgspec.json.encode(body)


def stop_fields(stop_sequence: str | None) -> dict[str, Any]:
    """Return the member that names a stop sequence, as Claude models name it."""
    if stop_sequence is None:
        return {}
    return {"additionalModelResponseFields": {"stop_sequence": stop_sequence}}


def write_part(part: Part, source: DialectName) -> dict[str, Any] | None:
    """Return a block of an answer; None for an empty one and for what only another dialect understands."""
    extra = part.extra if source == "bedrock" else {}
    if isinstance(part, Opaque):
        return part.raw if part.dialect == "bedrock" and isinstance(part.raw, dict) else None
    if isinstance(part, Media):
        return write_media(part, extra)
    if isinstance(part, Thinking):
        return write_thinking(part)
    if isinstance(part, ToolCall):
        arguments = read_arguments(part.arguments) or {}
        return {"toolUse": {"toolUseId": part.id, "name": part.name, "input": arguments, **extra}}
    if isinstance(part, Text | Refusal):
        return {"text": part.text, **extra} if part.text else None
    return None
