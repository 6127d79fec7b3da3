"""A page is sorted by its key alone; whole rows are read of what is on it."""

from pathlib import Path

from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.listing import MAX_PAGE
from penstock.store.spans.queries import ROW_COLUMNS


def test_the_largest_page_reads_whole_rows_of_its_own_only(tmp_path: Path) -> None:
    store = DuckDBSpanStore(tmp_path / "spans.duckdb")
    ask = f"EXPLAIN SELECT {ROW_COLUMNS} FROM traces ORDER BY duration_ms DESC NULLS LAST, trace_id LIMIT"
    try:
        with store.file.cursor() as cursor:
            plan = cursor.execute(f"{ask} {MAX_PAGE + 1}").fetchall()[0][1]
            beyond = cursor.execute(f"{ask} {10 * MAX_PAGE}").fetchall()[0][1]
    finally:
        store.close()
    assert "SEMI" in plan
    assert "SEMI" not in beyond
