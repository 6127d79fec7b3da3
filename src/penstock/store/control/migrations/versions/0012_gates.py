"""Verdicts of gates."""

import sqlalchemy as sa
from alembic import op

from penstock.store.control.metadata import Nanoseconds

revision: str = "0012"
down_revision: str | None = "0011"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "gate_results",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("candidate", sa.String(300), nullable=False),
        sa.Column("asset", sa.String(300), nullable=False),
        sa.Column("gate_digest", sa.String(71), nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("made_ns", Nanoseconds, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_gate_results"),
    )
    op.create_index("ix_gate_results_made_ns", "gate_results", ["made_ns"])
    op.create_index("ix_gate_results_asset", "gate_results", ["asset"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("gate_results")
