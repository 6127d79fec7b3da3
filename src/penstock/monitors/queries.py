"""All SQL of alerts, for SQLite and PostgreSQL alike. Transactions are the caller's."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Table, and_, delete, func, insert, select, update

from penstock.store.control.tables.monitors import (
    alert_channels,
    alert_outbox,
    alert_rules,
    alert_states,
    alert_transitions,
)

RULES, CHANNELS = alert_rules, alert_channels


def list_named(connection: Connection, table: Table) -> Sequence[Row[Any]]:
    """Return all rules, or all channels, by name."""
    return connection.execute(select(table).order_by(table.c.name)).all()


def get_named(connection: Connection, table: Table, name: str) -> Row[Any] | None:
    """Return one rule or channel, or None."""
    return connection.execute(select(table).where(table.c.name == name)).one_or_none()


def add_named(connection: Connection, table: Table, values: dict[str, Any]) -> None:
    """Add a rule or channel; raises `IntegrityError` when there is one of the name."""
    connection.execute(insert(table).values(**values))


def replace_named(
    connection: Connection, table: Table, name: str, version: int, values: dict[str, Any]
) -> bool:
    """Replace a rule or channel that is at `version`; return whether it was."""
    change = update(table).where(table.c.name == name, table.c.version == version)
    return connection.execute(change.values(**values)).rowcount == 1


def remove_named(connection: Connection, table: Table, name: str) -> None:
    """Forget a rule or channel."""
    connection.execute(delete(table).where(table.c.name == name))


def list_states(connection: Connection) -> Sequence[Row[Any]]:
    """Return the state of every rule."""
    return connection.execute(select(alert_states)).all()


def get_state(connection: Connection, rule: str) -> Row[Any] | None:
    """Return the state of a rule, or None before anything was written."""
    return connection.execute(select(alert_states).where(alert_states.c.rule == rule)).one_or_none()


def add_state(connection: Connection, rule: str, due_ns: int, content: dict[str, Any]) -> None:
    """Write the first state of a rule."""
    connection.execute(insert(alert_states).values(rule=rule, revision=1, due_ns=due_ns, content=content))


def replace_state(
    connection: Connection, rule: str, revision: int, due_ns: int, content: dict[str, Any]
) -> bool:
    """Write a state over the one of `revision`; return whether that was still there."""
    change = (
        update(alert_states)
        .where(alert_states.c.rule == rule, alert_states.c.revision == revision)
        .values(revision=revision + 1, due_ns=due_ns, content=content)
    )
    return connection.execute(change).rowcount == 1


def remove_state(connection: Connection, rule: str) -> None:
    """Forget the state of a rule."""
    connection.execute(delete(alert_states).where(alert_states.c.rule == rule))


def add_transition(
    connection: Connection, identity: str, rule: str, at_ns: int, content: dict[str, Any]
) -> None:
    """Add a line of history."""
    connection.execute(insert(alert_transitions).values(id=identity, rule=rule, at_ns=at_ns, content=content))


def get_transition(connection: Connection, identity: str) -> Row[Any] | None:
    """Return one line of history, or None."""
    return connection.execute(
        select(alert_transitions).where(alert_transitions.c.id == identity)
    ).one_or_none()


def list_transitions(
    connection: Connection, *, rule: str | None, before: str | None, limit: int
) -> Sequence[Row[Any]]:
    """Return history, newest first; ids sort by time."""
    query = select(alert_transitions).order_by(alert_transitions.c.id.desc()).limit(limit)
    if rule is not None:
        query = query.where(alert_transitions.c.rule == rule)
    if before is not None:
        query = query.where(alert_transitions.c.id < before)
    return connection.execute(query).all()


def last_transitions(connection: Connection) -> Sequence[Row[Any]]:
    """Return the last line of history of every rule."""
    last = select(func.max(alert_transitions.c.id)).group_by(alert_transitions.c.rule)
    return connection.execute(select(alert_transitions).where(alert_transitions.c.id.in_(last))).all()


def prune_transitions(connection: Connection, *, keep: int) -> None:
    """Forget all but the newest `keep` lines of each rule's history: a rule that flaps must not fill the disk."""
    counts = select(alert_transitions.c.rule, func.count()).group_by(alert_transitions.c.rule)
    for rule, count in connection.execute(counts.having(func.count() > keep)).all():
        ids = select(alert_transitions.c.id).where(alert_transitions.c.rule == rule)
        oldest = ids.order_by(alert_transitions.c.id).limit(count - keep)
        connection.execute(delete(alert_transitions).where(alert_transitions.c.id.in_(oldest)))


def add_message(connection: Connection, values: dict[str, Any]) -> None:
    """Put a message into the outbox."""
    connection.execute(insert(alert_outbox).values(**values))


def get_message(connection: Connection, identity: str) -> Row[Any] | None:
    """Return one message, or None."""
    return connection.execute(select(alert_outbox).where(alert_outbox.c.id == identity)).one_or_none()


def list_messages(connection: Connection, *, state: str | None, limit: int) -> Sequence[Row[Any]]:
    """Return messages, newest first."""
    query = select(alert_outbox).order_by(alert_outbox.c.id.desc()).limit(limit)
    return connection.execute(query if state is None else query.where(alert_outbox.c.state == state)).all()


def list_due(connection: Connection, now_ns: int, limit: int) -> Sequence[Row[Any]]:
    """Return messages to be sent now, oldest first; of one rule and channel only the oldest that is not sent yet."""
    older = alert_outbox.alias()
    has_older = (
        select(older.c.id)
        .where(
            and_(
                older.c.state == "pending",
                older.c.rule == alert_outbox.c.rule,
                older.c.channel == alert_outbox.c.channel,
                older.c.id < alert_outbox.c.id,
            )
        )
        .exists()
    )
    query = (
        select(alert_outbox)
        .where(alert_outbox.c.state == "pending", alert_outbox.c.due_ns <= now_ns, ~has_older)
        .order_by(alert_outbox.c.id)
        .limit(limit)
    )
    return connection.execute(query).all()


def claim_message(connection: Connection, identity: str, attempts: int, until_ns: int) -> bool:
    """Count an attempt and keep others off until `until_ns`; return whether nobody else did before."""
    change = (
        update(alert_outbox)
        .where(
            alert_outbox.c.id == identity,
            alert_outbox.c.attempts == attempts,
            alert_outbox.c.state == "pending",
        )
        .values(attempts=attempts + 1, due_ns=until_ns)
    )
    return connection.execute(change).rowcount == 1


def update_message(connection: Connection, identity: str, values: dict[str, Any]) -> None:
    """Write what became of a message."""
    connection.execute(update(alert_outbox).where(alert_outbox.c.id == identity).values(**values))


def wake_messages(connection: Connection, channel: str, now_ns: int) -> None:
    """Let what waits for a channel be tried from the beginning, now."""
    change = update(alert_outbox).where(alert_outbox.c.state == "pending", alert_outbox.c.channel == channel)
    connection.execute(change.values(due_ns=now_ns, attempts=0))


def drop_messages(
    connection: Connection, *, now_ns: int, rule: str | None = None, channel: str | None = None
) -> None:
    """Give up what is still to be sent of a rule, or through a channel, that is gone."""
    change = update(alert_outbox).where(alert_outbox.c.state == "pending")
    if rule is not None:
        change = change.where(alert_outbox.c.rule == rule)
    if channel is not None:
        change = change.where(alert_outbox.c.channel == channel)
    connection.execute(change.values(state="dropped", finished_ns=now_ns))


def forget_messages(connection: Connection, before_ns: int) -> int:
    """Delete messages that were finished before a moment; return how many."""
    return connection.execute(delete(alert_outbox).where(alert_outbox.c.finished_ns < before_ns)).rowcount


def count_messages(connection: Connection) -> dict[str, int]:
    """Return how many messages there are in each state."""
    query = select(alert_outbox.c.state, func.count()).group_by(alert_outbox.c.state)
    return {state: int(count) for state, count in connection.execute(query).all()}
