"""Ids for tool calls of dialects that give none: the same call at the same place always gets the same id."""

import re
from hashlib import sha256

_MINTED = re.compile(r"call_\d{1,6}_[0-9a-f]{12}")


def mint_id(index: int, name: str, arguments: str) -> str:
    """Return the id of the `index`-th tool call of a conversation or reply."""
    digest = sha256(f"{name}\n{arguments}".encode()).hexdigest()
    return f"call_{index}_{digest[:12]}"


def is_minted(call_id: str) -> bool:
    """Return whether `mint_id` made `call_id`: the provider never saw it and must not be sent it."""
    return _MINTED.fullmatch(call_id) is not None
