"""Chat messages and citations as apps and renderers pass them."""

from typing import Any, Literal

import msgspec

Role = Literal["system", "user", "assistant", "tool"]


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One turn of text, and what an assistant's or a tool's turn may have beside it."""

    role: Role
    content: str
    reasoning: str | None = None
    """What the assistant thought before the answer; templates know it as `reasoning_content`."""
    tool_calls: tuple[dict[str, Any], ...] = ()
    """In OpenAI's shape."""
    tool_call_id: str | None = None
    name: str | None = None


class Citation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The place an answer rests on: shown beside `choices` as `citations`. What is not known is left out."""

    document: str
    section: str | None
    passage_id: str
    quote: str
    """The sentence of the passage."""
    title: str | None = None
    anchor: str | None = None
    """Where in the document: `page=3`, `row=12`, or a fragment."""
    page: int | None = None
    url: str | None = None
    """Where a reader can open the document, at the anchor."""
    mark: int | None = None
    """The number that stands for it in the answer's text, where marks are shown."""
    start: int | None = None
    end: int | None = None
    """Which characters of the answer rest on it."""
