"""Tables of tuning: runs, deployments of models, load tests."""

from sqlalchemy import Column, Index, Integer, Table, Text

from penstock.store.control.metadata import Json, Nanoseconds, metadata

# What is searched for stands in columns, the rest of a `RunRecord` in `content`.
tune_runs = Table(
    "tune_runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("frozen_digest", Text),
    Column("content", Json, nullable=False),
    Column("created_ns", Nanoseconds, nullable=False),
    Column("updated_ns", Nanoseconds, nullable=False),
    Index("ix_tune_runs_created", "created_ns"),
    Index("ix_tune_runs_name", "name", "created_ns"),
)

deployments = Table(
    "deployments",
    metadata,
    Column("name", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("spec", Json, nullable=False),
    Column("content", Json, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("created_ns", Nanoseconds, nullable=False),
    Column("updated_ns", Nanoseconds, nullable=False),
)

# What happened to a deployment, in order; never changed once written.
deployment_events = Table(
    "deployment_events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("deployment", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("content", Json, nullable=False),
    Column("actor", Text, nullable=False),
    Column("at_ns", Nanoseconds, nullable=False),
    Index("ix_deployment_events_deployment", "deployment", "id"),
)

load_tests = Table(
    "load_tests",
    metadata,
    Column("id", Text, primary_key=True),
    Column("route", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("verdict", Text),
    Column("spec", Json, nullable=False),
    Column("content", Json, nullable=False),
    Column("actor", Text, nullable=False),
    Column("created_ns", Nanoseconds, nullable=False),
    Column("updated_ns", Nanoseconds, nullable=False),
    Index("ix_load_tests_created", "created_ns"),
    Index("ix_load_tests_route", "route", "created_ns"),
)

# Measured figures of a model version: size, speed, perplexity, task scores; never changed once written.
model_measurements = Table(
    "model_measurements",
    metadata,
    Column("id", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("content", Json, nullable=False),
    Column("actor", Text, nullable=False),
    Column("made_ns", Nanoseconds, nullable=False),
    Index("ix_model_measurements_digest", "digest", "made_ns"),
)
