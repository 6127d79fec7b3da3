"""Tables of erased documents: what was asked, and what no ingest brings back."""

from sqlalchemy import Column, Index, Integer, Table, Text

from penstock.store.control.metadata import Json, Nanoseconds, metadata

knowledge_erasures = Table(
    "knowledge_erasures",
    metadata,
    Column("id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("base", Text),
    # In clear only until it is done, like what is in `progress`: then nobody needs it.
    Column("value", Text),
    Column("keep_out", Integer, nullable=False),
    Column("digest", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("created_ns", Nanoseconds, nullable=False),
    Column("updated_ns", Nanoseconds, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("progress", Json, nullable=False),
    Column("error", Text),
    Column("receipt", Integer),
    Index("ix_knowledge_erasures_state", "state"),
)

# Keyed digests, so that the list names nobody and nothing.
knowledge_kept_out = Table(
    "knowledge_kept_out",
    metadata,
    Column("base", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("erasure", Text, nullable=False),
    Column("erased_ns", Nanoseconds, nullable=False),
)
