"""Content digests: `sha256:<64 hex>` for bytes, files and JSON values."""

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

_NOT_ASKED = frozenset({"stream", "stream_options", "user", "metadata", "store", "safety_identifier"})
"""Members of a request that change how or for whom it is answered, not what the answer is."""


def digest_bytes(data: bytes) -> str:
    """Return the digest of `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def digest_ids(ids: Sequence[int]) -> str:
    """Return the digest of token ids: of four bytes each, lowest first, so that any program can say the same."""
    return digest_bytes(struct.pack(f"<{len(ids)}I", *ids))


def digest_json(value: Any) -> str:
    """Return the digest of a JSON value, equal for equal values whatever their key order or spacing."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return digest_bytes(text.encode())


def digest_file(path: Path) -> str:
    """Return the digest of a file, read in pieces of 1 MiB."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            state.update(piece)
    return f"sha256:{state.hexdigest()}"


def short_digest(digest: str) -> str:
    """Return the first 12 hex characters, as shown to people."""
    return digest.removeprefix("sha256:")[:12]


def digest_request(request: Mapping[str, Any]) -> str:
    """Return 16 hex characters that are equal for requests which ask the same of the same model.

    Key order, spacing, and members such as `stream` and `user` make no difference.
    """
    asked = {name: value for name, value in request.items() if name not in _NOT_ASKED}
    return hashlib.sha256(msgspec.json.encode(asked, order="sorted")).hexdigest()[:16]
