"""Tables of retrieval quality: comparisons of two generations, and which apps' answers are judged as they come."""

from sqlalchemy import Column, Index, Table, Text

from penstock.store.control.metadata import Json, Nanoseconds, metadata

# Never changed once written: a switch names one of them as its evidence.
knowledge_comparisons = Table(
    "knowledge_comparisons",
    metadata,
    Column("id", Text, primary_key=True),
    Column("base", Text, nullable=False),
    Column("baseline", Text, nullable=False),
    Column("candidate", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("content", Json, nullable=False),
    Column("made_ns", Nanoseconds, nullable=False),
    Index("ix_knowledge_comparisons_base", "base", "made_ns"),
)

# A share of an app's answers that models judge, within a budget, and how far that has come.
knowledge_watches = Table(
    "knowledge_watches",
    metadata,
    Column("app", Text, primary_key=True),
    Column("content", Json, nullable=False),
    Column("updated_ns", Nanoseconds, nullable=False),
)
