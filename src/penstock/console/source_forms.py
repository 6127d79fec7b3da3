"""The form of a source: fields made from what its kind can be told, and texts read back as settings. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from penstock.base.errors import InvalidInput
from penstock.knowledge.sources.catalogue import describe_kinds

MARK = "s-"
"""Begins the names of form fields that are settings, so that none is mistaken for the source's own name."""
_FIRST = ("location", "query", "also")
_NEXT = ("include", "exclude", "prefix", "readers", "language")
_LOCATIONS = {
    "folder": "/srv/handbook",
    "files": "/srv/manuals/**/*.pdf",
    "web": "https://docs.example.org/guide/",
    "store": "s3://bucket/documents",
    "database": "postgresql://reader:{{secret:wiki_db}}@db.example/wiki",
    "jsonl": "/srv/tickets/*.jsonl.gz",
}
_HELP = {
    "location": "Where it is.",
    "query": "A query whose rows are the documents.",
    "also": "More of the same, one a line.",
    "include": "Patterns such as guides/**/*.md, one a line; empty takes everything that can be read.",
    "exclude": "Patterns of what stays out, one a line.",
    "prefix": "Stands before the paths of its documents.",
    "readers": "Who may find its documents, such as group:finance, one a line; empty: everyone.",
    "subjects": "People it is about, one a line.",
    "language": "Such as de; empty: found out from the text.",
    "properties": "Of all its documents, as JSON.",
    "max_bytes": "Larger documents are left out.",
    "max_gone_share": "When more of its documents than this vanish at once, nothing is deleted until you allow it.",
    "watch": "Look for changes every few seconds.",
    "hosts": "Further hosts that may be read whole, one a line.",
    "depth": "How many links away from the first page.",
    "sitemap": "Also read the pages of the host's sitemap.",
    "robots": "ignore is for sites of your own.",
    "pause_s": "Seconds between two requests to a host.",
    "headers": "As JSON; credentials as {{secret:NAME}}.",
    "options": "What its file system takes, as JSON; credentials as {{secret:NAME}}.",
    "allow_private": "Private hosts or networks that may be read, one a line.",
    "id": "Field that names the record and never changes.",
    "text": "Field of its text.",
    "format": "What the text is: txt, md, html.",
    "readers_from": "Field of the principals that may find it.",
    "subjects_from": "Field of the people it is about.",
    "version": "Field that changes whenever the record does.",
    "keep": "Fields that become properties, one a line.",
}
_LABELS = {
    "max_bytes": "Largest document, bytes",
    "max_gone_share": "Largest share that may vanish",
    "pause_s": "Pause, seconds",
    "timeout_s": "Time limit, seconds",
    "max_minutes": "Longest run, minutes",
    "max_pages": "Most pages",
    "allow_private": "Private hosts allowed",
    "user_agent": "Name for robots.txt",
    "robots": "robots.txt",
    "also": "More locations",
    "id": "Field of the id",
    "text": "Field of the text",
    "title": "Field of the title",
    "modified": "Field of the time of change",
    "url": "Field of the address",
    "version": "Field of the version",
    "keep": "Fields to keep",
}
FieldKind = Literal["text", "number", "lines", "json", "yes_no", "choice"]


@dataclass(frozen=True, kw_only=True)
class SettingField:
    """One setting as a form field."""

    name: str
    label: str
    kind: FieldKind
    value: str
    help: str
    is_required: bool
    options: tuple[str, ...] = ()
    placeholder: str = ""


@dataclass(frozen=True, kw_only=True)
class SettingGroups:
    """The fields in three groups: what a source needs, what its kind can be told besides, and what every source can."""

    first: tuple[SettingField, ...]
    own: tuple[SettingField, ...]
    more: tuple[SettingField, ...]


def make_groups(kind: str, settings: Mapping[str, Any], told: Mapping[str, str]) -> SettingGroups:
    """Return the fields with the settings of a source, or with what a form said (`told`) where it came back."""
    common = set.intersection(*({each["name"] for each in one["settings"]} for one in describe_kinds()))
    first, own, more = [], [], []
    for each in _settings_of(kind):
        field = _make_field(kind, each, settings, told)
        if field.name in _FIRST or (field.name in _NEXT and field.name in common):
            first.append(field)
        elif field.name in common:
            more.append(field)
        else:
            own.append(field)
    order = {name: place for place, name in enumerate((*_FIRST, *_NEXT))}
    first.sort(key=lambda each: order[each.name])
    return SettingGroups(first=tuple(first), own=tuple(own), more=tuple(more))


def read_settings(kind: str, form: Mapping[str, str]) -> dict[str, Any]:
    """Return every setting that the form holds; None for one that was left at its default. Raises `InvalidInput`."""
    found: dict[str, Any] = {}
    for each in _settings_of(kind):
        text = form.get(f"{MARK}{each['name']}")
        if text is None:
            continue
        value = _read(each["name"], _kind_of(each["type"]), text.strip())
        found[each["name"]] = None if value in (each["default"], "") and not each["is_required"] else value
    return found


def _settings_of(kind: str) -> list[dict[str, Any]]:
    found = next((each for each in describe_kinds() if each["kind"] == kind), None)
    if found is None:
        raise InvalidInput(f"There is no kind of source {kind!r}.")
    settings: list[dict[str, Any]] = found["settings"]
    return settings


def _make_field(
    kind: str, each: Mapping[str, Any], settings: Mapping[str, Any], told: Mapping[str, str]
) -> SettingField:
    name = each["name"]
    shape = _kind_of(each["type"])
    value = settings.get(name, each["default"])
    return SettingField(
        name=name,
        label=_label(name),
        kind=shape,
        value=told.get(f"{MARK}{name}", _write(shape, value)),
        help=_HELP.get(name, ""),
        is_required=each["is_required"],
        options=tuple(part.strip(" '\"") for part in each["type"][8:-1].split(","))
        if shape == "choice"
        else (),
        placeholder=_LOCATIONS.get(kind, "") if name == "location" else "",
    )


def _label(name: str) -> str:
    return _LABELS.get(name, name.replace("_", " ").capitalize())


def _kind_of(name: str) -> FieldKind:
    if name.startswith("Literal["):
        return "choice"
    if name.startswith("list["):
        return "lines"
    if name.startswith("dict["):
        return "json"
    if name == "bool":
        return "yes_no"
    return "number" if name.partition(" ")[0] in {"int", "float"} else "text"


def _write(kind: FieldKind, value: Any) -> str:
    if value is None or value in ([], {}):
        return ""
    if kind == "lines":
        return "\n".join(map(str, value))
    if kind == "json":
        return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    if kind == "yes_no":
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _read(name: str, kind: FieldKind, text: str) -> Any:
    if kind == "yes_no":
        return text == "yes"
    if kind == "lines":
        return [line.strip() for line in text.splitlines() if line.strip()]
    if kind in {"text", "choice"}:
        return text
    if not text:
        return {} if kind == "json" else None
    try:
        return msgspec.json.decode(text.replace(",", "") if kind == "number" else text)
    except msgspec.DecodeError as error:
        what = "a number" if kind == "number" else f"JSON ({error})"
        raise InvalidInput(f"{_label(name)} is not {what}.", param=name) from error
