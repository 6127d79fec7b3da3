"""Experiments on the control tables: records in and out as structs."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, and_, delete, insert, or_, select, update

from penstock.base.errors import InvalidInput
from penstock.base.json_text import clean_text
from penstock.evals.errors import UnknownExperiment
from penstock.evals.types import ExperimentPage, ExperimentRecord
from penstock.store.control.tables.evaluations import experiments

_record = msgspec.json.Decoder(ExperimentRecord)


class ExperimentStore:
    """All rows of experiments. Every method may be called from any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, record: ExperimentRecord) -> None:
        """Store a new experiment."""
        with self._engine.begin() as connection:
            values = {"id": record.id, "created_ns": record.created_ns, **_columns(record)}
            connection.execute(insert(experiments).values(**values))

    def get(self, wanted: str) -> ExperimentRecord:
        """Return one experiment by its id, or the newest of that name; raises `UnknownExperiment`."""
        with self._engine.connect() as connection:
            content = _find(connection, wanted)
        if content is None:
            raise UnknownExperiment(
                f"There is no experiment {wanted!r}.",
                hint="`penstock experiment list` shows those that there are.",
            )
        return _record.decode(content)

    def change(
        self, experiment_id: str, change: Callable[[ExperimentRecord], ExperimentRecord]
    ) -> ExperimentRecord:
        """Return the record after `change`, which sees it as it is now."""
        with self._engine.begin() as connection:
            query = select(experiments.c.content).where(experiments.c.id == experiment_id).with_for_update()
            content = connection.execute(query).scalar_one_or_none()
            if content is None:
                raise UnknownExperiment(f"There is no experiment {experiment_id!r}.")
            record = change(_record.decode(content))
            statement = update(experiments).where(experiments.c.id == experiment_id)
            connection.execute(statement.values(**_columns(record)))
        return record

    def update(self, experiment_id: str, **fields: Any) -> ExperimentRecord:
        """Return the record after setting fields of it."""
        return self.change(experiment_id, lambda record: msgspec.structs.replace(record, **fields))

    def page(self, *, tag: str | None, cursor: str | None, limit: int) -> ExperimentPage:
        """Return one page, newest first."""
        if not 1 <= limit <= 500:
            raise InvalidInput("A page holds 1 to 500 experiments.", where="limit")
        table = experiments
        query = select(table.c.content).order_by(table.c.created_ns.desc(), table.c.id.desc())
        if tag is not None:
            query = query.where(table.c.tags.contains(json.dumps(tag, ensure_ascii=False), autoescape=True))
        if cursor is not None:
            created, _, last_id = cursor.partition(".")
            if not created.isdigit() or not last_id:
                raise InvalidInput("This is no cursor of experiments.", where="cursor")
            same = and_(table.c.created_ns == int(created), table.c.id < last_id)
            query = query.where(or_(table.c.created_ns < int(created), same))
        with self._engine.connect() as connection:
            contents = list(connection.execute(query.limit(limit + 1)).scalars())
        rows = [_record.decode(content) for content in contents[:limit]]
        is_more = len(contents) > limit
        return ExperimentPage(
            rows=rows, next_cursor=f"{rows[-1].created_ns}.{rows[-1].id}" if is_more else None
        )

    def delete(self, experiment_id: str) -> None:
        """Forget an experiment."""
        with self._engine.begin() as connection:
            connection.execute(delete(experiments).where(experiments.c.id == experiment_id))


def _find(connection: Connection, wanted: str) -> str | None:
    query = select(experiments.c.content).where(
        or_(experiments.c.id == wanted.removeprefix("experiment:"), experiments.c.name == wanted)
    )
    return connection.execute(query.order_by(experiments.c.created_ns.desc()).limit(1)).scalar()


def _columns(record: ExperimentRecord) -> dict[str, Any]:
    return {
        "name": record.name[:200],
        "state": record.state,
        "actor": record.actor[:200],
        "job_id": record.job_id,
        "tags": json.dumps(record.tags, ensure_ascii=False),
        "finished_ns": record.finished_ns,
        "content": clean_text(msgspec.json.encode(record).decode()),
    }
