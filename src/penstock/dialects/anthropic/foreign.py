"""Signatures of other providers, carried through a client that knows only Anthropic's.

A Gemini or OpenAI model wants its signatures and sealed thoughts back with the next request. Clients of this dialect
return the `signature` of a thinking block and the `data` of a redacted one untouched, so they travel there, marked
with whose they are: `penstock.<dialect>.<kind>[.<id>]#<what it is>`. Anthropic itself would refuse such a block; a
request that holds one must go through the hub, which leaves it out (`has_foreign_marks`).
"""

import re
from typing import get_args

from penstock.spec.hub import Thinking
from penstock.spec.routes import DialectName

_MARK = re.compile(r"penstock\.([a-z]+)\.(signature|sealed|none)(?:\.([^#]*))?#(.*)", re.DOTALL)
_NAMES = frozenset(get_args(DialectName))


def has_foreign_marks(body: bytes) -> bool:
    """Return whether a request may hold such marks. One search of the bytes; may say yes to a text that looks so."""
    return b'"penstock.' in body


def mark_thinking(thinking: Thinking) -> str:
    """Return the marked text that stands for what `thinking` has beside its text, even if that is nothing."""
    kind, said = "none", ""
    if thinking.sealed is not None:
        kind, said = "sealed", thinking.sealed
    elif thinking.signature is not None:
        kind, said = "signature", thinking.signature
    number = f".{thinking.id}" if thinking.id and "#" not in thinking.id else ""
    return f"penstock.{thinking.origin or 'openai'}.{kind}{number}#{said}"


def unmark_thinking(text: str | None, marked: str | None) -> Thinking | None:
    """Return the thought that `mark_thinking` has marked, or None if `marked` bears no mark."""
    found = _MARK.fullmatch(marked) if marked else None
    if found is None or found[1] not in _NAMES:
        return None
    origin: DialectName = found[1]  # type: ignore[assignment]  # one of the names, as just checked
    return Thinking(
        text=text or None,
        origin=origin,
        id=found[3] or None,
        sealed=found[4] if found[2] == "sealed" else None,
        signature=found[4] if found[2] == "signature" else None,
    )


def mark_call(signature: str) -> str:
    """Return the marked text for the signature of a tool call; only Gemini signs those."""
    return f"penstock.gemini.signature#{signature}"


def unmark_call(marked: str | None) -> str | None:
    """Return the signature that `mark_call` has marked."""
    found = _MARK.fullmatch(marked) if marked else None
    return found[4] if found else None
