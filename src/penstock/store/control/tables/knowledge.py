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
    # Of everything but the bytes that decides what the passages are and who may find them.
    Column("parse_digest", Text, nullable=False),
    Column("title", Text),
    Column("media_type", Text),
    Column("size_bytes", Integer, nullable=False),
    Column("n_passages", Integer, nullable=False),
    Column("n_dropped_chars", Integer, nullable=False),
    Column("problems", Json, nullable=False),
    Column("error", Text),
    Column("source_id", Text),
    Column("properties", Json),
    Column("created_ns", Nanoseconds, nullable=False),
    UniqueConstraint("base", "path", "digest", "parse_digest"),
    Index("ix_knowledge_documents_digest", "digest"),
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
    Column("parent_start", Integer),
    Column("parent_end", Integer),
    Column("n_tokens", Integer),
    # What is embedded with the text besides title and section: the headings above, and what begins a table or list.
    Column("headings", Json),
    Column("lead", Text),
    Index("ix_knowledge_passages_id", "id"),
    Index("ix_knowledge_passages_embed_digest", "embed_digest"),
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
    Column("index_id", Text),
    Column("checks", Json),
    Column("created_ns", Nanoseconds, nullable=False),
)

# Which document versions make up a generation.
knowledge_members = Table(
    "knowledge_members",
    metadata,
    Column("generation", Text, ForeignKey("knowledge_generations.id"), primary_key=True),
    Column("document_id", Text, ForeignKey("knowledge_documents.id"), primary_key=True),
    Index("ix_knowledge_members_document_id", "document_id"),
)

# Where documents of a base come from. A base that was made from one folder has one source, `folder`.
knowledge_sources = Table(
    "knowledge_sources",
    metadata,
    Column("id", Text, primary_key=True),
    Column("base", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("settings", Json, nullable=False),
    Column("schedule", Json),
    Column("is_paused", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("error", Text),
    Column("report", Json),
    Column("epoch", Integer, nullable=False),
    Column("due_ns", Nanoseconds),
    Column("started_ns", Nanoseconds),
    Column("ended_ns", Nanoseconds),
    Column("created_ns", Nanoseconds, nullable=False),
    Column("updated_ns", Nanoseconds, nullable=False),
    UniqueConstraint("base", "name"),
)

# What a source holds, one row an address; identity is (source, path), never content.
knowledge_items = Table(
    "knowledge_items",
    metadata,
    Column("source_id", Text, ForeignKey("knowledge_sources.id"), primary_key=True),
    Column("path", Text, primary_key=True),
    Column("digest", Text),
    Column("token", Text),
    Column("size_bytes", Integer),
    Column("properties", Json, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("moved_from", Text),
    Column("epoch", Integer, nullable=False),
    Column("first_seen_ns", Nanoseconds, nullable=False),
    Column("last_seen_ns", Nanoseconds, nullable=False),
    Column("changed_ns", Nanoseconds, nullable=False),
    Index("ix_knowledge_items_state", "source_id", "state"),
)

# What a parser made of bytes: sections as a blob, so that another way of cutting needs no parsing.
knowledge_parses = Table(
    "knowledge_parses",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("parse_digest", Text, primary_key=True),
    Column("blob", Text),
    Column("title", Text),
    Column("media_type", Text),
    Column("language", Text),
    Column("n_chars", Integer, nullable=False),
    Column("n_pages", Integer),
    Column("properties", Json, nullable=False),
    Column("problems", Json, nullable=False),
    Column("error", Text),
    Column("created_ns", Nanoseconds, nullable=False),
)

# The recipes of a base that are kept up to date side by side: `live`, `previous` and candidates by name.
knowledge_tracks = Table(
    "knowledge_tracks",
    metadata,
    Column("base", Text, ForeignKey("knowledge_bases.name"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("recipe", Json, nullable=False),
    Column("generation", Text),
    Column("note", Text, nullable=False),
    Column("created_ns", Nanoseconds, nullable=False),
    Column("updated_ns", Nanoseconds, nullable=False),
)

# Judgements of what was found: clicks, thumbs, passages that were missed.
knowledge_feedback = Table(
    "knowledge_feedback",
    metadata,
    Column("id", Text, primary_key=True),
    Column("base", Text, nullable=False),
    Column("question", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("document", Text),
    Column("passage_id", Text),
    Column("rank", Integer),
    Column("actor", Text, nullable=False),
    Column("trace_id", Text),
    Column("generation", Text),
    Column("made_ns", Nanoseconds, nullable=False),
    Index("ix_knowledge_feedback_base", "base", "made_ns"),
)

# Measured quality of a generation on a set of labelled questions, kept over time.
knowledge_measurements = Table(
    "knowledge_measurements",
    metadata,
    Column("id", Text, primary_key=True),
    Column("base", Text, nullable=False),
    Column("generation", Text, nullable=False),
    Column("questions", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("content", Json, nullable=False),
    Column("made_ns", Nanoseconds, nullable=False),
    Index("ix_knowledge_measurements_base", "base", "made_ns"),
)
