"""Payloads as a conversation: chat requests and replies of any shape become turns that can be read.

What has no such shape stays JSON. Nothing is executed or trusted: the template escapes every text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.console.formats import format_json

MAX_CHARS = 20_000
_ASKED = ("prompt", "question", "query", "input")


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One message. `n_cut` characters were left out here; the raw payload has them."""

    role: str
    text: str
    n_cut: int = 0
    is_reply: bool = False


@dataclass(frozen=True, kw_only=True)
class Quote:
    """One citation, as knowledge apps give them beside `choices`."""

    document: str
    section: str | None
    passage_id: str | None
    quote: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """One passage that a retrieval step brought back."""

    document: str
    section: str | None
    text: str
    score: str | None


def read_turns(sent: Any, received: Any) -> tuple[Turn, ...]:
    """Return the turns of one model or app call; empty when the payloads are not a conversation."""
    turns: list[Turn] = []
    messages = sent.get("messages") if isinstance(sent, Mapping) else None
    if isinstance(messages, list):
        turns += [_turn(each) for each in messages if isinstance(each, Mapping)]
    elif isinstance(sent, Mapping):
        asked = next((sent[name] for name in _ASKED if name in sent), None)
        if isinstance(asked, str):
            turns.append(_cut("user", asked))
    elif isinstance(sent, str):
        turns.append(_cut("user", sent))
    choices = received.get("choices") if isinstance(received, Mapping) else None
    if isinstance(choices, list):
        for choice in choices:
            if isinstance(choice, Mapping):
                message = choice.get("message", choice.get("delta"))
                if not isinstance(message, Mapping):
                    message = {"content": choice.get("text")}
                turns.append(_turn({"role": "assistant", **message}, is_reply=True))
    elif isinstance(received, str):
        turns.append(_cut("assistant", received, is_reply=True))
    elif isinstance(received, Mapping) and isinstance(received.get("content"), str):
        turns.append(_turn({"role": "assistant", **received}, is_reply=True))
    return tuple(turn for turn in turns if turn.text)


def read_citations(received: Any) -> tuple[Quote, ...]:
    """Return the citations of a reply; none when it has none."""
    found = received.get("citations") if isinstance(received, Mapping) else None
    if not isinstance(found, list):
        return ()
    return tuple(
        Quote(
            document=str(each.get("document", "")),
            section=_text_or_none(each.get("section")),
            passage_id=_text_or_none(each.get("passage_id")),
            quote=str(each.get("quote", "")),
        )
        for each in found
        if isinstance(each, Mapping)
    )


def read_passages(received: Any) -> tuple[Found, ...]:
    """Return what a retrieval brought back, best first; none when the payload is something else."""
    found = received.get("documents", received.get("hits")) if isinstance(received, Mapping) else None
    if not isinstance(found, list):
        return ()
    return tuple(
        Found(
            document=str(each.get("document", each.get("passage_id", ""))),
            section=_text_or_none(each.get("section")),
            text=str(each.get("text", ""))[:MAX_CHARS],
            score=_score(each.get("score")),
        )
        for each in found
        if isinstance(each, Mapping)
    )


def show_json(value: Any) -> str | None:
    """Return indented JSON, cut at the limit; None for nothing. What is large is not indented as a whole in Python."""
    if value is None:
        return None
    raw = msgspec.json.encode(value, enc_hook=str)
    if len(raw) > 4 * MAX_CHARS:
        text = msgspec.json.format(raw).decode("utf-8", "replace")
    else:
        text = format_json(value)
    return (
        text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]}\n… {len(text) - MAX_CHARS:,} more characters"
    )


def _turn(message: Mapping[str, Any], *, is_reply: bool = False) -> Turn:
    role = str(message.get("role", "unknown"))
    content = message.get("content")
    if isinstance(content, list):
        pieces = [
            str(part.get("text")) if isinstance(part, Mapping) and "text" in part else _name_part(part)
            for part in content
        ]
        text = "\n".join(pieces)
    else:
        text = "" if content is None else str(content)
    calls = message.get("tool_calls")
    if isinstance(calls, list) and calls:
        text = f"{text}\n{format_json(calls)}".strip()
    return _cut(role, text, is_reply=is_reply)


def _score(value: Any) -> str | None:
    if not isinstance(value, int | float):
        return None
    try:
        return f"{value:.3f}"
    except OverflowError:  # JSON knows whole numbers of any length
        return None


def _name_part(part: Any) -> str:
    kind = part.get("type", "part") if isinstance(part, Mapping) else "part"
    return f"[{kind}]"


def _cut(role: str, text: str, *, is_reply: bool = False) -> Turn:
    return Turn(role=role, text=text[:MAX_CHARS], n_cut=max(0, len(text) - MAX_CHARS), is_reply=is_reply)


def _text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)
