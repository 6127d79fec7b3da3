"""Properties of documents as people write them beside the documents, and which of two statements wins.

Front matter is read by the parsers; this reads sidecar files and folder-wide files, and joins all of them. Access
fails closed: properties that cannot be read leave a document as it was, and a document cannot widen by its own
words who may find it once its source has said so.
"""

import math
import tomllib
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from difflib import get_close_matches
from pathlib import PurePosixPath
from typing import Any

import msgspec
import yaml

from penstock.knowledge.sources.errors import UnreadableProperties
from penstock.spec.knowledge import Properties, PropertyValue

SIDECAR_SUFFIXES = (".meta.toml", ".meta.yaml", ".meta.yml", ".meta.json")
FOLDER_FILE = "_properties.toml"
MAX_PROPERTY_BYTES = 256 * 1024
_MILLISECONDS = 100_000_000_000
"""Numbers from here on are milliseconds: as seconds they lie beyond the year 5138."""
_FAR_NS = 2**63 - 1
_NAMED = ("readers", "subjects", "language", "modified", "url")


def merge_properties(own: Properties, told: Properties) -> Properties:
    """Return what a document says of itself joined with what its source tells of it, which wins.

    Readers of the document itself count only where the source tells none. A moment further away than 64 bits of
    nanoseconds reach is none.
    """
    return Properties(
        values={**own.values, **told.values},
        readers=told.readers if told.readers is not None else own.readers,
        subjects=list(dict.fromkeys([*own.subjects, *told.subjects])),
        language=told.language or own.language,
        modified_ns=_near(told.modified_ns)
        if _near(told.modified_ns) is not None
        else _near(own.modified_ns),
        url=told.url or own.url,
    )


def parse_properties(name: str, data: bytes) -> Properties:
    """Return what a file of properties says; its suffix tells TOML, YAML or JSON. Raises `UnreadableProperties`."""
    if len(data) > MAX_PROPERTY_BYTES:
        raise UnreadableProperties(f"{name!r} has {len(data):,} bytes; the limit is {MAX_PROPERTY_BYTES:,}.")
    try:
        text = data.decode("utf-8-sig")
        suffix = PurePosixPath(name).suffix.lower()
        if suffix == ".toml":
            found: Any = tomllib.loads(text)
        elif suffix == ".json":
            found = msgspec.json.decode(text)
        else:
            found = _load_yaml(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise UnreadableProperties(f"{name!r} cannot be read: {str(error).splitlines()[0]}.") from error
    if found is None:
        return Properties()
    if not isinstance(found, dict):
        raise UnreadableProperties(f"{name!r} must hold names with values.")
    for key in found:
        if key != "readers" and get_close_matches(str(key).casefold(), ["readers", "reader"], cutoff=0.9):
            raise UnreadableProperties(f"{name!r} has {key!r}; who may find it is written `readers`.")
    return read_properties(found, where=name)


def read_properties(given: Mapping[str, Any], *, where: str) -> Properties:
    """Return a mapping as properties: `readers`, `subjects`, `language`, `modified`, `url`, the rest as values.

    Raises `UnreadableProperties`, which names `where`.
    """
    values: dict[str, PropertyValue] = {}
    for name, value in given.items():
        if str(name) in _NAMED or value is None:
            continue
        values[str(name)] = _read_value(value, f"{where}: {name}")
    authority = values.get("authority")
    if authority is not None and (isinstance(authority, bool) or not isinstance(authority, int | float)):
        raise UnreadableProperties(f"{where}: authority is {authority!r}; it is a number from 0 to 1.")
    readers = given.get("readers")
    return Properties(
        values=values,
        readers=None if readers is None else _read_names(readers, f"{where}: readers"),
        subjects=_read_names(given.get("subjects") or [], f"{where}: subjects"),
        language=_read_text(given.get("language"), f"{where}: language"),
        modified_ns=read_moment(given.get("modified"), f"{where}: modified"),
        url=_read_text(given.get("url"), f"{where}: url"),
    )


def read_moment(value: Any, where: str) -> int | None:
    """Return a date, a moment, ISO text, seconds or milliseconds since 1970 as nanoseconds; without a zone it is UTC.

    A moment in the year 1 is how many programs write that they know none. Raises `UnreadableProperties`, also for
    what lies further away than 64 bits of nanoseconds reach.
    """
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise UnreadableProperties(f"{where} is {value!r}; write it as 2026-03-31.") from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if isinstance(value, datetime):
        if value.year == 1:  # how many programs write that they know none
            return None
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return _within(int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000, value, where)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        seconds = value / 1000 if abs(value) >= _MILLISECONDS else value
        return _within(int(seconds * 1_000_000_000) if abs(seconds) < _MILLISECONDS else None, value, where)
    raise UnreadableProperties(f"{where} is {value!r}; write it as 2026-03-31.")


def _near(moment_ns: int | None) -> int | None:
    return moment_ns if moment_ns is not None and -_FAR_NS < moment_ns < _FAR_NS else None


def _within(moment_ns: int | None, value: Any, where: str) -> int | None:
    """Return a moment that everything which shows or compares moments can take."""
    if _near(moment_ns) is None:
        raise UnreadableProperties(
            f"{where} is {value!r}, which is no moment between the years 1678 and 2262."
        )
    return moment_ns


class _Yaml(yaml.SafeLoader):  # type: ignore[misc]  # the package has no types
    """Without anchors: a few lines of them can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("anchors and aliases are not read here")
        return super().compose_node(parent, index)


def _load_yaml(text: str) -> Any:
    return yaml.load(text, Loader=_Yaml)  # noqa: S506 - a subclass of the safe loader


def _read_value(value: Any, where: str) -> PropertyValue:
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        raise UnreadableProperties(f"{where} has more digits than a number of 64 bits; write it as text.")
    if isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise UnreadableProperties(f"{where} is no finite number.")
        return value
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, list) and all(isinstance(each, str | int | float) for each in value):
        return [str(each) for each in value]
    raise UnreadableProperties(f"{where} must be text, a number, true or false, or a list of texts.")


def _read_names(value: Any, where: str) -> list[str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(each, str) and each.strip() for each in names):
        raise UnreadableProperties(f"{where} must be a list of names.")
    return [each.strip() for each in names]


def _read_text(value: Any, where: str) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    raise UnreadableProperties(f"{where} must be text.")
