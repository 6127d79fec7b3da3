"""Tables of judges: what people said of outputs, what judges said of the same outputs, and how the two agree."""

from sqlalchemy import Column, Float, Index, Integer, String, Table, Text

from penstock.store.control.metadata import Nanoseconds, metadata

label_items = Table(
    "label_items",
    metadata,
    # Follows from what it is: the output of an evaluation, a trace, or texts.
    Column("id", String(64), primary_key=True),
    Column("evaluation_id", String(64)),
    Column("case_id", Text),
    Column("repeat", Integer),
    Column("trace_id", String(64)),
    # JSON of case and output, as they were when first labelled.
    Column("content", Text, nullable=False),
    Column("created_ns", Nanoseconds, nullable=False),
    Index("ix_label_items_evaluation_id", "evaluation_id"),
    Index("ix_label_items_trace_id", "trace_id"),
)

labels = Table(
    "labels",
    metadata,
    Column("item_id", String(64), primary_key=True),
    # Of what was judged, such as `helpful`.
    Column("name", String(120), primary_key=True),
    Column("rater", String(200), primary_key=True),
    Column("value", Float),
    Column("label", String(200)),
    Column("comment", Text, nullable=False),
    Column("source", String(16), nullable=False),
    # `random`, or `chosen` for a reason that has to do with the answer.
    Column("drawn", String(16), nullable=False),
    Column("made_ns", Nanoseconds, nullable=False),
    Index("ix_labels_name_made_ns", "name", "made_ns"),
)

judge_verdicts = Table(
    "judge_verdicts",
    metadata,
    # Of the judge, and the item it judged; asked once.
    Column("stamp", String(300), primary_key=True),
    Column("item_id", String(64), primary_key=True),
    Column("latency_ms", Float),
    Column("made_ns", Nanoseconds, nullable=False),
    # JSON of the score.
    Column("content", Text, nullable=False),
)

judge_calibrations = Table(
    "judge_calibrations",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("stamp", String(300), nullable=False),
    Column("name", String(120), nullable=False),
    Column("made_ns", Nanoseconds, nullable=False),
    Column("content", Text, nullable=False),
    Index("ix_judge_calibrations_stamp", "stamp"),
    Index("ix_judge_calibrations_name", "name"),
)
