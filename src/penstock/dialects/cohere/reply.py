"""A whole reply of `/v2/chat`, read and written."""

from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.dialects.cohere.content import (
    is_plan,
    own_citations,
    read_assistant,
    without_citations,
    write_call,
)
from penstock.dialects.cohere.finish import read_finish, write_finish
from penstock.dialects.cohere.logprobs import read_logprobs, write_logprobs
from penstock.dialects.cohere.usage import read_usage_object, wire_usage
from penstock.dialects.members import Members
from penstock.spec.hub import Choice, HubReply, HubRequest, Opaque, Part, Refusal, Text, Thinking, ToolCall
from penstock.spec.usage import Usage


class _UsageHead(msgspec.Struct, frozen=True):
    usage: Any = None


_usage_head = msgspec.json.Decoder(_UsageHead)


def read_reply(body: bytes) -> HubReply:
    """Return the reply; raises `ValueError` if `body` is not one."""
    try:
        value = msgspec.json.decode(body)
        if not isinstance(value, dict) or not isinstance(value.get("message"), dict):
            raise ValueError("The reply is not a chat reply: it has no `message`.")
        return _read(Members(value))
    except RecursionError:
        raise ValueError("The reply nests too deep.") from None
    except InvalidInput as error:
        raise ValueError(f"The reply is not a chat reply: {error.message}") from None


def _read(top: Members) -> HubReply:
    message = top.inner("message")
    assert message is not None, "checked before"
    reason = top.text("finish_reason")
    choice = Choice(
        parts=read_assistant(message),
        finish=read_finish(reason),
        finish_raw=reason,
        logprobs=read_logprobs(top.take("logprobs")),
    )
    return HubReply(
        source="cohere",
        id=top.text("id"),
        choices=[choice],
        usage=read_usage_object(top.take("usage")),
        extra=top.rest(),
    )


def write_reply(reply: HubReply, *, request: HubRequest) -> bytes:
    """Return the reply for a client; of several choices the first is told. This dialect names no model."""
    choice = reply.choices[0] if reply.choices else Choice()
    body: dict[str, Any] = {
        "id": reply.id or "reply",
        "finish_reason": write_finish(choice.finish, choice.finish_raw, choice.stop_sequence),
        "message": _write_message(choice.parts, is_own=reply.source == "cohere"),
    }
    if reply.usage is not None:
        body["usage"] = wire_usage(reply.usage)
    if request.logprobs and choice.logprobs is not None:
        body["logprobs"] = write_logprobs(choice.logprobs)
    if reply.source == "cohere":
        body |= reply.extra
    return msgspec.json.encode(body)


def _write_message(parts: list[Part], *, is_own: bool) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant"}
    content: list[Any] = []
    calls: list[Any] = []
    citations: list[Any] = []
    for part in parts:
        if isinstance(part, Text):
            rest = without_citations(part).extra if is_own else {}
            content.append({"type": "text", "text": part.text, **rest})
            citations += own_citations(part)
        elif isinstance(part, Refusal):
            content.append({"type": "text", "text": part.text})
        elif isinstance(part, Thinking) and is_plan(part):
            message["tool_plan"] = message.get("tool_plan", "") + (part.text or "")
        elif isinstance(part, Thinking) and part.text:
            content.append({"type": "thinking", "thinking": part.text})
        elif isinstance(part, ToolCall):
            calls.append(write_call(part, part.extra if is_own else {}))
        elif isinstance(part, Opaque) and part.dialect == "cohere":
            content.append(part.raw)
    if content:
        message["content"] = content
    if calls:
        message["tool_calls"] = calls
    if citations:
        message["citations"] = citations
    return message


def read_usage(body: bytes) -> tuple[Usage | None, str | None]:
    """Return the usage of a reply, which names no model; `ValueError` if `body` is not a JSON object."""
    try:
        return read_usage_object(_usage_head.decode(body).usage), None
    except RecursionError:
        raise ValueError("The reply nests too deep.") from None
