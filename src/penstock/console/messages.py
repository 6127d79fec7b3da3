"""What replies of knowledge apps and retrievals hold beside the talk, and any payload as JSON that can be read.

Nothing is executed or trusted: the template escapes every text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.console.formats import format_json

MAX_CHARS = 20_000


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


def _score(value: Any) -> str | None:
    if not isinstance(value, int | float):
        return None
    try:
        return f"{value:.3f}"
    except OverflowError:  # JSON knows whole numbers of any length
        return None


def _text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)
