"""Documents that are records: rows of a database, lines of JSON. Which field is what is said in the settings.

A document's path is the record's id with the suffix of its format, so that the parsers know what it is.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from penstock.base.digest import digest_json
from penstock.knowledge.credentials import without_secrets
from penstock.knowledge.sources.errors import InvalidSource
from penstock.knowledge.sources.properties import merge_properties, read_properties
from penstock.knowledge.sources.settings import SourceSettings
from penstock.knowledge.sources.types import LeftOut, SourceItem
from penstock.spec.knowledge import Properties

_PLAIN = " /@:+,=~!$'()*;&[]"
"""Stays as it is in a path beside letters, digits and `-._`."""
MAX_ID_CHARS = 1000


class RecordSettings(SourceSettings, frozen=True, kw_only=True):
    """Which field of a record is what."""

    id: str = "id"
    """Field that names the record and never changes."""
    text: str = "text"
    """Field of its text, or of its bytes."""
    format: str = "txt"
    """What the text is, as a suffix: `txt`, `md`, `html`, and others for bytes."""
    title: str | None = None
    modified: str | None = None
    url: str | None = None
    readers_from: str | None = None
    """Field of the principals that may find it. A record whose field is empty is found by nobody."""
    subjects_from: str | None = None
    """Field of the people it is about."""
    version: str | None = None
    """Field that changes whenever the record does; without it, records are compared by their text."""
    keep: list[str] = msgspec.field(default_factory=list)
    """Fields that become properties under their own names."""

    def bytes_come_from(self) -> list[str]:
        """Return the settings on which a record's bytes depend, beside its version."""
        return [without_secrets(self.location), self.text]

    def check(self) -> None:
        """Also refuse a format that is no suffix."""
        super().check()
        if not self.format.isalnum():
            raise InvalidSource(f"`format` is {self.format!r}; it is a suffix such as txt, md or html.")


def make_record(
    source_id: str, record: Mapping[str, Any], settings: RecordSettings, *, where: str
) -> SourceItem | LeftOut:
    """Return a record as a document. Raises `UnreadableProperties` when its properties are none."""
    key = record.get(settings.id)
    if key is None or isinstance(key, dict | list | float) or not str(key).strip():
        return LeftOut(path=where, reason=f"no usable {settings.id!r}")
    path = record_path(str(key), settings.format)
    if len(path) > MAX_ID_CHARS:
        return LeftOut(path=where, reason=f"its {settings.id!r} has more than {MAX_ID_CHARS} characters")
    text = record.get(settings.text)
    if isinstance(text, memoryview | bytearray):
        text = bytes(text)
    if text is None or (isinstance(text, str | bytes) and not text.strip()):
        return LeftOut(path=path, reason=f"no {settings.text!r}")
    if not isinstance(text, str | bytes):
        return LeftOut(path=path, reason=f"{settings.text!r} is no text")
    data = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    version = None if settings.version is None else record.get(settings.version)
    return SourceItem(
        source_id=source_id,
        path=path,
        token=None if version is None else f"version={version} of={_digest(settings)}",
        size_bytes=len(data),
        properties=merge_properties(settings.common_properties(), _properties(record, settings, where)),
        read=lambda: data,
    )


def _digest(settings: RecordSettings) -> str:
    """So that other settings read every record again."""
    return digest_json(settings.bytes_come_from()).removeprefix("sha256:")[:16]


def record_path(key: str, suffix: str) -> str:
    """Return the path of the record with this id: different for different ids."""
    return f"{quote(key, safe=_PLAIN, errors='replace')}.{suffix}"


def _properties(record: Mapping[str, Any], settings: RecordSettings, where: str) -> Properties:
    told: dict[str, Any] = {name: record.get(name) for name in settings.keep}
    for name, column in (("title", settings.title), ("url", settings.url)):
        if column is not None and record.get(column) is not None:
            told[name] = str(record[column])
    if settings.modified is not None:
        told["modified"] = record.get(settings.modified)
    if settings.subjects_from is not None:
        told["subjects"] = _names(record.get(settings.subjects_from))
    if settings.readers_from is not None:
        told["readers"] = _names(record.get(settings.readers_from))
    return read_properties({name: _plain(value) for name, value in told.items()}, where=where)


def _names(value: Any) -> Any:
    """Return a list as it is, and a text as a list separated by commas."""
    if value is None:
        return []
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    """Return numbers of databases as those that JSON has."""
    if value is None or isinstance(value, str | int | float | bool | list):
        return value
    if hasattr(value, "isoformat"):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)
