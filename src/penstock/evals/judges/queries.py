"""All SQL of labels and judges, for SQLite and PostgreSQL alike. Transactions are the caller's."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, insert, select, update

from penstock.store.control.tables.judges import judge_calibrations, judge_verdicts, label_items, labels

_IN_ONE_QUERY = 500
"""Ids; SQLite takes no more than so many parameters at once in old builds."""


def add_item(connection: Connection, values: dict[str, Any]) -> None:
    """Keep an item unless it is there."""
    known = select(label_items.c.id).where(label_items.c.id == values["id"])
    if connection.execute(known).first() is None:
        connection.execute(insert(label_items).values(**values))


def get_items(connection: Connection, ids: Collection[str]) -> dict[str, Row[Any]]:
    """Return items by id; unknown ones are missing."""
    found: dict[str, Row[Any]] = {}
    wanted = list(ids)
    for start in range(0, len(wanted), _IN_ONE_QUERY):
        part = wanted[start : start + _IN_ONE_QUERY]
        for row in connection.execute(select(label_items).where(label_items.c.id.in_(part))):
            found[row.id] = row
    return found


def put_label(connection: Connection, values: dict[str, Any]) -> None:
    """Keep a label in place of the rater's earlier one."""
    key = and_(
        labels.c.item_id == values["item_id"],
        labels.c.name == values["name"],
        labels.c.rater == values["rater"],
    )
    if connection.execute(update(labels).where(key).values(**values)).rowcount == 0:
        connection.execute(insert(labels).values(**values))


def remove_label(connection: Connection, item_id: str, name: str, rater: str | None) -> int:
    """Forget labels of an item; return how many there were."""
    gone = delete(labels).where(labels.c.item_id == item_id, labels.c.name == name)
    if rater is not None:
        gone = gone.where(labels.c.rater == rater)
    return connection.execute(gone).rowcount


def list_labels(connection: Connection, name: str) -> Sequence[Row[Any]]:
    """Return all labels of a name, oldest first."""
    query = select(labels).where(labels.c.name == name).order_by(labels.c.made_ns, labels.c.item_id)
    return connection.execute(query).all()


def page_items(
    connection: Connection, name: str, *, before: tuple[int, str] | None, limit: int
) -> Sequence[Row[Any, Any]]:
    """Return ids of labelled items with the time of their newest label, the latest first."""
    newest = func.max(labels.c.made_ns).label("newest_ns")
    query = select(labels.c.item_id, newest).where(labels.c.name == name).group_by(labels.c.item_id)
    if before is not None:
        stamp, item_id = before
        query = query.having((newest < stamp) | ((newest == stamp) & (labels.c.item_id < item_id)))
    return connection.execute(query.order_by(newest.desc(), labels.c.item_id.desc()).limit(limit)).all()


def labels_of(connection: Connection, name: str, ids: Collection[str]) -> Sequence[Row[Any]]:
    """Return the labels of some items."""
    query = select(labels).where(labels.c.name == name, labels.c.item_id.in_(list(ids)))
    return connection.execute(query.order_by(labels.c.made_ns)).all()


def list_names(connection: Connection) -> Sequence[str]:
    """Return the names that labels have."""
    return list(connection.execute(select(labels.c.name).distinct().order_by(labels.c.name)).scalars())


def labelled_of_evaluation(
    connection: Connection, name: str, evaluation_id: str, *, drawn: str | None = None
) -> set[tuple[str, int]]:
    """Return case id and repeat of the outputs of an evaluation that have a label of this name (drawn so)."""
    query = (
        select(label_items.c.case_id, label_items.c.repeat)
        .join(labels, labels.c.item_id == label_items.c.id)
        .where(label_items.c.evaluation_id == evaluation_id, labels.c.name == name)
    )
    if drawn is not None:
        query = query.where(labels.c.drawn == drawn)
    return {(row.case_id, row.repeat) for row in connection.execute(query)}


def get_verdicts(connection: Connection, stamp: str, ids: Collection[str]) -> dict[str, Row[Any]]:
    """Return a judge's kept verdicts by item."""
    found: dict[str, Row[Any]] = {}
    wanted = list(ids)
    for start in range(0, len(wanted), _IN_ONE_QUERY):
        part = wanted[start : start + _IN_ONE_QUERY]
        query = select(judge_verdicts).where(
            judge_verdicts.c.stamp == stamp, judge_verdicts.c.item_id.in_(part)
        )
        found.update({row.item_id: row for row in connection.execute(query)})
    return found


def put_verdict(connection: Connection, values: dict[str, Any]) -> None:
    """Keep a verdict in place of an earlier one."""
    key = and_(judge_verdicts.c.stamp == values["stamp"], judge_verdicts.c.item_id == values["item_id"])
    if connection.execute(update(judge_verdicts).where(key).values(**values)).rowcount == 0:
        connection.execute(insert(judge_verdicts).values(**values))


def add_calibration(connection: Connection, values: dict[str, Any]) -> None:
    """Keep a calibration."""
    connection.execute(insert(judge_calibrations).values(**values))


def get_calibration(connection: Connection, identity: str) -> Row[Any] | None:
    """Return one calibration, or None."""
    return connection.execute(
        select(judge_calibrations).where(judge_calibrations.c.id == identity)
    ).one_or_none()


def list_calibrations(
    connection: Connection, *, stamp: str | None = None, name: str | None = None, limit: int = 200
) -> Sequence[Row[Any]]:
    """Return calibrations, the latest first."""
    query = select(judge_calibrations).order_by(
        judge_calibrations.c.made_ns.desc(), judge_calibrations.c.id.desc()
    )
    if stamp is not None:
        query = query.where(judge_calibrations.c.stamp == stamp)
    if name is not None:
        query = query.where(judge_calibrations.c.name == name)
    return connection.execute(query.limit(limit)).all()


def forget_traces(connection: Connection, trace_ids: Collection[str]) -> int:
    """Forget labelled outputs of these traces with their labels and verdicts; return how many there were."""
    wanted, n = list(trace_ids), 0
    for start in range(0, len(wanted), _IN_ONE_QUERY):
        part = wanted[start : start + _IN_ONE_QUERY]
        ids = list(
            connection.execute(select(label_items.c.id).where(label_items.c.trace_id.in_(part))).scalars()
        )
        for table, column in (
            (labels, labels.c.item_id),
            (judge_verdicts, judge_verdicts.c.item_id),
            (label_items, label_items.c.id),
        ):
            connection.execute(delete(table).where(column.in_(ids)))
        n += len(ids)
    return n


def forget_rater(connection: Connection, rater: str) -> int:
    """Forget what one person said; return how many labels there were."""
    return connection.execute(delete(labels).where(labels.c.rater == rater)).rowcount
