"""Tables of erasure: what was asked, the receipts in their chain, and what late spans are known by."""

from sqlalchemy import Column, Index, Integer, String, Table, Text

from penstock.store.control.metadata import Json, Nanoseconds, metadata

privacy_erasures = Table(
    "privacy_erasures",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("subject_kind", String(8), nullable=False),
    # In clear only until it is done: then nobody needs it.
    Column("subject_id", Text),
    Column("reason", Text, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("created_ns", Nanoseconds, nullable=False),
    Column("updated_ns", Nanoseconds, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("progress", Json, nullable=False),
    Column("error", Text),
    Column("receipt", Integer),
    Index("ix_privacy_erasures_state", "state"),
)

privacy_receipts = Table(
    "privacy_receipts",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("created_ns", Nanoseconds, nullable=False),
    Column("digest", String(71), nullable=False),
    # Text, not JSON: what was signed is kept byte for byte.
    Column("content", Text, nullable=False),
)

privacy_tombstones = Table(
    "privacy_tombstones",
    metadata,
    Column("kind", String(8), primary_key=True),
    Column("digest", String(32), primary_key=True),
    Column("erased_ns", Nanoseconds, nullable=False),
    Column("until_ns", Nanoseconds),
    Index("ix_privacy_tombstones_until_ns", "until_ns"),
)
