"""Configuration objects in the control tables, and every configuration that was published.

A change is checked together with everything else before it is kept: what a gateway could not be given is refused,
and the objects stay as they were. Publishing follows the change and reads everything again, so that of two changes at
once whoever comes last has seen the other.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine

from penstock.base.clock import now_ns as wall_clock
from penstock.base.digest import digest_json
from penstock.base.errors import InvalidInput, NotFound
from penstock.deploy import queries
from penstock.deploy.history import Change, ConfigVersion, Content, compare, describe_snapshot, show_content
from penstock.deploy.object_views import ObjectView, Planner, refuse_other_owner, rows_of, view_object
from penstock.deploy.objects import (
    KINDS,
    SECTIONS,
    ObjectChanged,
    ObjectExists,
    ObjectKind,
    StoredObject,
    UnknownObject,
    parse_object,
    plain_content,
)
from penstock.providers.rating import note_gaps
from penstock.spec.snapshot import Snapshot

MAX_VERSIONS = 2000
"""Older ones are forgotten."""


class UnknownVersion(NotFound):
    """No configuration was published under this number."""

    code = "PS-1687"


@dataclass(frozen=True, kw_only=True)
class Rollback:
    """What going back did, and what it could not: files, environment, keys and secrets are not gone back to."""

    version: ConfigVersion | None
    restored: tuple[Change, ...]
    remaining: tuple[Change, ...]
    """How the configuration still differs from the one gone back to."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A change that was not made: what would differ, and what to look at."""

    changes: tuple[Change, ...]
    warnings: tuple[str, ...]


class ConfigurationService:
    """Objects and history. Safe to use from several threads."""

    def __init__(self, engine: Engine, planner: Planner, *, clock: Callable[[], int] = wall_clock) -> None:
        self._engine = engine
        self._planner = planner
        self._clock = clock

    # --- Objects -----------------------------------------------------------------------------------------------

    def list(self, kind: ObjectKind) -> tuple[ObjectView, ...]:
        """Return every object of a kind, whoever keeps it, by name."""
        _check_kind(kind)
        stored = self._stored()
        snapshot, planned = self._planner.draft(stored)
        return tuple(
            view_object(kind, name, row, planned, stored)
            for name, row in sorted(rows_of(snapshot, kind).items())
        )

    def get(self, kind: ObjectKind, name: str) -> ObjectView:
        """Return one object. Raises `UnknownObject`."""
        found = self.list(kind)
        for view in found:
            if view.name == name:
                return view
        raise UnknownObject(kind, name, [view.name for view in found])

    def get_stored(self, kind: ObjectKind, name: str) -> StoredObject:
        """Return one object of the control tables. Raises `UnknownObject`, and `ObjectOwnedElsewhere` for others."""
        _check_kind(kind)
        with self._engine.connect() as connection:
            found = queries.get_object(connection, kind, name)
        if found is None:
            raise self._not_stored(kind, name, self._stored())
        return found

    def put(
        self,
        kind: ObjectKind,
        name: str,
        content: Mapping[str, Any],
        *,
        actor: str,
        note: str = "",
        expected_version: int | None = None,
        is_new: bool = False,
    ) -> ObjectView:
        """Keep an object in the control tables and publish; `content` is what the settings file would say.

        `expected_version` is the version that was read (0: none was there); `is_new` refuses to replace. Raises
        `ObjectInvalid`, `ObjectOwnedElsewhere`, `ObjectExists`, `ObjectChanged`, and whatever is wrong with the
        configuration as a whole.
        """
        _check_kind(kind)
        plain = plain_content(parse_object(kind, name, content))
        with self._engine.begin() as connection:
            queries.lock_objects(connection)
            found = queries.get_object(connection, kind, name)
            if is_new and found is not None:
                raise ObjectExists(
                    f"There is a {kind} {name!r} already.",
                    hint=f"Change it: penstock {kind} edit {name}",
                    kind=kind,
                    name=name,
                )
            _check_version(kind, name, found, expected_version)
            item = StoredObject(
                kind=kind,
                name=name,
                content=plain,
                version=1 if found is None else found.version + 1,
                actor=actor,
                updated_ns=self._clock(),
            )
            queries.put_object(connection, item, is_new=found is None)
            self._check(connection, kind, name)
        verb = "create" if found is None else "edit"
        self._planner.publish(actor=actor, note=note or f"{verb} {kind} {name}")
        return self.get(kind, name)

    def delete(
        self, kind: ObjectKind, name: str, *, actor: str, note: str = "", expected_version: int | None = None
    ) -> None:
        """Forget an object of the control tables and publish. Raises as `put`, and `UnknownObject`."""
        _check_kind(kind)
        with self._engine.begin() as connection:
            queries.lock_objects(connection)
            found = queries.get_object(connection, kind, name)
            if found is None:
                raise self._not_stored(kind, name, queries.list_objects(connection))
            _check_version(kind, name, found, expected_version)
            queries.delete_object(connection, kind, name)
            self._planner.draft(queries.list_objects(connection))
        self._planner.publish(actor=actor, note=note or f"delete {kind} {name}")

    def validate(self, kind: ObjectKind, name: str, content: Mapping[str, Any] | None) -> Draft:
        """Return what a change would do, without making it; `content` None is a deletion. Raises as `put`."""
        _check_kind(kind)
        stored = [each for each in self._stored() if (each.kind, each.name) != (kind, name)]
        before, _ = self._planner.draft(self._stored())
        if content is not None:
            plain = plain_content(parse_object(kind, name, content))
            stored.append(
                StoredObject(kind=kind, name=name, content=plain, version=0, actor="", updated_ns=0)
            )
        after, planned = self._planner.draft(stored)
        if content is not None:
            refuse_other_owner(kind, name, planned)
        changes = compare(describe_snapshot(before, ()), describe_snapshot(after, ()))
        gaps: tuple[str, ...] = ()
        if kind == "price" and content is not None:
            gaps = note_gaps(rows_of(after, kind)[name]["usd_per_million"])
        return Draft(changes=tuple(changes), warnings=(*planned.warnings, *gaps))

    # --- History -----------------------------------------------------------------------------------------------

    def history(self, *, limit: int = 50, before: int | None = None) -> tuple[ConfigVersion, ...]:
        """Return what was published, newest first."""
        with self._engine.connect() as connection:
            rows = queries.list_versions(connection, limit=limit, before=before)
        return tuple(_version(row) for row in rows)

    def version(self, number: int) -> tuple[ConfigVersion, Content]:
        """Return a published configuration with its content. Raises `UnknownVersion`."""
        version, content = self._kept(number)
        return version, show_content(content)

    def _kept(self, number: int) -> tuple[ConfigVersion, Content]:
        with self._engine.connect() as connection:
            row = queries.get_version(connection, number)
        if row is None:
            raise UnknownVersion(
                f"No configuration was published as number {number}.",
                hint="`penstock config history` lists them.",
                number=number,
            )
        content: Content = json.loads(row.content)
        return _version(row), content

    def diff(self, before: int, after: int | None = None) -> tuple[Change, ...]:
        """Return how two published configurations differ; `after` None stands for what would be published now."""
        _, old = self._kept(before)
        new = self._now() if after is None else self._kept(after)[1]
        return tuple(compare(old, new))

    def pending(self, *, by_last_good: bool = False) -> Draft:
        """Return what publishing now would change. Raises what publishing would, such as `SettingsInvalid`.

        With `by_last_good`, a settings file that is damaged counts as it was before.
        """
        stored = self._stored()
        snapshot, planned = self._planner.draft(stored, by_last_good=by_last_good)
        changes = compare(self.published(), describe_snapshot(snapshot, stored))
        return Draft(changes=tuple(changes), warnings=planned.warnings)

    def published(self) -> Content:
        """Return the content that was published last, empty before the first time."""
        with self._engine.connect() as connection:
            newest = queries.newest_version(connection)
        content: Content = {} if newest is None else json.loads(newest.content)
        return content

    def check_rollback(self, number: int) -> Draft:
        """Return what `rollback` would change, without doing it. Raises as it would."""
        _, wanted = self._kept(number)
        objects = [
            StoredObject(
                kind=each["kind"],
                name=each["name"],
                content=each["content"],
                version=0,
                actor="",
                updated_ns=0,
            )
            for each in wanted["objects"]
        ]
        before, _ = self._planner.draft(self._stored())
        after, planned = self._planner.draft(objects)
        changes = compare(describe_snapshot(before, ()), describe_snapshot(after, ()))
        return Draft(changes=tuple(changes), warnings=planned.warnings)

    def rollback(self, number: int, *, actor: str, note: str = "") -> Rollback:
        """Put the objects of the control tables back to those of a published configuration, and publish.

        The settings file, the environment, the registry, keys and secrets are left alone; `remaining` names what
        differs because of them. Raises `UnknownVersion`, and whatever is wrong with the result.
        """
        _, wanted = self._kept(number)
        before = self._now()
        with self._engine.begin() as connection:
            queries.lock_objects(connection)
            self._restore(connection, wanted["objects"], actor)
            self._planner.draft(queries.list_objects(connection))
        self._planner.publish(actor=actor, note=note or f"roll back to {number}")
        after = self._now()
        newest = self.history(limit=1)
        return Rollback(
            version=newest[0] if newest else None,
            restored=tuple(compare(before, after)),
            remaining=tuple(compare(wanted, after)),
        )

    def remember(self, snapshot: Snapshot, *, actor: str, note: str) -> ConfigVersion | None:
        """Note what was published, unless it is what was published last; return the new version."""
        with self._engine.begin() as connection:
            content = describe_snapshot(snapshot, queries.list_objects(connection))
            digest = digest_json(content)
            newest = queries.newest_version(connection)
            if newest is not None and newest.digest == digest:
                return None
            number = queries.insert_version(
                connection,
                {
                    "digest": digest,
                    "snapshot_digest": snapshot.digest,
                    "actor": actor[:200],
                    "note": note[:2000],
                    "created_ns": self._clock(),
                    "content": json.dumps(content, ensure_ascii=False, sort_keys=True),
                },
            )
            queries.prune_versions(connection, keep=MAX_VERSIONS)
            row = queries.get_version(connection, number)
        return None if row is None else _version(row)

    def _not_stored(self, kind: ObjectKind, name: str, stored: Sequence[StoredObject]) -> UnknownObject:
        _, planned = self._planner.draft(stored)
        refuse_other_owner(kind, name, planned)
        return UnknownObject(kind, name, [each for of, each in planned.owners if of == kind])

    def _stored(self) -> tuple[StoredObject, ...]:
        with self._engine.connect() as connection:
            return queries.list_objects(connection)

    def _now(self) -> Content:
        stored = self._stored()
        return describe_snapshot(self._planner.draft(stored)[0], stored)

    def _check(self, connection: Connection, kind: ObjectKind, name: str) -> None:
        """Raise whatever is wrong with the configuration as this transaction would leave it."""
        _, planned = self._planner.draft(queries.list_objects(connection))
        refuse_other_owner(kind, name, planned)

    def _restore(self, connection: Connection, wanted: Sequence[Mapping[str, Any]], actor: str) -> None:
        present = {(each.kind, each.name): each for each in queries.list_objects(connection)}
        kept = {(each["kind"], each["name"]): each["content"] for each in wanted}
        for kind, name in present.keys() - kept.keys():
            queries.delete_object(connection, kind, name)
        for (kind, name), content in kept.items():
            found = present.get((kind, name))
            if found is not None and found.content == content:
                continue
            item = StoredObject(
                kind=kind,
                name=name,
                content=content,
                version=1 if found is None else found.version + 1,
                actor=actor,
                updated_ns=self._clock(),
            )
            queries.put_object(connection, item, is_new=found is None)


def _check_kind(kind: str) -> None:
    if kind not in SECTIONS:
        raise InvalidInput(f"There is no kind of object called {kind!r}.", hint=f"Known: {', '.join(KINDS)}.")


def _check_version(
    kind: ObjectKind, name: str, found: StoredObject | None, expected_version: int | None
) -> None:
    if expected_version is None:
        return
    present = 0 if found is None else found.version
    if present != expected_version:
        who = "it is not there" if found is None else f"{found.actor} made it version {present}"
        raise ObjectChanged(
            f"The {kind} {name!r} is no longer at version {expected_version}: {who}.",
            hint="Read it again, then change it.",
            kind=kind,
            name=name,
            version=present,
        )


def _version(row: Any) -> ConfigVersion:
    return ConfigVersion(
        number=row.number,
        digest=row.digest,
        snapshot_digest=row.snapshot_digest,
        actor=row.actor,
        note=row.note,
        created_ns=row.created_ns,
    )
