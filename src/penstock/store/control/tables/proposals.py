"""Rows of datasets that a model proposed, until and after somebody decided."""

from sqlalchemy import Column, Index, String, Table, Text

from penstock.store.control.metadata import Nanoseconds, metadata

dataset_proposals = Table(
    "dataset_proposals",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("dataset", String(200), nullable=False),
    Column("batch", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    # The whole proposal as JSON text, so that it comes back as it was written; the columns beside it are for finding it.
    Column("content", Text, nullable=False),
    Column("created_ns", Nanoseconds, nullable=False),
    Column("decided_ns", Nanoseconds),
    Index("ix_dataset_proposals_dataset_state", "dataset", "state"),
    Index("ix_dataset_proposals_batch", "batch"),
)
