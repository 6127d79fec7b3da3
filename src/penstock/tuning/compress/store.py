"""Keeps what was measured of model versions; never changed once written."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from penstock.base.errors import InvalidInput
from penstock.tuning.compress import queries
from penstock.tuning.compress.errors import UnknownMeasurement
from penstock.tuning.compress.types import ALL_PARTS, MeasuredPart, ModelMeasurement

MAX_LIMIT = 500
_N_LOOKED_AT = 20
"""Newest measurements of a part among which one with the same texts, cases or session is looked for."""


@dataclass(frozen=True, kw_only=True)
class MeasurementPage:
    """Measurements, newest first."""

    rows: list[ModelMeasurement]
    total: int
    next_cursor: str | None = None


class MeasurementStore:
    """Measurements over the control tables. Every method may be called from any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, made: Sequence[ModelMeasurement]) -> None:
        """Keep measurements, all or none."""
        with self._engine.begin() as connection:
            queries.add_measurements(connection, made)

    def get(self, measurement_id: str) -> ModelMeasurement:
        """Return one; raise `UnknownMeasurement`."""
        with self._engine.connect() as connection:
            found = queries.find_measurement(connection, measurement_id)
        if found is None:
            raise UnknownMeasurement(f"There is no measurement {measurement_id!r}.")
        return found

    def newest(self, digest: str) -> dict[MeasuredPart, ModelMeasurement]:
        """Return the newest measurement of each part of the version with this digest."""
        found: dict[MeasuredPart, ModelMeasurement] = {}
        with self._engine.connect() as connection:
            for part in ALL_PARTS:
                rows = queries.list_measurements(connection, digest=digest, part=part, cursor=None, limit=1)
                if rows:
                    found[part] = rows[0]
        return found

    def recent(self, digest: str, part: MeasuredPart) -> list[ModelMeasurement]:
        """Return the newest measurements of a part, for one that fits another version's."""
        with self._engine.connect() as connection:
            return queries.list_measurements(
                connection, digest=digest, part=part, cursor=None, limit=_N_LOOKED_AT
            )

    def list(
        self,
        *,
        digest: str | None = None,
        part: MeasuredPart | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> MeasurementPage:
        """Return a page of measurements, newest first."""
        if not 1 <= limit <= MAX_LIMIT:
            raise InvalidInput(f"`limit` is 1 to {MAX_LIMIT}.", param="limit")
        with self._engine.connect() as connection:
            rows = queries.list_measurements(
                connection, digest=digest, part=part, cursor=cursor, limit=limit + 1
            )
            total = queries.count_measurements(connection, digest=digest, part=part)
        more = len(rows) > limit
        return MeasurementPage(
            rows=rows[:limit], total=total, next_cursor=rows[limit - 1].id if more else None
        )


def summarise(found: dict[MeasuredPart, ModelMeasurement]) -> Sequence[str]:
    """Return lines of figures for a card, one a figure, intervals told."""
    lines = []
    for part in ALL_PARTS:
        if (made := found.get(part)) is None:
            continue
        for each in made.figures:
            if each.value is None:
                continue
            text = f"{each.name}: {each.value:.4g}"
            if each.low is not None and each.high is not None:
                text += f" [{each.low:.4g}, {each.high:.4g}]"
            if each.unit:
                text += f" {each.unit}"
            lines.append(f"{text} ({made.source})" if made.source else text)
    return lines
