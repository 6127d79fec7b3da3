"""Parts of an answer, written as items of the responses API. Ids are derived, so that a stream and a reply agree."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from penstock.dialects.openai.annotations import flatten_annotations
from penstock.dialects.responses.sealed import pack_thought
from penstock.spec.hub import Opaque, Part, Refusal, Text, Thinking, ToolCall


def item_id(prefix: str, response_id: str, index: int) -> str:
    """Return the id of the `index`-th item of a response."""
    return f"{prefix}_{sha256(f'{response_id}/{index}'.encode()).hexdigest()[:32]}"


def write_piece(part: Text | Refusal, logprobs: list[Any] | None = None) -> dict[str, Any]:
    """Return a content piece of an assistant's message, as replies hold it."""
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": part.text}
    piece: dict[str, Any] = {"type": "output_text", "text": part.text}
    piece["annotations"] = flatten_annotations(part.extra.get("annotations"))
    if logprobs:
        piece["logprobs"] = logprobs
    return piece


def message_item(ident: str, pieces: list[dict[str, Any]], status: str) -> dict[str, Any]:
    """Return a message."""
    return {"id": ident, "type": "message", "status": status, "role": "assistant", "content": pieces}


def call_item(ident: str, call: ToolCall, arguments: str, status: str) -> dict[str, Any]:
    """Return a function call."""
    return {
        "id": ident,
        "type": "function_call",
        "status": status,
        "call_id": call.id,
        "name": call.name,
        "arguments": arguments,
    }


def thought_item(ident: str, thought: Thinking) -> dict[str, Any]:
    """Return a thought; signatures of other providers go into `encrypted_content`."""
    summary = [{"type": "summary_text", "text": thought.text}] if thought.text else []
    item: dict[str, Any] = {"id": thought_id(ident, thought), "type": "reasoning", "summary": summary}
    content = pack_thought(thought)
    return item if content is None else {**item, "encrypted_content": content}


def thought_id(ident: str, thought: Thinking) -> str:
    """Return the provider's own id of a thought if it is one of this dialect, else `ident`."""
    return thought.id if thought.id is not None and thought.origin in (None, "responses") else ident


def write_output(parts: Sequence[Part], response_id: str, logprobs: Any) -> list[dict[str, Any]]:
    """Return the `output` for one answer: neighbouring texts share a message."""
    items: list[dict[str, Any]] = []
    pieces: list[dict[str, Any]] = []
    left = logprobs.get("content") if isinstance(logprobs, dict) else None

    def close_message() -> None:
        if pieces:
            items.append(message_item(item_id("msg", response_id, len(items)), pieces.copy(), "completed"))
            pieces.clear()

    for part in parts:
        if isinstance(part, Text | Refusal):
            pieces.append(write_piece(part, left if isinstance(part, Text) else None))
            left = None if isinstance(part, Text) else left
            continue
        close_message()
        index = len(items)
        if isinstance(part, ToolCall):
            arguments = part.arguments or "{}"
            items.append(call_item(item_id("fc", response_id, index), part, arguments, "completed"))
        elif isinstance(part, Thinking):
            items.append(thought_item(item_id("rs", response_id, index), part))
        elif isinstance(part, Opaque) and part.dialect == "responses":
            items.append(part.raw)
    close_message()
    return items
