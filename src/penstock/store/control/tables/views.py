"""Saved views of the `traces` room."""

from sqlalchemy import Column, String, Table, Text

from penstock.store.control.metadata import Json, Nanoseconds, metadata

saved_views = Table(
    "saved_views",
    metadata,
    Column("project", String(80), primary_key=True),
    Column("name", String(80), primary_key=True),
    Column("subject", String(8), nullable=False),
    Column("query", Text, nullable=False),
    Column("columns", Json, nullable=False),
    Column("ordering", String(16), nullable=False),
    Column("actor", String(200), nullable=False),
    Column("updated_ns", Nanoseconds, nullable=False),
)
