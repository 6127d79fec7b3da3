"""What a move of an alias rests on, in the same words wherever it is shown. Evidence of any age can be said."""

from collections.abc import Mapping
from typing import Any

_OWN = {
    "parity": "proven to answer as its source",
    "ingest": "what its ingest kept",
    "comparison": "a comparison of generations",
    "erasure": "an erasure",
    "declared": "its first declaration",
}


def say_basis(evidence: Mapping[str, Any] | None, *, is_override: bool, is_rollback: bool) -> str:
    """Return what the move rests on: `override, without evidence`, `gate NAME (ID): pass`; empty when it needed nothing.

    Scores that were handed in are told as such.
    """
    found = evidence or {}
    if is_override:
        refused = found.get("refused") or {}
        return f"override, without evidence{': ' + refused['message'] if refused.get('message') else ''}"
    if is_rollback:
        return "rollback"
    if found.get("gate"):
        told = f"gate {found.get('name') or ''} ({found['gate']}): {found.get('verdict', 'unknown')}".replace(
            "  ", " "
        )
        return f"{told}, on scores that were handed in" if found.get("handed_in") else told
    kind = found.get("kind") or next(iter(found), "")
    return _OWN.get(str(kind), str(kind))
