"""Tables of the `knowledge` room: document versions, their passages, embeddings and generations.

Rows are only ever added or, on erasure, deleted: a document version and its passages never change. What is
searched is a generation, which is a set of document versions plus a recipe.
"""

from sqlalchemy import Column, ForeignKey, Index, Integer, LargeBinary, Table, Text, UniqueConstraint

from penstock.store.control.metadata import Json, Nanoseconds, metadata

knowledge_bases = Table(
    "knowledge_bases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("recipe", Json, nullable=False),
    Column("source", Text),
    Column("live_generation", Text),
    Column("created_ns", Nanoseconds, nullable=False),
    Column("updated_ns", Nanoseconds, nullable=False),
)

knowledge_documents = Table(
    "knowledge_documents",
    metadata,
    Column("id", Text, primary_key=True),
    Column("base", Text, ForeignKey("knowledge_bases.name"), nullable=False),
    Column("path", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("parse_digest", Text, nullable=False),
    Column("title", Text),
    Column("media_type", Text),
    Column("size_bytes", Integer, nullable=False),
    Column("n_passages", Integer, nullable=False),
    Column("n_dropped_chars", Integer, nullable=False),
    Column("problems", Json, nullable=False),
    Column("error", Text),
    Column("created_ns", Nanoseconds, nullable=False),
    UniqueConstraint("base", "path", "digest", "parse_digest"),
)

knowledge_passages = Table(
    "knowledge_passages",
    metadata,
    Column("document_id", Text, ForeignKey("knowledge_documents.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("id", Text, nullable=False),
    Column("section", Text),
    Column("anchor", Text),
    Column("start_char", Integer, nullable=False),
    Column("end_char", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("embed_digest", Text, nullable=False),
    Index("ix_knowledge_passages_id", "id"),
)

knowledge_embeddings = Table(
    "knowledge_embeddings",
    metadata,
    Column("embedder", Text, primary_key=True),
    Column("embed_digest", Text, primary_key=True),
    Column("vector", LargeBinary, nullable=False),
)

knowledge_generations = Table(
    "knowledge_generations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("base", Text, ForeignKey("knowledge_bases.name"), nullable=False),
    Column("recipe", Json, nullable=False),
    Column("embedder", Text, nullable=False),
    Column("n_documents", Integer, nullable=False),
    Column("n_passages", Integer, nullable=False),
    Column("created_ns", Nanoseconds, nullable=False),
)

# Which document versions make up a generation.
knowledge_members = Table(
    "knowledge_members",
    metadata,
    Column("generation", Text, ForeignKey("knowledge_generations.id"), primary_key=True),
    Column("document_id", Text, ForeignKey("knowledge_documents.id"), primary_key=True),
)
