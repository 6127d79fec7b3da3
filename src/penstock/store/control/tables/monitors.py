"""Tables of the `monitors` room: rules, channels, states, what changed them, and the messages to be delivered."""

from sqlalchemy import Column, Index, Integer, String, Table, Text

from penstock.store.control.metadata import Json, Nanoseconds, metadata

alert_rules = Table(
    "alert_rules",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("content", Json, nullable=False),
    Column("version", Integer, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("updated_ns", Nanoseconds, nullable=False),
)

alert_channels = Table(
    "alert_channels",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("content", Json, nullable=False),
    Column("version", Integer, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("updated_ns", Nanoseconds, nullable=False),
)

alert_states = Table(
    "alert_states",
    metadata,
    Column("rule", String(80), primary_key=True),
    # Counted up by each write and checked by the next: of two processes that evaluate one rule, one is told no.
    Column("revision", Integer, nullable=False),
    Column("due_ns", Nanoseconds, nullable=False),
    Column("content", Json, nullable=False),
    Index("ix_alert_states_due_ns", "due_ns"),
)

alert_transitions = Table(
    "alert_transitions",
    metadata,
    Column("id", String(64), primary_key=True),
    # No foreign key: the history of a rule outlives it.
    Column("rule", String(80), nullable=False),
    Column("at_ns", Nanoseconds, nullable=False),
    Column("content", Json, nullable=False),
    Index("ix_alert_transitions_rule_id", "rule", "id"),
)

alert_outbox = Table(
    "alert_outbox",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("transition", String(64), nullable=False),
    Column("rule", String(80), nullable=False),
    Column("channel", String(80), nullable=False),
    Column("state", String(16), nullable=False),
    Column("payload", Json, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_ns", Nanoseconds, nullable=False),
    Column("created_ns", Nanoseconds, nullable=False),
    Column("finished_ns", Nanoseconds),
    Column("error", Text),
    Index("ix_alert_outbox_state_due_ns", "state", "due_ns"),
)
