"""The kinds of sources by name: their settings, and how one is opened."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import msgspec

from penstock.base.errors import suggest
from penstock.knowledge.credentials import Credentials
from penstock.knowledge.sources.errors import InvalidSource
from penstock.knowledge.sources.kinds.database import DatabaseSettings, DatabaseSource
from penstock.knowledge.sources.kinds.files import FilesSettings, FilesSource
from penstock.knowledge.sources.kinds.folder import FolderSettings, FolderSource
from penstock.knowledge.sources.kinds.jsonl import JsonlSettings, JsonlSource
from penstock.knowledge.sources.kinds.store import StoreSettings, StoreSource
from penstock.knowledge.sources.kinds.web import WebSource
from penstock.knowledge.sources.settings import SourceSettings, read_settings
from penstock.knowledge.sources.types import Source
from penstock.knowledge.sources.web.settings import WebSettings


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of place."""

    settings: type[SourceSettings]
    open: Callable[[str, Any, Credentials, Path | None], Source]
    """Called with the source's id, its settings, the vault's secrets, and the folder that nobody reads."""
    about: str
    is_local_path: bool = False
    """Its location is a path of this machine, which must be absolute."""


KINDS: dict[str, Kind] = {
    "folder": Kind(
        settings=FolderSettings,
        open=lambda source_id, settings, _, private: FolderSource(source_id, settings, private_root=private),
        about="a folder of this machine",
        is_local_path=True,
    ),
    "files": Kind(
        settings=FilesSettings,
        open=lambda source_id, settings, *_: FilesSource(source_id, settings),
        about="single files, by name or pattern",
        is_local_path=True,
    ),
    "web": Kind(
        settings=WebSettings,
        open=lambda source_id, settings, credentials, _: WebSource(source_id, settings, credentials),
        about="pages of web sites, by links and sitemaps",
    ),
    "store": Kind(
        settings=StoreSettings,
        open=lambda source_id, settings, credentials, _: StoreSource(source_id, settings, credentials),
        about="an object store or any other file system that fsspec opens",
    ),
    "database": Kind(
        settings=DatabaseSettings,
        open=lambda source_id, settings, credentials, _: DatabaseSource(source_id, settings, credentials),
        about="rows of a query",
    ),
    "jsonl": Kind(
        settings=JsonlSettings,
        open=lambda source_id, settings, *_: JsonlSource(source_id, settings),
        about="records of a file of JSON lines",
        is_local_path=True,
    ),
}


def find_kind(name: str) -> Kind:
    """Return the kind; raise `InvalidSource` when there is none of that name."""
    kind = KINDS.get(name)
    if kind is None:
        raise InvalidSource(
            f"There is no kind of source {name!r}.",
            hint=suggest(name, KINDS) or f"There are: {', '.join(KINDS)}.",
        )
    return kind


def read_kind_settings(name: str, given: Mapping[str, Any]) -> SourceSettings:
    """Return the settings of a source of this kind; raise `InvalidSource`."""
    return read_settings(name, given, find_kind(name).settings)


def describe_kinds() -> list[dict[str, Any]]:
    """Return the kinds with their settings, for forms and help."""
    return [
        {
            "kind": name,
            "about": kind.about,
            "settings": [
                {
                    "name": field.name,
                    "is_required": field.required,
                    "default": None if field.required else _default_of(field),
                    "type": _type_name(field.type),
                }
                for field in msgspec.structs.fields(kind.settings)
            ],
        }
        for name, kind in KINDS.items()
    ]


def _default_of(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


def _type_name(kind: Any) -> str:
    return (
        kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind).replace("typing.", "")
    )
