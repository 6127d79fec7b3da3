"""Tables of the `knowledge` room."""

import sqlalchemy as sa
from alembic import op

from penstock.store.control.metadata import Json, Nanoseconds

revision: str = "0004"
down_revision: str | None = "0003"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "knowledge_bases",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("recipe", Json, nullable=False),
        sa.Column("source", sa.Text),
        sa.Column("live_generation", sa.Text),
        sa.Column("created_ns", Nanoseconds, nullable=False),
        sa.Column("updated_ns", Nanoseconds, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_knowledge_bases"),
    )
    op.create_table(
        "knowledge_documents",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("base", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("parse_digest", sa.Text, nullable=False),
        sa.Column("title", sa.Text),
        sa.Column("media_type", sa.Text),
        sa.Column("size_bytes", sa.Integer, nullable=False),
        sa.Column("n_passages", sa.Integer, nullable=False),
        sa.Column("n_dropped_chars", sa.Integer, nullable=False),
        sa.Column("problems", Json, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("created_ns", Nanoseconds, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_knowledge_documents"),
        sa.ForeignKeyConstraint(
            ["base"], ["knowledge_bases.name"], name="fk_knowledge_documents_base_knowledge_bases"
        ),
        sa.UniqueConstraint(
            "base",
            "path",
            "digest",
            "parse_digest",
            name="uq_knowledge_documents_base_path_digest_parse_digest",
        ),
    )
    op.create_table(
        "knowledge_passages",
        sa.Column("document_id", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("section", sa.Text),
        sa.Column("anchor", sa.Text),
        sa.Column("start_char", sa.Integer, nullable=False),
        sa.Column("end_char", sa.Integer, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("embed_digest", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("document_id", "position", name="pk_knowledge_passages"),
        sa.ForeignKeyConstraint(
            ["document_id"],
            ["knowledge_documents.id"],
            name="fk_knowledge_passages_document_id_knowledge_documents",
        ),
    )
    op.create_index("ix_knowledge_passages_id", "knowledge_passages", ["id"])
    op.create_table(
        "knowledge_embeddings",
        sa.Column("embedder", sa.Text, nullable=False),
        sa.Column("embed_digest", sa.Text, nullable=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("embedder", "embed_digest", name="pk_knowledge_embeddings"),
    )
    op.create_table(
        "knowledge_generations",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("base", sa.Text, nullable=False),
        sa.Column("recipe", Json, nullable=False),
        sa.Column("embedder", sa.Text, nullable=False),
        sa.Column("n_documents", sa.Integer, nullable=False),
        sa.Column("n_passages", sa.Integer, nullable=False),
        sa.Column("created_ns", Nanoseconds, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_knowledge_generations"),
        sa.ForeignKeyConstraint(
            ["base"], ["knowledge_bases.name"], name="fk_knowledge_generations_base_knowledge_bases"
        ),
    )
    op.create_table(
        "knowledge_members",
        sa.Column("generation", sa.Text, nullable=False),
        sa.Column("document_id", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("generation", "document_id", name="pk_knowledge_members"),
        sa.ForeignKeyConstraint(
            ["generation"],
            ["knowledge_generations.id"],
            name="fk_knowledge_members_generation_knowledge_generations",
        ),
        sa.ForeignKeyConstraint(
            ["document_id"],
            ["knowledge_documents.id"],
            name="fk_knowledge_members_document_id_knowledge_documents",
        ),
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in ("members", "generations", "embeddings", "passages", "documents", "bases"):
        op.drop_table(f"knowledge_{table}")
