"""Knowledge bases in words: recipes and what differs between them, sources and their schedules, states."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput, PenstockError
from penstock.knowledge.recipes import read_recipe
from penstock.knowledge.sources.types import SourceRow
from penstock.spec.knowledge import EVERYONE, Recipe

TABS = (
    ("overview", "Overview", ""),
    ("sources", "Sources", "/sources"),
    ("documents", "Documents", "/documents"),
    ("search", "Search", "/search"),
    ("quality", "Quality", "/quality"),
)


@dataclass(frozen=True, kw_only=True)
class BaseHead:
    """What stands above every page of one base."""

    name: str
    version: str | None
    tab: str
    tabs: tuple[tuple[str, str, str], ...]
    """Name, label and link."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting of a recipe."""

    name: str
    value: str
    before: str = ""
    """What it is held against; empty where there is nothing."""
    is_default: bool = False


def make_head(name: str, version: str | None, tab: str) -> BaseHead:
    """Return the head of a page of a base."""
    return BaseHead(
        name=name,
        version=version,
        tab=tab,
        tabs=tuple((key, label, f"/knowledge/{name}{path}") for key, label, path in TABS),
    )


def list_settings(recipe: Mapping[str, Any]) -> tuple[Setting, ...]:
    """Return every setting of a stored recipe, those that nobody changed too."""
    own = _flatten(read_recipe(recipe))
    plain = _flatten(Recipe())
    return tuple(
        Setting(name=name, value=_say(value), is_default=plain.get(name) == value)
        for name, value in own.items()
    )


def list_differences(recipe: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[Setting, ...]:
    """Return the settings in which a stored recipe differs from another one."""
    own, before = _flatten(read_recipe(recipe)), _flatten(read_recipe(other))
    return tuple(
        Setting(name=name, value=_say(own.get(name)), before=_say(before.get(name)))
        for name in dict.fromkeys([*own, *before])
        if own.get(name) != before.get(name)
    )


def read_changes(text: str, *, part: str | None = None) -> dict[str, Any]:
    """Return the changes that `chunk.size=256 search.fusion=rrf` says, as `change_recipe` takes them.

    With `part` names may leave it out (`fusion=rrf`), and no other part is allowed. Raises `InvalidInput`.
    """
    changes: dict[str, Any] = {}
    for word in text.replace(",", " ").split():
        name, mark, value = word.partition("=")
        steps = name.removeprefix(f"{part}.").split(".") if part else name.split(".")
        if not mark or not all(steps):
            raise InvalidInput(
                f"{word!r} is no setting.",
                hint="Write NAME=VALUE, such as " + ("fusion=rrf" if part else "chunk.size=256") + ".",
            )
        place = changes.setdefault(part, {}) if part else changes
        for step in steps[:-1]:
            place = place.setdefault(step, {})
            if not isinstance(place, dict):
                raise InvalidInput(f"{name!r} is told twice.")
        place[steps[-1]] = _read_value(value)
    return changes


def read_principals(text: str) -> list[str] | None:
    """Return who is asking from `ada group:finance`; None, who keeps the base and sees everything, for nothing."""
    words = text.replace(",", " ").split()
    if not words:
        return None
    told = [word if ":" in word or word == EVERYONE else f"user:{word}" for word in words]
    return list(dict.fromkeys([*told, EVERYONE]))


def say_schedule(schedule: Mapping[str, Any] | None) -> str:
    """Return `every 1h` or `0 3 * * * Europe/Berlin`; `by hand` where there is none."""
    if not schedule:
        return "by hand"
    if schedule.get("every"):
        return f"every {schedule['every']}"
    return f"{schedule.get('cron')} {schedule.get('timezone', 'UTC')}"


def source_word(source: SourceRow) -> str:
    """Return how a source stands, in a word."""
    if source.is_detached:
        return "detached"
    return "paused" if source.is_paused else source.state


def say_outcome(source: SourceRow) -> str:
    """Return what the last scan that ended well did: `69 there, 2 new, 1 changed, 3 left out`."""
    found = source.outcome
    if found is None:
        return "not read yet"
    parts = [f"{found.seen:,} there"]
    for count, word in (
        (found.added, "new"),
        (found.changed, "changed"),
        (found.moved, "moved"),
        (found.gone, "gone"),
        (found.unreadable, "unreadable"),
        (found.left_out, "left out"),
    ):
        if count:
            parts.append(f"{count:,} {word}")
    return ", ".join(parts)


def count_state(sources: Sequence[SourceRow], state: str) -> int:
    """Return how many items of all sources are in a state."""
    return sum(source.counts.get(state, 0) for source in sources)


def say_error(error: PenstockError) -> str:
    """Return message and hint as one text."""
    return f"{error.message} {error.hint or ''}".strip()


def _flatten(recipe: Recipe) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, msgspec.Struct):
            for name in value.__struct_fields__:
                walk(getattr(value, name), f"{path}.{name}" if path else name)
        else:
            found[path] = value

    walk(recipe, "")
    return found


def _say(value: Any) -> str:
    if value is None or value in ("", []):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return (
        f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)
    )


def _read_value(text: str) -> Any:
    if text in {"null", "none", ""}:
        return None
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
