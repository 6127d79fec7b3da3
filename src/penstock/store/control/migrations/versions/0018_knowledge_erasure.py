"""Erasures of documents, and what no ingest brings back."""

import sqlalchemy as sa
from alembic import op

from penstock.store.control.metadata import Json, Nanoseconds

revision: str = "0018"
down_revision: str | None = "0017"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "knowledge_erasures",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("base", sa.Text),
        sa.Column("value", sa.Text),
        sa.Column("keep_out", sa.Integer, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("created_ns", Nanoseconds, nullable=False),
        sa.Column("updated_ns", Nanoseconds, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("progress", Json, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("receipt", sa.Integer),
        sa.PrimaryKeyConstraint("id", name="pk_knowledge_erasures"),
    )
    op.create_index("ix_knowledge_erasures_state", "knowledge_erasures", ["state"])
    op.create_table(
        "knowledge_kept_out",
        sa.Column("base", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("erasure", sa.Text, nullable=False),
        sa.Column("erased_ns", Nanoseconds, nullable=False),
        sa.PrimaryKeyConstraint("base", "kind", "digest", name="pk_knowledge_kept_out"),
    )


def downgrade() -> None:
    """Drop them again."""
    op.drop_table("knowledge_kept_out")
    op.drop_table("knowledge_erasures")
