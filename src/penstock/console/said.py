"""Messages as a page shows them: Markdown, tools with their results, reasoning, pictures that came along as data."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from markupsafe import Markup

from penstock.console.formats import format_json
from penstock.console.markdown import render_markdown
from penstock.traces.conversation import Message, Part

MAX_CHARS = 20_000
MAX_JSON = 4000
MAX_PICTURE = 4 * 1024 * 1024
MAX_PARTS = 40
MAX_MESSAGES = 100
MAX_TALK = 300_000
"""Characters of all messages together."""
_PICTURE = re.compile(r"data:image/(?:png|jpe?g|gif|webp|avif);base64,[A-Za-z0-9+/=\s]+\Z")


@dataclass(frozen=True, kw_only=True)
class ShownPart:
    """One part. Exactly one of `html`, `text`, `picture` and `href` says what there is to see, if anything."""

    kind: str
    name: str | None = None
    html: Markup | None = None
    text: str | None = None
    picture: str | None = None
    """A `data:` address."""
    href: str | None = None
    note: str | None = None
    n_cut: int = 0
    n_chars: int = 0
    result: "ShownPart | None" = None
    """What the tool of a call brought back."""


@dataclass(frozen=True, kw_only=True)
class ShownMessage:
    """One message with its parts."""

    role: str
    parts: tuple[ShownPart, ...]
    name: str | None = None
    finish: str | None = None
    n_left_out: int = 0
    """Parts beyond those shown."""
    is_standing: bool = False
    n_chars: int = 0


def show_messages(
    messages: Sequence[Message], known_calls: Mapping[str, str] | None = None
) -> tuple[ShownMessage, ...]:
    """Return the messages for a page; a tool's result stands at its call where both are among them.

    `known_calls` names the tools of calls that were made before.
    """
    results = {
        part.call_id: part
        for message in messages
        for part in message.parts
        if part.kind == "tool_result" and part.call_id is not None
    }
    calls = {
        part.call_id
        for message in messages
        for part in message.parts
        if part.kind == "tool_call" and part.call_id is not None
    }
    names = {**(known_calls or {}), **call_names(messages)}
    shown = []
    for message in messages:
        parts = [
            show_part(part, message.role, results.get(part.call_id) if part.call_id else None, names)
            for part in message.parts[:MAX_PARTS]
            if not (part.kind == "tool_result" and part.call_id in calls)
        ]
        if parts or not message.parts:
            shown.append(
                ShownMessage(
                    role=message.role,
                    parts=tuple(parts),
                    name=message.name,
                    finish=message.finish if message.finish not in {"stop", "end_turn", "STOP"} else None,
                    n_left_out=max(0, len(message.parts) - MAX_PARTS),
                    is_standing=message.is_standing,
                    n_chars=sum(len(part.text) for part in message.parts),
                )
            )
    return tuple(shown)


def keep_last(messages: Sequence[Message], n_messages: int = MAX_MESSAGES) -> tuple[Sequence[Message], int]:
    """Return the last messages, as many as a page can bear, and how many were left out."""
    room = MAX_TALK
    for n_kept, message in enumerate(reversed(messages)):
        room -= sum(min(len(part.text), MAX_CHARS) for part in message.parts)
        if n_kept >= n_messages or (room < 0 and n_kept):
            return messages[len(messages) - n_kept :], len(messages) - n_kept
    return messages, 0


def call_names(messages: Iterable[Message]) -> dict[str, str]:
    """Return the tool of each call by its id."""
    return {
        part.call_id: part.name
        for message in messages
        for part in message.parts
        if part.kind == "tool_call" and part.call_id and part.name
    }


def show_part(part: Part, role: str, result: Part | None, names: Mapping[str, str]) -> ShownPart:
    """Return one part for a page."""
    if part.kind in {"image", "link"}:
        return _show_media(part)
    if part.kind == "tool_call":
        text, n_cut = _cut(format_json(part.data) if part.data is not None else part.text, MAX_JSON)
        return ShownPart(
            kind="tool_call",
            name=part.name,
            text=text,
            n_cut=n_cut,
            note="the arguments are not valid JSON" if part.is_broken else None,
            result=None if result is None else show_part(result, role, None, names),
        )
    if part.kind == "tool_result":
        is_json = isinstance(part.data, dict | list)
        text, n_cut = _cut(format_json(part.data) if is_json else part.text, MAX_JSON)
        name = part.name or (names.get(part.call_id) if part.call_id else None)
        return ShownPart(kind="tool_result", name=name, text=text, n_cut=n_cut, n_chars=len(part.text))
    if part.kind == "data":
        text, n_cut = _cut(format_json(part.data), MAX_JSON)
        return ShownPart(kind="data", name=part.name, text=text, n_cut=n_cut)
    html = render_markdown(part.text) if part.kind == "text" and role in {"assistant", "model"} else None
    text, n_cut = _cut(part.text, MAX_CHARS)
    return ShownPart(
        kind=part.kind,
        html=html,
        text=None if html is not None else text,
        n_cut=n_cut,
        n_chars=len(part.text),
    )


def _show_media(part: Part) -> ShownPart:
    address = part.text
    if address.startswith("data:"):
        mime = address[5:60].partition(";")[0]
        size = f"{len(address) * 3 // 4 // 1000:,} KB"
        if part.kind == "image" and len(address) <= MAX_PICTURE and _PICTURE.match(address):
            return ShownPart(kind="image", picture=address, note=f"{mime}, {size}")
        return ShownPart(kind="link", text=f"{mime}, {size}", note="the raw payload has it")
    parts = _split(address)
    if parts is not None and parts.scheme in {"http", "https"}:
        note = "on another host, so it is not fetched"
        return ShownPart(kind="link", name=part.name, text=parts.netloc + parts.path, href=address, note=note)
    return ShownPart(kind="link", name=part.name, text=address[:200])


def _split(address: str) -> SplitResult | None:
    """Return an address in parts, or None where it is none: whoever called the model wrote it."""
    if len(address) >= MAX_JSON:
        return None
    try:
        return urlsplit(address)
    except ValueError:
        return None


def _cut(text: str, limit: int) -> tuple[str, int]:
    return text[:limit], max(0, len(text) - limit)
