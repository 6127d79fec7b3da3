"""A whole message, read and written; and the count of tokens."""

from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.dialects.anthropic.blocks import (
    object_text,
    read_content,
    write_call,
    write_thinking,
)
from penstock.dialects.anthropic.finish import read_finish, write_finish
from penstock.dialects.anthropic.usage import UsageObject, disjoint_usage, read_usage_object, wire_usage
from penstock.dialects.members import Members
from penstock.spec.hub import (
    Choice,
    HubReply,
    HubRequest,
    Opaque,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
)
from penstock.spec.usage import Usage

CITATION_KINDS = frozenset(
    {
        "char_location",
        "page_location",
        "content_block_location",
        "web_search_result_location",
        "search_result_location",
    }
)
"""What a citation of this dialect can be; those of others are left out of a client's reply."""


class _UsageHead(msgspec.Struct, frozen=True):
    model: Any = None
    usage: Any = None


class _CountHead(msgspec.Struct, frozen=True):
    input_tokens: int


_usage_head = msgspec.json.Decoder(_UsageHead)
_count_head = msgspec.json.Decoder(_CountHead)


def read_reply(body: bytes) -> HubReply:
    """Return the message; raises `ValueError` if `body` is not one."""
    try:
        value = msgspec.json.decode(body)
        if not isinstance(value, dict) or not isinstance(value.get("content"), list):
            raise ValueError("The reply is not a message: it has no `content` list.")
        return _read_message(Members(value))
    except RecursionError:
        raise ValueError("The reply nests too deep.") from None
    except InvalidInput as error:
        raise ValueError(f"The reply is not a message: {error.message}") from None


def _read_message(message: Members) -> HubReply:
    message.take("type")
    message.take("role")
    reason = message.text("stop_reason")
    usage = read_usage_object(message.take("usage"))
    choice = Choice(
        parts=read_content(message.take("content"), "content"),
        finish=read_finish(reason),
        finish_raw=reason,
        stop_sequence=message.text("stop_sequence"),
    )
    return HubReply(
        source="anthropic",
        id=message.text("id"),
        model=message.text("model"),
        choices=[choice],
        usage=disjoint_usage(usage) if usage is not None else None,
        extra=message.rest(),
    )


def write_reply(reply: HubReply, *, model: str, request: HubRequest) -> bytes:
    """Return the message for a client that asked for `model`; of several choices the first is told."""
    del request  # nothing a client asked for changes the shape
    choice = reply.choices[0] if reply.choices else Choice()
    blocks = [block for part in choice.parts if (block := write_part(part)) is not None]
    message: dict[str, Any] = {
        "id": reply.id or "msg",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": blocks,
        "stop_reason": write_finish(choice.finish, choice.finish_raw, choice.stop_sequence),
        "stop_sequence": choice.stop_sequence,
        "usage": wire_usage(reply.usage),
    }
    if reply.source == "anthropic":
        message |= reply.extra
    return msgspec.json.encode(message)


def write_part(part: Part) -> dict[str, Any] | None:
    """Return the block for one part of a reply, or None if this dialect cannot hold it.

    Arguments that are no JSON object are shown under `_raw`: a model wrote them, and the client shall see what.
    """
    if isinstance(part, Text):
        return {"type": "text", "text": part.text, **own_members(part.extra)}
    if isinstance(part, Refusal):
        return {"type": "text", "text": part.text}
    if isinstance(part, Thinking):
        return write_thinking(part)
    if isinstance(part, ToolCall):
        arguments = object_text(part.arguments)
        if arguments is None:
            arguments = msgspec.Raw(msgspec.json.encode({"_raw": part.arguments}))
        return write_call(part, arguments)
    if isinstance(part, Opaque) and part.dialect == "anthropic" and isinstance(part.raw, dict):
        return part.raw
    return None


def own_members(extra: dict[str, Any]) -> dict[str, Any]:
    """Return what of a text's `extra` this dialect has: its citations."""
    listed = extra.get("citations")
    own = [one for one in listed if is_citation(one)] if isinstance(listed, list) else []
    return {"citations": own} if own else {}


def is_citation(value: Any) -> bool:
    """Return whether `value` is a citation of this dialect."""
    return isinstance(value, dict) and any(value.get("type") == kind for kind in CITATION_KINDS)


def read_usage(body: bytes) -> tuple[Usage | None, str | None]:
    """Return usage and model of a message; `ValueError` if `body` is not a JSON object."""
    try:
        head = _usage_head.decode(body)
    except RecursionError:
        raise ValueError("The reply nests too deep.") from None
    wire = read_usage_object(head.usage) or UsageObject()
    return disjoint_usage(wire), head.model if isinstance(head.model, str) else None


def read_count(body: bytes) -> int | None:
    """Return the count of a `count_tokens` reply, or None if it is not one."""
    try:
        return _count_head.decode(body).input_tokens
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def write_count(input_tokens: int) -> bytes:
    """Return the body that answers `count_tokens`."""
    return msgspec.json.encode({"input_tokens": input_tokens})
