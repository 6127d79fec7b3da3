"""Chat messages and citations as apps and renderers pass them."""

from typing import Literal

import msgspec

Role = Literal["system", "user", "assistant", "tool"]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of text."""

    role: Role
    content: str


class Citation(msgspec.Struct, frozen=True, kw_only=True):
    """The place an answer rests on: shown beside `choices` as `citations`."""

    document: str
    section: str | None
    passage_id: str
    quote: str
