"""Ids of documents as clients see them: made of the path alone, so that they stay the same over all versions."""

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

_PREFIX = "file-"
_ID = re.compile(r"file-([A-Za-z0-9_-]+)")


def file_id_of(path: str) -> str:
    """Return the id of the document at `path` of a knowledge base."""
    return _PREFIX + urlsafe_b64encode(path.encode("utf-8", "surrogateescape")).decode().rstrip("=")


def path_of(file_id: str) -> str | None:
    """Return the path that an id stands for, None for what is no such id."""
    found = _ID.fullmatch(file_id)
    if found is None:
        return None
    text = found.group(1)
    try:
        path = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("utf-8", "surrogateescape")
    except (ValueError, binascii.Error):
        return None
    return path if file_id_of(path) == file_id else None
