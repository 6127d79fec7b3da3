"""Configuration objects: providers, routes, limit rules and prices, each with one owner.

An object lives in `penstock.toml` or in the control tables, never in both: where the same name is in both, the file
wins and the other is reported. What the tables hold is what a person wrote, without defaults.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter, ValidationError

from penstock.base.errors import CallerError, ConflictError, NotFound, suggest
from penstock.deploy.limit_sections import LimitName, LimitRuleSettings, PriceSettings
from penstock.deploy.section_problems import describe_problem
from penstock.deploy.section_types import ProviderName
from penstock.deploy.sections import ProviderSettings, RouteSettings

ObjectKind = Literal["provider", "route", "limit", "price"]
Owner = Literal["settings", "database", "environment", "built in", "registry"]
KINDS: tuple[ObjectKind, ...] = ("provider", "route", "limit", "price")
SECTIONS: Mapping[ObjectKind, type[BaseModel]] = {
    "provider": ProviderSettings,
    "route": RouteSettings,
    "limit": LimitRuleSettings,
    "price": PriceSettings,
}
_NAMES: Mapping[ObjectKind, TypeAdapter[str]] = {
    "provider": TypeAdapter(ProviderName),
    "limit": TypeAdapter(LimitName),
}


class ObjectInvalid(CallerError):
    """What was written for an object cannot be used; the text names every key that is wrong."""

    code = "PS-1685"


class UnknownObject(NotFound):
    """No object of this kind has this name."""

    code = "PS-1686"

    def __init__(self, kind: ObjectKind, name: str, known: list[str]) -> None:
        super().__init__(
            f"There is no {kind} {name!r}.",
            hint=suggest(name, known) or f"`penstock {kind} list` shows all.",
            kind=kind,
            name=name,
        )


class ObjectOwnedElsewhere(ConflictError):
    """The object is not kept in the control tables, so it is changed where it stands."""

    code = "PS-3685"


class ObjectExists(ConflictError):
    """An object that was to be created is there already."""

    code = "PS-3686"


class ObjectChanged(ConflictError):
    """Somebody else changed the object since it was read."""

    code = "PS-3687"


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """An object of the control tables."""

    kind: ObjectKind
    name: str
    content: Mapping[str, Any]
    """What a person wrote, as JSON; defaults are left out."""
    version: int
    """Counts the changes of this object, from 1."""
    actor: str
    updated_ns: int


def parse_object(kind: ObjectKind, name: str, content: Any) -> BaseModel:
    """Return the section that `content` is; raise `ObjectInvalid` with everything that is wrong."""
    problems: list[str] = []
    try:
        if kind in _NAMES:
            _NAMES[kind].validate_python(name, strict=True)
    except ValidationError:
        problems.append(
            f"{name[:80]!r} is not a {kind}'s name: use letters, digits, dot, dash and underscore"
            f"{' (lower case)' if kind == 'provider' else ''}."
        )
    if kind == "route" and not (1 <= len(name) <= 256 and name.isascii() and name.isprintable()):
        problems.append("A route's name must be 1 to 256 printable ASCII characters.")
    if kind == "price" and not all(name.partition("/")):
        problems.append("A price is named PROVIDER/MODEL.")
    model = SECTIONS[kind]
    try:
        section = model.model_validate(content)
    except ValidationError as error:
        problems += [str(describe_problem(model, dict(item))) for item in error.errors()]
    if problems:
        shown = "\n  ".join(problems)
        raise ObjectInvalid(f"{kind} {name[:80]!r}: {shown}", kind=kind, name=name, problems=problems)
    return section


def plain_content(section: BaseModel) -> dict[str, Any]:
    """Return what was written in a section, as JSON values, without defaults."""
    content: dict[str, Any] = section.model_dump(mode="json", exclude_unset=True)
    return content
