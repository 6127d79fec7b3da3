"""Measures over a span store, with the search language put in."""

from penstock.spec.measures import Subject
from penstock.spec.search import Condition
from penstock.store.spans.duckdb_file import DuckDBFile
from penstock.store.spans.measures import DuckDBMeasures
from penstock.traces.measures.service import MeasureService
from penstock.traces.search import parse, render


def create_measures(file: DuckDBFile) -> MeasureService:
    """Return the service over the spans in `file`."""
    return MeasureService(DuckDBMeasures(file), parse=parse_for, render=render)


def parse_for(text: str, subject: Subject) -> Condition:
    """Return what a search asks of what is measured: a trace's root, or single spans."""
    return parse(text, subject="trace" if subject == "trace" else "span")
