"""Plain text out of payloads: what the list shows of a call, and what text search looks at.

Knows the shapes of OpenAI requests and replies and of the GenAI conventions' message parts; of anything
else it takes every string it finds. Keys and punctuation of JSON are left out, so a search for `content`
does not find every chat.
"""

from typing import Any

PREVIEW_CHARS = 200
SEARCH_CHARS = 2000
"""Characters of each of input and output that text search sees."""
_MAX_DEPTH = 12
_NOT_TEXT = frozenset(
    [
        "role",
        "type",
        "id",
        "object",
        "model",
        "finish_reason",
        "tool_call_id",
        "index",
        "created",
        "system_fingerprint",
        "service_tier",
        "encoding_format",
        "image_url",
        "input_audio",
        "logprobs",
        "usage",
        "data",
        "mime_type",
        "stream",
        "stream_options",
    ]
)


def preview_of(payload: Any) -> str | None:
    """Return the first characters of what a person would call the question, or None if there is no text."""
    text = _last_user_text(payload)
    if text is None:
        text = excerpt_of(payload, limit=PREVIEW_CHARS)
    text = " ".join(text[: PREVIEW_CHARS + 50].split())
    return text[:PREVIEW_CHARS] or None


def excerpt_of(payload: Any, *, limit: int = SEARCH_CHARS) -> str:
    """Return up to `limit` characters of the strings in `payload`, in order, joined by newlines."""
    if isinstance(payload, str):
        return payload[:limit]
    pieces: list[str] = []
    _collect(payload, pieces, limit, 0)
    return "\n".join(pieces)[:limit]


def _collect(value: Any, pieces: list[str], left: int, depth: int) -> int:
    if isinstance(value, str):
        pieces.append(value[:left])
        return left - len(value) - 1
    if depth >= _MAX_DEPTH:
        return left
    if isinstance(value, dict):
        for key, item in value.items():
            if left <= 0:
                break
            if key not in _NOT_TEXT and isinstance(item, str | list | dict):
                left = _collect(item, pieces, left, depth + 1)
    elif isinstance(value, list):
        for item in value:
            if left <= 0 or isinstance(item, int | float):
                break  # a list of numbers is a vector or token ids: no text, and long
            left = _collect(item, pieces, left, depth + 1)
    return left


def _last_user_text(payload: Any) -> str | None:
    messages = payload.get("messages") if isinstance(payload, dict) else payload
    if not isinstance(messages, list):
        return None
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content", message.get("parts"))
            return excerpt_of(content, limit=PREVIEW_CHARS + 50) if content else None
    return None
