"""Settings as they are stored: checked, defaults left out, paths of this machine absolute."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from penstock.knowledge.sources.catalogue import find_kind, read_kind_settings


def checked_settings(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of a source of this kind as they are stored. Raises `InvalidSource`."""
    read = read_kind_settings(kind, settings)
    if find_kind(kind).is_local_path:
        place = os.path.abspath(Path(read.location).expanduser())  # noqa: PTH100 - resolves no links
        read = msgspec.structs.replace(read, location=place)
    stored: dict[str, Any] = msgspec.to_builtins(read)
    return {"prefix": "", **stored}
