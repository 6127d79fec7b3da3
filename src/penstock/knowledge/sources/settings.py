"""What every kind of source can be told, and reading settings with errors that name the setting."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin

import msgspec

from penstock.base.errors import suggest
from penstock.knowledge.sources.errors import InvalidSource
from penstock.spec.knowledge import Properties, PropertyValue

MAX_BYTES = 64 * 1024 * 1024


class SourceSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What every kind of source can be told."""

    location: str
    """A folder, file, address or query's database: each kind says which."""
    prefix: str = ""
    """Stands before the paths of its documents in the base."""
    include: list[str] = []
    """Globs such as `guides/**/*.md`; empty takes everything that can be read."""
    exclude: list[str] = []
    max_bytes: int = MAX_BYTES
    """Larger documents are left out."""
    max_gone_share: float = 0.5
    """When more of its documents than this vanish at once, nothing is deleted until that is allowed."""
    readers: list[str] | None = None
    """Who may find its documents, where a document's own properties do not say."""
    subjects: list[str] = []
    language: str | None = None
    properties: dict[str, PropertyValue] = {}
    """Properties of all its documents; a document's own win."""

    def common_properties(self) -> Properties:
        """Return what holds for all its documents."""
        return Properties(
            values=self.properties,
            readers=self.readers,
            subjects=self.subjects,
            language=self.language,
        )

    def local_places(self) -> list[str]:
        """Return the paths of this machine below which it reads."""
        return []

    def secret_address(self) -> str:
        """Return the address that its secrets are sent to."""
        return self.location

    def check(self) -> None:
        """Raise `InvalidSource` for what types alone do not tell."""
        if not self.location.strip():
            raise InvalidSource("A source needs a location.")
        if not 0 < self.max_gone_share <= 1:
            raise InvalidSource("`max_gone_share` must be over 0 and at most 1.")
        if self.max_bytes < 1:
            raise InvalidSource("`max_bytes` must be at least 1.")
        if self.prefix.startswith("/") or ".." in self.prefix.split("/"):
            raise InvalidSource(f"`prefix` is {self.prefix!r}; it is a path such as 'wiki/'.")


Settings = TypeVar("Settings", bound=SourceSettings)
_UNKNOWN = re.compile(r"unknown field `(.+?)`")


def read_settings(kind: str, given: Mapping[str, Any], model: type[Settings]) -> Settings:
    """Return the settings of a source of this kind; raise `InvalidSource`."""
    try:
        settings = msgspec.convert(dict(given), model)
    except msgspec.ValidationError as error:
        unknown = _UNKNOWN.search(str(error))
        if unknown is None:
            hint = "Put quotes around it: --set 'NAME=\"10\"'." if "Expected `str`" in str(error) else None
            raise InvalidSource(f"A source of kind {kind!r}: {error}.", hint=hint) from error
        known = model.__struct_fields__
        raise InvalidSource(
            f"A source of kind {kind!r} has no setting {unknown[1]!r}.",
            hint=suggest(unknown[1], known) or f"It has: {', '.join(sorted(known))}.",
        ) from error
    settings.check()
    return settings


def split_lists(given: Mapping[str, Any], model: type[SourceSettings]) -> dict[str, Any]:
    """Return settings in which a text stands for a list: `*.md, *.html` for both."""
    lists = {field.name for field in msgspec.structs.fields(model) if _is_list(field.type)}
    return {
        key: [part.strip() for part in value.split(",") if part.strip()]
        if key in lists and isinstance(value, str)
        else value
        for key, value in given.items()
    }


def _is_list(kind: Any) -> bool:
    return any(get_origin(each) is list for each in (kind, *get_args(kind)))
