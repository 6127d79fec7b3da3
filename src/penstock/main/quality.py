"""Joins the rooms of quality: datasets, prompts, scorers, evaluations, judges and gates over one home.

The rooms do not know each other; what one needs of another is passed in here.
"""

from dataclasses import dataclass

from sqlalchemy import Engine

from penstock.jobs.service import JobService
from penstock.registry.service import Registry
from penstock.spec.home import Home
from penstock.store.blobs import BlobStore
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.traces.ingest import IngestService
from penstock.traces.lists import TraceListService


@dataclass(frozen=True, kw_only=True)
class QualityParts:
    """What the rooms of quality are made from."""

    home: Home
    engine: Engine
    """The control tables."""
    blobs: BlobStore
    registry: Registry
    jobs: JobService
    spans: DuckDBSpanStore
    trace_lists: TraceListService
    ingest: IngestService
    """Takes the spans that carry scores."""
    gateway_url: str
    """Such as `http://127.0.0.1:4600`."""
    internal_key: str


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The services that control and console are given."""


def create_quality(parts: QualityParts) -> Quality:
    """Return the services over one home."""
    _ = parts
    return Quality()
