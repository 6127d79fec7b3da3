"""All SQL of what was measured of model versions."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, and_, func, insert, or_, select

from penstock.base.errors import InvalidInput
from penstock.store.control.tables import tuning as tables
from penstock.tuning.compress.types import MeasuredPart, ModelMeasurement

measurements = tables.model_measurements


def add_measurements(connection: Connection, made: Sequence[ModelMeasurement]) -> None:
    """Keep measurements."""
    for each in made:
        connection.execute(
            insert(measurements).values(
                id=each.id,
                digest=each.digest,
                kind=each.part,
                content=msgspec.to_builtins(each),
                actor=each.actor,
                made_ns=each.made_ns,
            )
        )


def find_measurement(connection: Connection, measurement_id: str) -> ModelMeasurement | None:
    """Return a measurement, or None."""
    query = select(measurements.c.content).where(measurements.c.id == measurement_id)
    content = connection.execute(query).scalar_one_or_none()
    return None if content is None else msgspec.convert(content, ModelMeasurement)


def list_measurements(
    connection: Connection,
    *,
    digest: str | None,
    part: MeasuredPart | None,
    cursor: str | None,
    limit: int,
) -> list[ModelMeasurement]:
    """Return measurements, newest first; `cursor` is the id of the last one seen."""
    query = select(measurements.c.content)
    if digest is not None:
        query = query.where(measurements.c.digest == digest)
    if part is not None:
        query = query.where(measurements.c.kind == part)
    if cursor is not None:
        seen = connection.execute(
            select(measurements.c.made_ns).where(measurements.c.id == cursor)
        ).scalar_one_or_none()
        if seen is None:
            raise InvalidInput(f"There is no measurement {cursor!r} to go on from.", param="cursor")
        query = query.where(
            or_(
                measurements.c.made_ns < seen,
                and_(measurements.c.made_ns == seen, measurements.c.id < cursor),
            )
        )
    query = query.order_by(measurements.c.made_ns.desc(), measurements.c.id.desc()).limit(limit)
    return [msgspec.convert(content, ModelMeasurement) for content in connection.execute(query).scalars()]


def count_measurements(connection: Connection, *, digest: str | None, part: MeasuredPart | None) -> int:
    """Return how many there are."""
    query = select(func.count()).select_from(measurements)
    if digest is not None:
        query = query.where(measurements.c.digest == digest)
    if part is not None:
        query = query.where(measurements.c.kind == part)
    return int(connection.execute(query).scalar_one())
