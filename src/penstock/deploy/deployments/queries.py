"""All SQL of deployments, for SQLite and PostgreSQL alike. Transactions are the caller's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, insert, select, update

from penstock.deploy.deployments.types import DeploymentEvent, Standing
from penstock.spec.tuning import DeploymentSpec, DeploymentState
from penstock.store.control.tables.tuning import deployment_events, deployments


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A deployment as the tables hold it."""

    name: str
    state: DeploymentState
    spec: DeploymentSpec
    standing: Standing
    epoch: int
    """Counts changes of what was asked for."""
    created_ns: int
    updated_ns: int


def list_deployments(connection: Connection, *, after: str = "", limit: int = 1000) -> list[Stored]:
    """Return deployments by name, those that come after a name."""
    query = select(deployments).where(deployments.c.name > after).order_by(deployments.c.name).limit(limit)
    return [_stored(row) for row in connection.execute(query)]


def get_deployment(connection: Connection, name: str, *, for_update: bool = False) -> Stored | None:
    """Return one deployment, or None."""
    query = select(deployments).where(deployments.c.name == name)
    row = connection.execute(query.with_for_update() if for_update else query).one_or_none()
    return None if row is None else _stored(row)


def insert_deployment(connection: Connection, item: Stored) -> None:
    """Add a deployment."""
    connection.execute(insert(deployments).values(**_values(item)))


def update_deployment(connection: Connection, item: Stored) -> None:
    """Write everything of a deployment whose row this transaction holds."""
    connection.execute(update(deployments).where(deployments.c.name == item.name).values(**_values(item)))


def delete_deployment(connection: Connection, name: str) -> None:
    """Forget a deployment. Its events stay."""
    connection.execute(delete(deployments).where(deployments.c.name == name))


def insert_event(
    connection: Connection, deployment: str, kind: str, text: str, *, detail: Any, actor: str, at_ns: int
) -> None:
    """Add an event."""
    content = {"text": text, "detail": detail}
    connection.execute(
        insert(deployment_events).values(
            deployment=deployment, kind=kind, content=content, actor=actor, at_ns=at_ns
        )
    )


def list_events(
    connection: Connection, deployment: str, *, before: int | None, after: int | None, limit: int
) -> Sequence[DeploymentEvent]:
    """Return events of a deployment, newest first; with `after`, the ones that follow that id, oldest first."""
    table = deployment_events
    query = select(table).where(table.c.deployment == deployment)
    if after is not None:
        query = query.where(table.c.id > after).order_by(table.c.id)
    else:
        query = query.order_by(table.c.id.desc())
    if before is not None:
        query = query.where(table.c.id < before)
    return [
        DeploymentEvent(
            id=row.id,
            deployment=row.deployment,
            kind=row.kind,
            text=row.content["text"],
            detail=row.content["detail"],
            actor=row.actor,
            at_ns=row.at_ns,
        )
        for row in connection.execute(query.limit(limit))
    ]


def _values(item: Stored) -> dict[str, Any]:
    return {
        "name": item.name,
        "state": item.state,
        "spec": msgspec.to_builtins(item.spec),
        "content": msgspec.to_builtins(item.standing),
        "epoch": item.epoch,
        "created_ns": item.created_ns,
        "updated_ns": item.updated_ns,
    }


def _stored(row: Row[Any]) -> Stored:
    return Stored(
        name=row.name,
        state=row.state,
        spec=msgspec.convert(row.spec, DeploymentSpec),
        standing=msgspec.convert(row.content, Standing),
        epoch=row.epoch,
        created_ns=row.created_ns,
        updated_ns=row.updated_ns,
    )
