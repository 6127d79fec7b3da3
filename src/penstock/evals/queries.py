"""All SQL of evaluations, for SQLite and PostgreSQL alike. Transactions are the caller's."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Table,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from penstock.store.control.tables.evaluations import (
    evaluation_case_sets,
    evaluation_cases,
    evaluation_outputs,
    evaluation_scores,
    evaluations,
)

_IN = 400
"""Ids in one statement: SQLite takes 32,766 variables, and plans get no better with more."""


def upsert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows; those whose key is there are replaced."""
    if not rows:
        return
    keys = [column.name for column in table.primary_key]
    is_postgres = connection.dialect.name == "postgresql"
    statement: Any = (postgresql if is_postgres else sqlite).insert(table)
    changed = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), list(rows))


def insert_evaluation(connection: Connection, values: Mapping[str, Any]) -> None:
    """Add an evaluation."""
    connection.execute(insert(evaluations).values(**values))


def update_evaluation(connection: Connection, evaluation_id: str, values: Mapping[str, Any]) -> None:
    """Set columns of an evaluation whose row this transaction holds."""
    connection.execute(update(evaluations).where(evaluations.c.id == evaluation_id).values(**values))


def get_content(connection: Connection, evaluation_id: str, *, for_update: bool = False) -> str | None:
    """Return the record's JSON, or None when it is unknown."""
    query = select(evaluations.c.content).where(evaluations.c.id == evaluation_id)
    return connection.execute(query.with_for_update() if for_update else query).scalar_one_or_none()


def find_by_name(connection: Connection, name: str) -> str | None:
    """Return the JSON of the newest evaluation of this name, or None."""
    query = select(evaluations.c.content).where(evaluations.c.name == name)
    newest = query.order_by(evaluations.c.created_ns.desc(), evaluations.c.id.desc()).limit(1)
    return connection.execute(newest).scalar()


def list_contents(
    connection: Connection, conditions: Mapping[str, Any], *, before: tuple[int, str] | None, limit: int
) -> list[str]:
    """Return records as JSON, newest first; `conditions` are those of `_condition`."""
    table = evaluations
    query = select(table.c.content).where(*(_condition(name, value) for name, value in conditions.items()))
    if before is not None:
        created_ns, last_id = before
        older = and_(table.c.created_ns == created_ns, table.c.id < last_id)
        query = query.where(or_(table.c.created_ns < created_ns, older))
    query = query.order_by(table.c.created_ns.desc(), table.c.id.desc()).limit(limit)
    return list(connection.execute(query).scalars())


def _condition(name: str, value: Any) -> ColumnElement[bool]:
    table = evaluations
    if name == "states":
        return table.c.state.in_(value)
    if name == "tag":  # a JSON list of texts, so each stands in quotes
        return table.c.tags.contains(value, autoescape=True)
    if name == "dataset" and "@" not in value:
        return or_(table.c.dataset == value, table.c.dataset.startswith(f"{value}@", autoescape=True))
    wanted: ColumnElement[bool] = table.c[name] == value
    return wanted


def delete_evaluation(connection: Connection, evaluation_id: str) -> None:
    """Forget an evaluation, its outputs and scores, and cases that no other one has."""
    query = select(evaluations.c.set_id).where(evaluations.c.id == evaluation_id)
    set_id = connection.execute(query).scalar()
    for table in (evaluation_scores, evaluation_outputs):
        connection.execute(delete(table).where(table.c.evaluation_id == evaluation_id))
    connection.execute(delete(evaluations).where(evaluations.c.id == evaluation_id))
    if set_id is not None:
        delete_set_unless_used(connection, set_id)


def delete_set_unless_used(connection: Connection, set_id: str) -> None:
    """Forget cases that no evaluation has."""
    hold_set(connection, set_id)  # whoever is just taking it is waited for
    used = select(evaluations.c.id).where(evaluations.c.set_id == set_id).limit(1)
    if connection.execute(used).first() is None:
        connection.execute(delete(evaluation_cases).where(evaluation_cases.c.set_id == set_id))
        connection.execute(delete(evaluation_case_sets).where(evaluation_case_sets.c.id == set_id))


def insert_set(connection: Connection, values: Mapping[str, Any]) -> None:
    """Add an empty set of cases."""
    connection.execute(insert(evaluation_case_sets).values(**values))


def finish_set(connection: Connection, set_id: str, values: Mapping[str, Any]) -> None:
    """Say that all cases of a set are there."""
    table = evaluation_case_sets
    connection.execute(update(table).where(table.c.id == set_id).values(**values))


def get_set(connection: Connection, set_id: str) -> Row[Any] | None:
    """Return a set's row."""
    query = select(evaluation_case_sets).where(evaluation_case_sets.c.id == set_id)
    return connection.execute(query).one_or_none()


def find_set(connection: Connection, digest: str) -> str | None:
    """Return the set that holds exactly these cases, or None; it stays until the transaction ends."""
    table = evaluation_case_sets
    query = select(table.c.id).where(table.c.digest == digest).order_by(table.c.created_ns).limit(1)
    return connection.execute(query.with_for_update()).scalar()


def hold_set(connection: Connection, set_id: str) -> bool:
    """Return whether the set is there; it stays until the transaction ends."""
    query = select(evaluation_case_sets.c.id).where(evaluation_case_sets.c.id == set_id)
    return connection.execute(query.with_for_update()).first() is not None


def insert_cases(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add cases to a set."""
    if rows:
        connection.execute(insert(evaluation_cases), list(rows))


def list_cases(connection: Connection, set_id: str, *, after: int, limit: int) -> list[Row[Any]]:
    """Return cases with a position over `after`, in order."""
    table = evaluation_cases
    query = select(table).where(table.c.set_id == set_id, table.c.position > after)
    return list(connection.execute(query.order_by(table.c.position).limit(limit)))


def list_cases_at(connection: Connection, set_id: str, positions: Sequence[int]) -> list[Row[Any]]:
    """Return the cases at these positions, in order of position."""
    table = evaluation_cases
    found: list[Row[Any]] = []
    for part in _parts(positions):
        query = select(table).where(table.c.set_id == set_id, table.c.position.in_(part))
        found += connection.execute(query.order_by(table.c.position))
    return sorted(found, key=lambda row: int(row.position))


def find_case(connection: Connection, set_id: str, case_id: str) -> Row[Any] | None:
    """Return one case."""
    table = evaluation_cases
    query = select(table).where(table.c.set_id == set_id, table.c.case_id == case_id)
    return connection.execute(query).one_or_none()


def list_keys(connection: Connection, set_id: str) -> list[Row[Any]]:
    """Return position, id, cluster and slices of every case, without content."""
    table = evaluation_cases
    columns: list[Any] = [table.c.position, table.c.case_id, table.c.cluster, table.c.slices]
    query = select(*columns).where(table.c.set_id == set_id)
    return list(connection.execute(query.order_by(table.c.position)).all())


def find_text(connection: Connection, set_id: str, evaluation_ids: Sequence[str], text: str) -> set[int]:
    """Return the positions of cases whose content, or whose output in one of the evaluations, holds the text."""
    cases, outputs = evaluation_cases, evaluation_outputs
    wanted = text.lower()
    in_case = select(cases.c.position).where(
        cases.c.set_id == set_id, func.lower(cases.c.content).contains(wanted, autoescape=True)
    )
    in_output = select(outputs.c.position).where(
        outputs.c.evaluation_id.in_(evaluation_ids),
        func.lower(outputs.c.content).contains(wanted, autoescape=True),
    )
    return {*connection.execute(in_case).scalars(), *connection.execute(in_output).scalars()}


def list_outputs(
    connection: Connection, evaluation_id: str, case_ids: Sequence[str] | None = None
) -> Iterator[Row[Any]]:
    """Yield output rows with their content, of these cases or of all, by position and repeat."""
    table = evaluation_outputs
    query = select(table).where(table.c.evaluation_id == evaluation_id)
    query = query.order_by(table.c.position, table.c.repeat)
    if case_ids is None:
        yield from connection.execution_options(yield_per=500).execute(query)
        return
    for part in _parts(case_ids):
        yield from connection.execute(query.where(table.c.case_id.in_(part)))


def list_output_facts(connection: Connection, evaluation_id: str) -> Sequence[Row[Any]]:
    """Return the outputs' rows without content."""
    table = evaluation_outputs
    columns = [column for column in table.c if column.name != "content"]
    query = select(*columns).where(table.c.evaluation_id == evaluation_id)
    return connection.execute(query.order_by(table.c.position, table.c.repeat)).all()


def find_kept(connection: Connection, keys: Sequence[str]) -> list[Row[Any]]:
    """Return final outputs that were made for these requests, not taken from others, nor sent in by a run elsewhere."""
    table = evaluation_outputs
    own = select(evaluations.c.id).where(evaluations.c.is_local.is_(False))
    found: list[Row[Any]] = []
    for part in _parts(keys):
        query = select(table).where(
            table.c.request_key.in_(part),
            table.c.is_final.is_(True),
            table.c.is_cached.is_(False),
            table.c.evaluation_id.in_(own),
        )
        found += connection.execute(query.order_by(table.c.finished_ns))
    return found


def list_scores(
    connection: Connection, evaluation_id: str, case_ids: Sequence[str] | None = None
) -> Iterator[Row[Any]]:
    """Yield score rows with their content, of these cases or of all."""
    table = evaluation_scores
    query = select(table).where(table.c.evaluation_id == evaluation_id)
    if case_ids is None:
        yield from connection.execution_options(yield_per=500).execute(query)
        return
    for part in _parts(case_ids):
        yield from connection.execute(query.where(table.c.case_id.in_(part)))


def list_values(connection: Connection, evaluation_id: str, name: str) -> Sequence[Row[Any]]:
    """Return case, status, value and statistics of one score in order of cases and repeats, without their content."""
    table = evaluation_scores
    columns: list[Any] = [table.c.case_id, table.c.status, table.c.value, table.c.statistics]
    query = select(*columns).where(table.c.evaluation_id == evaluation_id, table.c.name == name)
    return connection.execute(query.order_by(table.c.case_id, table.c.repeat)).all()


def list_judged(connection: Connection, evaluation_id: str) -> Sequence[Row[Any]]:
    """Return case, repeat, name, stamp, status and value of the scores that models gave, without their content."""
    table = evaluation_scores
    columns: list[Any] = [
        table.c.case_id,
        table.c.repeat,
        table.c.name,
        table.c.stamp,
        table.c.status,
        table.c.value,
    ]
    query = select(*columns).where(table.c.evaluation_id == evaluation_id, table.c.is_free.is_(False))
    return connection.execute(query.order_by(table.c.case_id, table.c.repeat, table.c.name)).all()


def list_contents_of_cases(connection: Connection, set_id: str) -> Iterator[str]:
    """Yield the content of every case, in order."""
    table = evaluation_cases
    query = select(table.c.content).where(table.c.set_id == set_id).order_by(table.c.position)
    for part in connection.execution_options(yield_per=500).execute(query).scalars().partitions():
        yield from part


def list_failed_scores(connection: Connection, evaluation_id: str) -> Iterator[Row[Any]]:
    """Yield the scores that failed, other than because the target did."""
    table = evaluation_scores
    query = select(table).where(
        table.c.evaluation_id == evaluation_id, table.c.status == "error", table.c.fault != "target"
    )
    yield from connection.execute(query.order_by(table.c.name, table.c.case_id))


def list_failed_outputs(connection: Connection, evaluation_id: str) -> Iterator[Row[Any]]:
    """Yield the outputs that failed."""
    table = evaluation_outputs
    query = select(table).where(table.c.evaluation_id == evaluation_id, table.c.status == "error")
    yield from connection.execute(query.order_by(table.c.position, table.c.repeat))


def count_names(connection: Connection, evaluation_id: str) -> list[tuple[str, str]]:
    """Return the name of every kind of score that was made, with the stamp of one of them."""
    table = evaluation_scores  # names are in an index, stamps are not: going by both takes ten times as long
    own = table.c.evaluation_id == evaluation_id
    found = []
    for name in sorted(connection.execute(select(table.c.name).where(own).distinct()).scalars()):
        stamp = connection.execute(select(table.c.stamp).where(own, table.c.name == name).limit(1)).scalar()
        found.append((name, str(stamp)))
    return found


def list_score_costs(connection: Connection, evaluation_id: str) -> Sequence[Row[Any]]:
    """Return the costs of the scores that cost something or might have."""
    table = evaluation_scores
    query = select(table.c.cost_usd).where(table.c.evaluation_id == evaluation_id, table.c.is_free.is_(False))
    return connection.execute(query).all()


def delete_scores(connection: Connection, evaluation_id: str, names: Sequence[str]) -> None:
    """Forget the scores of these names."""
    table = evaluation_scores
    connection.execute(delete(table).where(table.c.evaluation_id == evaluation_id, table.c.name.in_(names)))


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), _IN):
        yield values[start : start + _IN]
