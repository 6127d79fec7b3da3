"""Objects as they are shown, whoever keeps them, and what the configuration needs from the composition root."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from penstock.deploy.history import describe_snapshot
from penstock.deploy.objects import ObjectKind, ObjectOwnedElsewhere, Owner, StoredObject
from penstock.spec.snapshot import Snapshot


@dataclass(frozen=True, kw_only=True)
class ObjectView:
    """An object as lists show it, whoever keeps it."""

    kind: ObjectKind
    name: str
    owner: Owner
    line: int | None
    """Where it stands in the settings file, if that keeps it."""
    row: Mapping[str, Any]
    """What gateways know of it, defaults left out."""
    content: Mapping[str, Any] | None
    """What was written, if the control tables keep it."""
    version: int | None
    """To be shown again with a change, so that nobody's work is lost; None if the control tables do not keep it."""
    actor: str | None
    updated_ns: int | None


class Planned(Protocol):
    """A plan: what gateways would be given, and who keeps what."""

    @property
    def owners(self) -> Mapping[tuple[ObjectKind, str], Owner]:
        """Kind and name to who keeps the row."""
        ...

    @property
    def lines(self) -> Mapping[tuple[ObjectKind, str], int | None]:
        """Where rows of the settings file stand in it."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should look at."""
        ...


class Planner(Protocol):
    """Brings settings file, objects, registry, keys and secrets together; the composition root has one."""

    def draft(
        self, objects: Sequence[StoredObject], *, by_last_good: bool = True
    ) -> tuple[Snapshot, Planned]:
        """Return the snapshot with these objects. Raises `PenstockError` with everything that is wrong.

        With `by_last_good`, a settings file that is damaged counts as it was before.
        """
        ...

    def publish(self, *, actor: str, note: str) -> Snapshot:
        """Give gateways what stands now."""
        ...


def refuse_other_owner(kind: ObjectKind, name: str, planned: Planned) -> None:
    """Raise `ObjectOwnedElsewhere` for what the control tables do not keep."""
    owner = planned.owners.get((kind, name))
    if owner in {None, "database"}:
        return
    if owner == "settings":
        line = planned.lines.get((kind, name))
        raise ObjectOwnedElsewhere(
            f"The {kind} {name!r} stands in penstock.toml{f' on line {line}' if line else ''}, so it is changed there.",
            hint="Or take it out of the file first.",
            kind=kind,
            name=name,
            line=line,
        )
    where = {"environment": "comes from the environment", "registry": "follows the registry"}
    raise ObjectOwnedElsewhere(
        f"The {kind} {name!r} {where.get(str(owner), 'is built in')}, so there is nothing to change or delete.",
        hint=f"Create one of that name to use instead: penstock {kind} create" if kind != "limit" else None,
        kind=kind,
        name=name,
    )


def rows_of(snapshot: Snapshot, kind: ObjectKind) -> Mapping[str, Any]:
    """Return the rows of one kind by name, as gateways know them, defaults left out but for how a key is sent."""
    content = describe_snapshot(snapshot, ())
    section: Mapping[str, Any] = content[f"{kind}s"]
    if kind != "provider":
        return section
    shown = {row.name: {"base_url": row.base_url, "auth": row.auth} for row in snapshot.providers}
    return {name: {**row, **shown[name]} for name, row in section.items()}


def view_object(
    kind: ObjectKind,
    name: str,
    row: Mapping[str, Any],
    planned: Planned,
    stored: Sequence[StoredObject],
) -> ObjectView:
    """Return one row with its owner, and with what is stored of it."""
    owner = planned.owners[kind, name]
    kept = next((each for each in stored if (each.kind, each.name) == (kind, name)), None)
    kept = kept if owner == "database" else None
    return ObjectView(
        kind=kind,
        name=name,
        owner=owner,
        line=planned.lines.get((kind, name)),
        row=row,
        content=None if kept is None else kept.content,
        version=None if kept is None else kept.version,
        actor=None if kept is None else kept.actor,
        updated_ns=None if kept is None else kept.updated_ns,
    )
