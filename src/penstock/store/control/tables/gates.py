"""Verdicts of gates: written once, never changed, for the moves of aliases rest on them."""

from sqlalchemy import Column, Index, String, Table, Text

from penstock.store.control.metadata import Nanoseconds, metadata

gate_results = Table(
    "gate_results",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("verdict", String(16), nullable=False),
    # What was judged, as written (`prompt:triage@7`), and the asset alone (`prompt:triage`).
    Column("candidate", String(300), nullable=False),
    Column("asset", String(300), nullable=False),
    Column("gate_digest", String(71), nullable=False),
    Column("actor", String(200), nullable=False),
    Column("made_ns", Nanoseconds, nullable=False),
    # JSON of the whole result, as it was made.
    Column("content", Text, nullable=False),
    Index("ix_gate_results_made_ns", "made_ns"),
    Index("ix_gate_results_asset", "asset"),
)
