"""Dashboards; alert rules with channels, states, history and outbox."""

import sqlalchemy as sa
from alembic import op

from penstock.store.control.metadata import Json, Nanoseconds

revision: str = "0006"
down_revision: str | None = "0005"

_NAMED = ("dashboards", "alert_rules", "alert_channels")


def upgrade() -> None:
    """Create the tables."""
    for table in _NAMED:
        op.create_table(
            table,
            sa.Column("name", sa.String(80), nullable=False),
            sa.Column("content", Json, nullable=False),
            sa.Column("version", sa.Integer, nullable=False),
            sa.Column("actor", sa.String(200), nullable=False),
            sa.Column("updated_ns", Nanoseconds, nullable=False),
            sa.PrimaryKeyConstraint("name", name=f"pk_{table}"),
        )
    op.create_table(
        "alert_states",
        sa.Column("rule", sa.String(80), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("due_ns", Nanoseconds, nullable=False),
        sa.Column("content", Json, nullable=False),
        sa.PrimaryKeyConstraint("rule", name="pk_alert_states"),
    )
    op.create_index("ix_alert_states_due_ns", "alert_states", ["due_ns"])
    op.create_table(
        "alert_transitions",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("rule", sa.String(80), nullable=False),
        sa.Column("at_ns", Nanoseconds, nullable=False),
        sa.Column("content", Json, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_alert_transitions"),
    )
    op.create_index("ix_alert_transitions_rule_id", "alert_transitions", ["rule", "id"])
    op.create_table(
        "alert_outbox",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("transition", sa.String(64), nullable=False),
        sa.Column("rule", sa.String(80), nullable=False),
        sa.Column("channel", sa.String(80), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("payload", Json, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_ns", Nanoseconds, nullable=False),
        sa.Column("created_ns", Nanoseconds, nullable=False),
        sa.Column("finished_ns", Nanoseconds),
        sa.Column("error", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_alert_outbox"),
    )
    op.create_index("ix_alert_outbox_state_due_ns", "alert_outbox", ["state", "due_ns"])


def downgrade() -> None:
    """Drop them."""
    for table in ("alert_outbox", "alert_transitions", "alert_states", *_NAMED):
        op.drop_table(table)
