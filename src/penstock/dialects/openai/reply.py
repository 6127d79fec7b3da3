"""A chat completion, between its body and the hub format."""

import time
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.base.ids import new_trace_id
from penstock.dialects.data_urls import join_data_url
from penstock.dialects.members import Members, decode_object
from penstock.dialects.openai.annotations import nest_annotations
from penstock.dialects.openai.finish import read_finish, write_finish
from penstock.dialects.openai.parts import read_content
from penstock.dialects.openai.request_read import read_thoughts, read_tool_calls
from penstock.dialects.openai.request_write import write_block, write_call
from penstock.dialects.openai.usage import UsageObject, disjoint_usage, write_usage
from penstock.spec.hub import Choice, HubReply, Media, Opaque, Part, Refusal, Text, Thinking, ToolCall
from penstock.spec.usage import Usage


def read_reply(body: bytes) -> HubReply:
    """Return the reply; raises `ValueError` if `body` is not a chat completion."""
    try:
        members = decode_object(body)
        if "choices" not in members.rest():
            raise InvalidInput("There are no `choices`.")
        choices = members.inners("choices")
        choices.sort(key=lambda choice: _index(choice.peek("index")))
        model, created = members.text("model"), members.number("created")
        groq = members.peek("x_groq")
        told = members.take("usage") or (groq.get("usage") if isinstance(groq, dict) else None)
        reply = HubReply(
            source="openai",
            id=members.text("id") or None,
            model=model or None,
            created_s=None if created is None else int(created),
            choices=[_read_choice(choice) for choice in choices],
            usage=read_usage(told),
        )
        members.take("object")
        reply.extra = members.rest()
    except InvalidInput as error:
        raise ValueError(error.message) from None
    return reply


def read_usage(value: object) -> Usage | None:
    """Return the usage an object tells; one that is not as documented counts as not given."""
    try:
        wire = msgspec.convert(value, UsageObject | None)
    except msgspec.ValidationError:
        return None
    return None if wire is None else disjoint_usage(wire)


def _index(value: object) -> int:
    return value if isinstance(value, int) else 0


def _read_choice(choice: Members) -> Choice:
    message = choice.inner("message") or Members({})
    parts = read_message(message)
    has_calls = any(isinstance(part, ToolCall) for part in parts)
    finish, raw = read_finish(choice.take("finish_reason"), has_calls=has_calls)
    logprobs = choice.inner("logprobs")
    return Choice(parts=parts, finish=finish, finish_raw=raw, logprobs=(logprobs and logprobs.rest()) or None)


def read_message(message: Members) -> list[Part]:
    """Return the parts of an answer, in the order thoughts, text, refusal, images, sound, calls."""
    parts = read_thoughts(message)
    texts = read_content(message.take("content"), message.at("content"))
    annotations = message.take("annotations")
    first = next((part for part in texts if isinstance(part, Text)), None)
    if annotations and first is not None:
        first.extra = {**first.extra, "annotations": annotations}
    parts += texts
    if refusal := message.text("refusal"):
        parts.append(Refusal(text=refusal))
    parts += read_content(message.listed("images"), message.at("images"))
    if (audio := message.take("audio")) is not None:
        parts.append(Opaque(dialect="openai", raw={"type": "audio", "audio": audio}))
    return [*parts, *read_tool_calls(message)]


def write_reply(reply: HubReply, *, model: str) -> bytes:
    """Return the body of a chat completion by the name `model`."""
    extra = reply.extra if reply.source == "openai" else {}
    body: dict[str, Any] = {
        "id": reply.id or mint_id(),
        "object": "chat.completion",
        "created": created_s(reply.created_s),
        "model": model,
        "choices": [_write_choice(index, choice) for index, choice in enumerate(reply.choices)],
    }
    if reply.usage is not None and (usage := write_usage(reply.usage)):
        body["usage"] = usage
    return msgspec.json.encode({**extra, **body})


def _write_choice(index: int, choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": None}
    texts = [part for part in choice.parts if isinstance(part, Text)]
    calls = [write_call(part) for part in choice.parts if isinstance(part, ToolCall)]
    refusals = [part.text for part in choice.parts if isinstance(part, Refusal)]
    thoughts = [part for part in choice.parts if isinstance(part, Thinking)]
    if texts:
        message["content"] = "".join(part.text for part in texts)
    elif not calls and not refusals:
        message["content"] = ""
    if refusals:
        message["refusal"] = "".join(refusals)
    if text := "".join(part.text or "" for part in thoughts):
        message["reasoning_content"] = text
    if any(part.signature or part.sealed for part in thoughts):
        message["thinking_blocks"] = [write_block(part) for part in thoughts]
    if annotations := [one for part in texts for one in nest_annotations(part.extra.get("annotations"))]:
        message["annotations"] = annotations
    if images := [image for part in choice.parts if (image := write_image(part))]:
        message["images"] = images
    for part in choice.parts:
        if isinstance(part, Opaque) and part.dialect == "openai" and isinstance(part.raw, dict):
            _put_opaque(message, part.raw, calls)
    if calls:
        message["tool_calls"] = calls
    written: dict[str, Any] = {
        "index": index,
        "message": message,
        "finish_reason": write_finish(choice.finish),
    }
    if choice.logprobs is not None:
        written["logprobs"] = choice.logprobs
    return written


def _put_opaque(message: dict[str, Any], raw: dict[str, Any], calls: list[dict[str, Any]]) -> None:
    if raw.get("type") == "audio":
        message["audio"] = raw.get("audio")
    elif "id" in raw:
        calls.append(raw)


def write_image(part: Part) -> dict[str, Any] | None:
    """Return an image of an answer as OpenRouter writes it in `images`, or None if `part` is none."""
    if not isinstance(part, Media) or part.kind != "image" or (part.url is None and part.data is None):
        return None
    url = part.url or join_data_url(part.media_type, part.data or "")
    return {"type": "image_url", "image_url": {"url": url}}


def mint_id() -> str:
    """Return an id for a reply whose provider gave none."""
    return f"chatcmpl-{new_trace_id()}"


def created_s(told: int | None) -> int:
    """Return when a reply was made: as told, or else now, because clients insist on the member."""
    return int(time.time()) if told is None else told
