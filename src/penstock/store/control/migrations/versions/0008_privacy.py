"""Erasures, their receipts, and what late spans of erased subjects are known by."""

import sqlalchemy as sa
from alembic import op

from penstock.store.control.metadata import Json, Nanoseconds

revision: str = "0008"
down_revision: str | None = "0007"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "privacy_erasures",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("subject_kind", sa.String(8), nullable=False),
        sa.Column("subject_id", sa.Text),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("created_ns", Nanoseconds, nullable=False),
        sa.Column("updated_ns", Nanoseconds, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("progress", Json, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("receipt", sa.Integer),
        sa.PrimaryKeyConstraint("id", name="pk_privacy_erasures"),
    )
    op.create_index("ix_privacy_erasures_state", "privacy_erasures", ["state"])
    op.create_table(
        "privacy_receipts",
        sa.Column("number", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("created_ns", Nanoseconds, nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_privacy_receipts"),
    )
    op.create_table(
        "privacy_tombstones",
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("digest", sa.String(32), nullable=False),
        sa.Column("erased_ns", Nanoseconds, nullable=False),
        sa.Column("until_ns", Nanoseconds),
        sa.PrimaryKeyConstraint("kind", "digest", name="pk_privacy_tombstones"),
    )
    op.create_index("ix_privacy_tombstones_until_ns", "privacy_tombstones", ["until_ns"])


def downgrade() -> None:
    """Drop the tables."""
    for table in ("privacy_tombstones", "privacy_receipts", "privacy_erasures"):
        op.drop_table(table)
