"""A knowledge base as a file: its sources, and what applying the file would change. Applying twice changes nothing.

name = "handbook"

[[sources]]
name = "articles"
kind = "folder"
location = "articles"        # relative to the file
schedule = "1h"

[recipe.chunk]
size = 256
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from penstock.knowledge.sources.catalogue import find_kind
from penstock.knowledge.sources.checking import checked_settings
from penstock.knowledge.sources.errors import InvalidSource
from penstock.knowledge.sources.schedules import read_schedule
from penstock.knowledge.sources.types import SourceRow
from penstock.spec.knowledge import Recipe

_OWN = ("name", "kind", "schedule", "paused")


class DeclaredSource(msgspec.Struct, frozen=True, kw_only=True):
    """A source of the file, checked."""

    name: str
    kind: str
    settings: dict[str, Any]
    """As they are stored; without `prefix` where the file does not say."""
    schedule: dict[str, Any] | None
    is_paused: bool


class Declaration(msgspec.Struct, frozen=True, kw_only=True):
    """A file that declares a base."""

    name: str
    sources: list[DeclaredSource]
    recipe: Recipe | None
    """None where the file has none: the base's own stays."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What applying a file does to one source."""

    source: str
    action: Literal["add", "edit", "keep", "remove", "not in the file"]
    details: list[str] = []
    """`setting: before → after`."""


def read_declaration(text: str, folder: Path) -> Declaration:
    """Return what a file says; paths are relative to `folder`. Raises `InvalidSource`."""
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidSource(f"The file is no TOML: {error}.") from error
    unknown = sorted(found.keys() - {"name", "sources", "recipe"})
    if unknown:
        raise InvalidSource(f"The file has {unknown[0]!r}.", hint="It has name, [[sources]] and [recipe.…].")
    name, sources = found.get("name"), found.get("sources", [])
    if not isinstance(name, str) or not name:
        raise InvalidSource(
            "The file names no knowledge base.", hint='Such as name = "handbook" in its first line.'
        )
    if not isinstance(sources, list) or not all(isinstance(each, dict) for each in sources):
        raise InvalidSource("`sources` must be tables: [[sources]].")
    declared = [_read_source(each, folder, number) for number, each in enumerate(sources, start=1)]
    names = [each.name for each in declared]
    twice = next((each for each in names if names.count(each) > 1), None)
    if twice is not None:
        raise InvalidSource(f"The file has two sources {twice!r}.")
    try:
        recipe = msgspec.convert(found["recipe"], Recipe) if "recipe" in found else None
    except msgspec.ValidationError as error:
        raise InvalidSource(f"The recipe: {error}.") from error
    return Declaration(name=name, sources=declared, recipe=recipe)


def plan_changes(
    declared: Sequence[DeclaredSource], present: Sequence[SourceRow], *, remove_others: bool
) -> list[Change]:
    """Return what makes `present` what the file says, source by source."""
    known = {row.name: row for row in present}
    changes = [_plan_source(each, known.get(each.name)) for each in declared]
    named = {each.name for each in declared}
    others: Literal["remove", "not in the file"] = "remove" if remove_others else "not in the file"
    changes += [Change(source=row.name, action=others) for row in present if row.name not in named]
    return changes


def _plan_source(declared: DeclaredSource, row: SourceRow | None) -> Change:
    if row is None:
        return Change(
            source=declared.name, action="add", details=[f"{declared.kind} {declared.settings['location']}"]
        )
    if row.kind != declared.kind:
        raise InvalidSource(
            f"The source {row.name!r} is a {row.kind}, and a {declared.kind} in the file.",
            hint="Give it another name, or remove the old one first.",
        )
    before = {**row.settings, "schedule": row.schedule, "paused": row.is_paused}
    wanted = {"prefix": row.settings.get("prefix", ""), **declared.settings}
    after = {**wanted, "schedule": declared.schedule, "paused": declared.is_paused}
    details = [
        f"{key}: {_shown(before.get(key))} → {_shown(after.get(key))}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
    return Change(source=row.name, action="edit" if details else "keep", details=details)


def _read_source(given: Mapping[str, Any], folder: Path, number: int) -> DeclaredSource:
    name, kind = given.get("name"), given.get("kind")
    if not isinstance(name, str) or not isinstance(kind, str):
        raise InvalidSource(f"Source {number} of the file needs a name and a kind.")
    settings = {key: value for key, value in given.items() if key not in _OWN}
    location = settings.get("location")
    if find_kind(kind).is_local_path and isinstance(location, str):
        settings["location"] = str(folder / Path(location).expanduser())
        if isinstance(settings.get("also"), list):
            settings["also"] = [str(folder / Path(str(each)).expanduser()) for each in settings["also"]]
    checked = checked_settings(kind, settings)
    if "prefix" not in given:
        checked.pop("prefix")
    schedule = given.get("schedule")
    return DeclaredSource(
        name=name,
        kind=kind,
        settings=checked,
        schedule=None if schedule is None else msgspec.to_builtins(read_schedule(schedule)),
        is_paused=bool(given.get("paused", False)),
    )


def _shown(value: Any) -> str:
    return "–" if value is None else msgspec.json.encode(value).decode()
