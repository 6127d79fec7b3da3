"""The span file of a home that does not run: its one owner is away, so a command may read it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from penstock.base.errors import NotFound
from penstock.base.late import late_imports
from penstock.spec.home import Home

with late_imports():
    from penstock.store.spans import duckdb as duckdb_store


def check_span_file(home: Home) -> None:
    """Raise `NotFound` where no span was ever stored."""
    if not home.span_db.exists():
        raise NotFound(
            f"{home.root} holds no traces yet.",
            hint=f"Start it and make a call: penstock up --home {home.root}",
        )


@contextmanager
def read_stopped(home: Home) -> Iterator[duckdb_store.DuckDBSpanStore]:
    """Yield the spans of a stopped home for reading; raise `NotFound` where there are none."""
    check_span_file(home)
    store = duckdb_store.DuckDBSpanStore(home.span_db, read_only=True)
    try:
        yield store
    finally:
        store.close()
