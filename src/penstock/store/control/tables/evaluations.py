"""Tables of evaluations: cases that several share, outputs and scores one row each, and experiments.

Costs are text, so that money stays exact on both databases; whole records are JSON text, so that they come back as written.
"""

from sqlalchemy import Boolean, Column, Float, Index, Integer, String, Table, Text

from penstock.store.control.metadata import Nanoseconds, metadata

evaluation_case_sets = Table(
    "evaluation_case_sets",
    metadata,
    Column("id", String(64), primary_key=True),
    # Over all cases in order; None until every one was read.
    Column("digest", String(71)),
    Column("n_cases", Integer, nullable=False),
    Column("n_groups", Integer, nullable=False),
    Column("created_ns", Nanoseconds, nullable=False),
    Index("ix_evaluation_case_sets_digest", "digest"),
)

evaluation_cases = Table(
    "evaluation_cases",
    metadata,
    Column("set_id", String(64), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("case_id", Text, nullable=False),
    Column("cluster", Text),
    # JSON list of `KEY=VALUE`: what figures are sliced by.
    Column("slices", Text, nullable=False),
    Column("content", Text, nullable=False),
    Index("ix_evaluation_cases_set_id_case_id", "set_id", "case_id", unique=True),
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("state", String(16), nullable=False),
    Column("target", String(300), nullable=False),
    Column("target_stamp", String(200), nullable=False),
    Column("dataset", String(300)),
    Column("dataset_stamp", String(200), nullable=False),
    Column("set_id", String(64)),
    Column("n_cases", Integer),
    Column("experiment_id", String(64)),
    Column("is_local", Boolean, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("job_id", String(64)),
    # JSON list.
    Column("tags", Text, nullable=False),
    Column("created_ns", Nanoseconds, nullable=False),
    Column("started_ns", Nanoseconds),
    Column("finished_ns", Nanoseconds),
    Column("updated_ns", Nanoseconds, nullable=False),
    Column("content", Text, nullable=False),
    Index("ix_evaluations_created_ns", "created_ns"),
    Index("ix_evaluations_experiment_id", "experiment_id"),
    Index("ix_evaluations_set_id", "set_id"),
)

evaluation_outputs = Table(
    "evaluation_outputs",
    metadata,
    Column("evaluation_id", String(64), primary_key=True),
    Column("case_id", Text, primary_key=True),
    Column("repeat", Integer, primary_key=True, autoincrement=False),
    Column("position", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    # Whether asking again would change nothing: false for what was skipped or failed in passing.
    Column("is_final", Boolean, nullable=False),
    # What was asked of what, for which repeat; None where an answer must not be taken again.
    Column("request_key", String(64)),
    Column("text_digest", String(64)),
    Column("error_code", String(100)),
    Column("latency_ms", Float),
    Column("ttft_ms", Float),
    Column("cost_usd", Text),
    Column("original_cost_usd", Text),
    Column("input_tokens", Integer),
    Column("output_tokens", Integer),
    Column("is_cached", Boolean, nullable=False),
    Column("trace_id", String(64)),
    Column("finished_ns", Nanoseconds, nullable=False),
    Column("content", Text, nullable=False),
    Index("ix_evaluation_outputs_evaluation_id_position", "evaluation_id", "position"),
    Index("ix_evaluation_outputs_request_key", "request_key"),
)

evaluation_scores = Table(
    "evaluation_scores",
    metadata,
    Column("evaluation_id", String(64), primary_key=True),
    Column("case_id", Text, primary_key=True),
    Column("repeat", Integer, primary_key=True, autoincrement=False),
    Column("name", String(200), primary_key=True),
    Column("stamp", String(300), nullable=False),
    Column("status", String(16), nullable=False),
    Column("value", Float),
    # JSON list of numbers; None where the figure is a mean.
    Column("statistics", Text),
    Column("fault", String(16)),
    Column("cost_usd", Text),
    Column("is_free", Boolean, nullable=False),
    Column("content", Text, nullable=False),
    Index("ix_evaluation_scores_evaluation_id_name", "evaluation_id", "name"),
)

experiments = Table(
    "experiments",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("state", String(16), nullable=False),
    Column("actor", String(200), nullable=False),
    Column("job_id", String(64)),
    Column("tags", Text, nullable=False),
    Column("created_ns", Nanoseconds, nullable=False),
    Column("finished_ns", Nanoseconds),
    Column("content", Text, nullable=False),
    Index("ix_experiments_created_ns", "created_ns"),
    Index("ix_experiments_name", "name"),
)
