"""What a published configuration was, without a secret in it, and how two of them differ. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import msgspec

from penstock.base.digest import digest_json
from penstock.deploy.objects import StoredObject
from penstock.spec.routes import KeyRow, Provider
from penstock.spec.snapshot import Snapshot
from penstock.store.sealing import sealed_origin

Content = dict[str, Any]
"""A configuration as JSON: `providers`, `routes`, `limits`, `prices`, `keys` and `secrets` by name, `settings`, and
`objects`, those of the control tables as they were."""
SECTIONS = ("providers", "routes", "limits", "prices", "keys", "secrets", "settings")
_MARKS = {"keys": "text", "secrets": "seal"}
"""What is kept of a text only to see that it was replaced. It leaves this room in no form."""
_UNSET = object()
_SINGULAR = {
    "providers": "provider",
    "routes": "route",
    "limits": "limit",
    "prices": "price",
    "keys": "key",
    "secrets": "secret",
    "settings": "settings",
}


@dataclass(frozen=True, kw_only=True)
class FieldChange:
    """A field that differs; a side is None where the field is not set there."""

    path: str
    before: Any
    after: Any
    is_hidden: bool = False
    """Whether nothing is told but that it changed."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A thing that differs between two configurations."""

    kind: str
    name: str
    action: Literal["added", "removed", "changed"]
    fields: tuple[FieldChange, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ConfigVersion:
    """A configuration that was published."""

    number: int
    digest: str
    """Of its content; equal digests are equal configurations."""
    snapshot_digest: str
    """Of the snapshot that gateways were given first with it."""
    actor: str
    note: str
    created_ns: int


def describe_snapshot(snapshot: Snapshot, objects: Sequence[StoredObject]) -> Content:
    """Return what is remembered of a snapshot: everything that a person chose, and nothing that is secret.

    Addresses of this installation's own processes are left out, since ports change with every start; digests of keys
    and sealed secrets too, but not that they are there.
    """
    return {
        "providers": {row.name: _provider(row) for row in snapshot.providers},
        "routes": {row.name: _plain(row) for row in snapshot.routes},
        "limits": {row.name: _plain(row) for row in snapshot.limit_rules},
        "prices": {f"{row.provider}/{row.model}": _plain(row) for row in snapshot.prices},
        "keys": {row.id: _key(row) for row in snapshot.keys},
        "secrets": {
            name: {"origin": sealed_origin(sealed), "seal": digest_json(sealed)[:19]}
            for name, sealed in snapshot.secrets.items()
        },
        "settings": {
            "limits": _plain(snapshot.limits),
            **({"redis_url_env": {"name": snapshot.redis_url_env}} if snapshot.redis_url_env else {}),
        },
        "objects": [
            {"kind": each.kind, "name": each.name, "content": dict(each.content)} for each in objects
        ],
    }


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Return how two contents differ, by section and name."""
    return [change for section in SECTIONS for change in _compare_section(section, before, after)]


def show_content(content: Content) -> Content:
    """Return a content as people may see it: without the marks by which replaced texts are noticed."""
    hidden = {
        section: {
            name: {field: value for field, value in row.items() if field != mark}
            for name, row in content[section].items()
        }
        for section, mark in _MARKS.items()
        if section in content
    }
    return {**content, **hidden}


def _compare_section(section: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    old, new = before.get(section, {}), after.get(section, {})
    kind, mark = _SINGULAR[section], _MARKS.get(section)
    for name in sorted({*old, *new}):
        if name not in old:
            yield Change(
                kind=kind, name=name, action="added", fields=tuple(_fields({}, _unmarked(new[name], mark)))
            )
        elif name not in new:
            yield Change(
                kind=kind, name=name, action="removed", fields=tuple(_fields(_unmarked(old[name], mark), {}))
            )
        elif old[name] != new[name]:
            fields = [*_fields(_unmarked(old[name], mark), _unmarked(new[name], mark))]
            if mark is not None and old[name].get(mark) != new[name].get(mark):
                fields.append(FieldChange(path=mark, before="hidden", after="changed", is_hidden=True))
            yield Change(kind=kind, name=name, action="changed", fields=tuple(fields))


def _unmarked(row: Any, mark: str | None) -> Any:
    return row if mark is None else {field: value for field, value in row.items() if field != mark}


def _fields(before: Any, after: Any, path: str = "") -> Iterator[FieldChange]:
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted({*before, *after}):
            below = f"{path}.{name}" if path else name
            yield from _fields(before.get(name, _UNSET), after.get(name, _UNSET), below)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (old, new) in enumerate(zip(before, after, strict=True), start=1):
            yield from _fields(old, new, f"{path}[{number}]")
    else:
        yield FieldChange(path=path, before=_side(before), after=_side(after))


def _side(value: Any) -> Any:
    """Return one side of a change: None is for what is not set, so what was turned off on purpose is a word."""
    if value is _UNSET:
        return None
    return "off" if value is None else value


def _plain(value: Any) -> Any:
    """Return a row as JSON values without what is as by default."""
    if isinstance(value, msgspec.Struct):
        return {
            field.name: _plain(found)
            for field in msgspec.structs.fields(value)
            if not _is_default(field, found := getattr(value, field.name))
        }
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return f"{value:f}" if isinstance(value, Decimal) else value


def _is_default(field: msgspec.structs.FieldInfo, value: Any) -> bool:
    if field.default_factory is not msgspec.NODEFAULT:
        return bool(value == field.default_factory())
    return field.default is not msgspec.NODEFAULT and bool(value == field.default)


def _provider(row: Provider) -> Content:
    values: Content = _plain(row)
    if row.local:
        del values["base_url"]
    return values


def _key(row: KeyRow) -> Content:
    values: Content = _plain(row)
    for name in ("secret_sha256", "previous_sha256", "previous_until_ns"):
        values.pop(name, None)
    return {**values, "text": digest_json(row.secret_sha256)[:19]}
