"""Comparisons of generations, and the apps whose answers are judged as they come."""

import sqlalchemy as sa
from alembic import op

from penstock.store.control.metadata import Json, Nanoseconds

revision: str = "0017"
down_revision: str | None = "0015"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "knowledge_comparisons",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("base", sa.Text, nullable=False),
        sa.Column("baseline", sa.Text, nullable=False),
        sa.Column("candidate", sa.Text, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("content", Json, nullable=False),
        sa.Column("made_ns", Nanoseconds, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_knowledge_comparisons"),
    )
    op.create_index("ix_knowledge_comparisons_base", "knowledge_comparisons", ["base", "made_ns"])
    op.create_table(
        "knowledge_watches",
        sa.Column("app", sa.Text, nullable=False),
        sa.Column("content", Json, nullable=False),
        sa.Column("updated_ns", Nanoseconds, nullable=False),
        sa.PrimaryKeyConstraint("app", name="pk_knowledge_watches"),
    )


def downgrade() -> None:
    """Drop them again."""
    op.drop_table("knowledge_watches")
    op.drop_table("knowledge_comparisons")
