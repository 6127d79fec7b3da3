"""JSON values as canonical text: what is stored and digested is the same, and comes back the same.

Canonical means sorted keys, no spaces, UTF-8, no NaN. The surprise: databases' own JSON types may rewrite
numbers (PostgreSQL's `jsonb` turns 1e22 into an integer), so what must come back exactly is stored as text.
"""

import json
from typing import Any

from penstock.base.digest import digest_bytes
from penstock.base.errors import InvalidInput, TooLarge


def encode_json(value: Any, *, what: str, max_bytes: int | None = None) -> str:
    """Return the canonical JSON text of `value`; `what` names it in errors.

    Raises `InvalidInput` when `value` is not JSON (NaN, bytes, lone surrogates, cycles, mixed keys) and
    `TooLarge` when its text is over `max_bytes`.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        size_bytes = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:  # UnicodeEncodeError is a ValueError
        raise InvalidInput(f"{what} cannot be written as JSON: {error}.") from error
    if max_bytes is not None and size_bytes > max_bytes:
        raise TooLarge(
            f"{what} is {size_bytes} bytes of JSON; at most {max_bytes} are kept here.",
            hint="Put large data into the blob store and its digest here.",
        )
    return text


def decode_json(text: str) -> Any:
    """Return the value that `encode_json` wrote."""
    return json.loads(text)


def digest_text(text: str) -> str:
    """Return the digest of canonical JSON text: `digest_json` of the value it holds."""
    return digest_bytes(text.encode())


def clean_text(text: str) -> str:
    """Return `text` as both databases can hold it: NUL and lone surrogates become U+FFFD."""
    return text.replace("\x00", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
