"""Sources and what they hold, parses, recipes side by side, judgements and measurements of knowledge bases."""

import sqlalchemy as sa
from alembic import op

from penstock.store.control.metadata import Json, Nanoseconds

revision: str = "0015"
down_revision: str | None = "0014"


def upgrade() -> None:
    """Create the tables and add the columns."""
    op.add_column("knowledge_documents", sa.Column("source_id", sa.Text))
    op.add_column("knowledge_documents", sa.Column("properties", Json))
    op.add_column("knowledge_passages", sa.Column("parent_start", sa.Integer))
    op.add_column("knowledge_passages", sa.Column("parent_end", sa.Integer))
    op.add_column("knowledge_passages", sa.Column("n_tokens", sa.Integer))
    op.add_column("knowledge_passages", sa.Column("headings", Json))
    op.add_column("knowledge_passages", sa.Column("lead", sa.Text))
    op.add_column("knowledge_generations", sa.Column("index_id", sa.Text))
    op.add_column("knowledge_generations", sa.Column("checks", Json))
    op.create_index("ix_knowledge_documents_digest", "knowledge_documents", ["digest"])
    op.create_index("ix_knowledge_passages_embed_digest", "knowledge_passages", ["embed_digest"])
    op.create_index("ix_knowledge_members_document_id", "knowledge_members", ["document_id"])
    _create_sources()
    _create_recipes()
    _create_judgements()


def _create_sources() -> None:
    op.create_table(
        "knowledge_sources",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("base", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("settings", Json, nullable=False),
        sa.Column("schedule", Json),
        sa.Column("is_paused", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("report", Json),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("due_ns", Nanoseconds),
        sa.Column("started_ns", Nanoseconds),
        sa.Column("ended_ns", Nanoseconds),
        sa.Column("created_ns", Nanoseconds, nullable=False),
        sa.Column("updated_ns", Nanoseconds, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_knowledge_sources"),
        sa.UniqueConstraint("base", "name", name="uq_knowledge_sources_base_name"),
    )
    op.create_table(
        "knowledge_items",
        sa.Column("source_id", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("digest", sa.Text),
        sa.Column("token", sa.Text),
        sa.Column("size_bytes", sa.Integer),
        sa.Column("properties", Json, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("moved_from", sa.Text),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("first_seen_ns", Nanoseconds, nullable=False),
        sa.Column("last_seen_ns", Nanoseconds, nullable=False),
        sa.Column("changed_ns", Nanoseconds, nullable=False),
        sa.PrimaryKeyConstraint("source_id", "path", name="pk_knowledge_items"),
        sa.ForeignKeyConstraint(
            ["source_id"], ["knowledge_sources.id"], name="fk_knowledge_items_source_id_knowledge_sources"
        ),
    )
    op.create_index("ix_knowledge_items_state", "knowledge_items", ["source_id", "state"])


def _create_recipes() -> None:
    op.create_table(
        "knowledge_parses",
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("parse_digest", sa.Text, nullable=False),
        sa.Column("blob", sa.Text),
        sa.Column("title", sa.Text),
        sa.Column("media_type", sa.Text),
        sa.Column("language", sa.Text),
        sa.Column("n_chars", sa.Integer, nullable=False),
        sa.Column("n_pages", sa.Integer),
        sa.Column("properties", Json, nullable=False),
        sa.Column("problems", Json, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("created_ns", Nanoseconds, nullable=False),
        sa.PrimaryKeyConstraint("digest", "parse_digest", name="pk_knowledge_parses"),
    )
    op.create_table(
        "knowledge_tracks",
        sa.Column("base", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("recipe", Json, nullable=False),
        sa.Column("generation", sa.Text),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("created_ns", Nanoseconds, nullable=False),
        sa.Column("updated_ns", Nanoseconds, nullable=False),
        sa.PrimaryKeyConstraint("base", "name", name="pk_knowledge_tracks"),
        sa.ForeignKeyConstraint(
            ["base"], ["knowledge_bases.name"], name="fk_knowledge_tracks_base_knowledge_bases"
        ),
    )


def _create_judgements() -> None:
    op.create_table(
        "knowledge_feedback",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("base", sa.Text, nullable=False),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("document", sa.Text),
        sa.Column("passage_id", sa.Text),
        sa.Column("rank", sa.Integer),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("trace_id", sa.Text),
        sa.Column("generation", sa.Text),
        sa.Column("made_ns", Nanoseconds, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_knowledge_feedback"),
    )
    op.create_index("ix_knowledge_feedback_base", "knowledge_feedback", ["base", "made_ns"])
    op.create_table(
        "knowledge_measurements",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("base", sa.Text, nullable=False),
        sa.Column("generation", sa.Text, nullable=False),
        sa.Column("questions", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("content", Json, nullable=False),
        sa.Column("made_ns", Nanoseconds, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_knowledge_measurements"),
    )
    op.create_index("ix_knowledge_measurements_base", "knowledge_measurements", ["base", "made_ns"])


def downgrade() -> None:
    """Drop them again."""
    op.drop_table("knowledge_measurements")
    op.drop_table("knowledge_feedback")
    op.drop_table("knowledge_tracks")
    op.drop_table("knowledge_parses")
    op.drop_table("knowledge_items")
    op.drop_table("knowledge_sources")
    op.drop_index("ix_knowledge_members_document_id", "knowledge_members")
    op.drop_index("ix_knowledge_passages_embed_digest", "knowledge_passages")
    op.drop_index("ix_knowledge_documents_digest", "knowledge_documents")
    op.drop_column("knowledge_generations", "checks")
    op.drop_column("knowledge_generations", "index_id")
    op.drop_column("knowledge_passages", "lead")
    op.drop_column("knowledge_passages", "headings")
    op.drop_column("knowledge_passages", "n_tokens")
    op.drop_column("knowledge_passages", "parent_end")
    op.drop_column("knowledge_passages", "parent_start")
    op.drop_column("knowledge_documents", "properties")
    op.drop_column("knowledge_documents", "source_id")
