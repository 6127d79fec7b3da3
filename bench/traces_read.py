"""What pages, searches and dashboards ask of a million spans, and what it takes to add to them.

    python bench/traces_read.py [--spans 1000000] [--file FILLED.duckdb] [--floor-spans 200000]

The store is filled as `bench/fill.py` does (two minutes a million; `--file` takes a copy of one that is filled, and all is
done in two minutes) and asked with all cores. Medians of three in milliseconds, and the processor time of all threads, which
says what an idle machine would do. What a search found is forgotten before each question, but for those named `_again`, which
are asked after the list of the same words. The floor is what single-process peers do: the newest `--floor-spans` of the
same spans as rows of JSON in SQLite, indexed by trace and by start; `floor_n_spans` says how many, and scans of it grow with them.
"""

import argparse
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from fill import make_batches
from ingest import make_trace
from penstock.spec.measures import MetricQuery
from penstock.spec.spans import Span
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.measures import DuckDBMeasures
from penstock.store.spans.trace_lists import DuckDBTraceLists
from penstock.store.spans.types import SpanQuery, TraceQuery
from penstock.telemetry.encode import encode_span
from penstock.traces.collector import ROUND_SPANS
from penstock.traces.search import parse
from record import record_result

UNTIL_NS = 1_790_000_000_000_000_000
DAY_NS = 86_400_000_000_000
Question = Callable[[], Any]


class Floor:
    """Spans as JSON rows in SQLite."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("CREATE TABLE s (t TEXT, s TEXT, p TEXT, start INTEGER, body TEXT)")
        self._connection.execute("CREATE INDEX by_trace ON s (t)")
        self._connection.execute("CREATE INDEX by_start ON s (start)")
        self.n_spans = 0

    def add(self, spans: Sequence[Span]) -> None:
        """Store the spans."""
        rows = [
            (span.trace_id, span.span_id, span.parent_id, span.start_ns, encode_span(span).decode())
            for span in spans
        ]
        self._connection.executemany("INSERT INTO s VALUES (?, ?, ?, ?, ?)", rows)
        self._connection.commit()
        self.n_spans += len(rows)

    def ask(self, statement: str, *values: Any) -> Question:
        """Return the question that this statement asks."""
        return lambda: self._connection.execute(statement, values).fetchall()

    def questions(self, trace_id: str) -> dict[str, Question]:
        """Return what can be asked of it, by the names of `store_questions`."""
        model = "json_extract(body, '$.model')"
        return {
            "list_page": self.ask("SELECT body FROM s WHERE p IS NULL ORDER BY start DESC LIMIT 50"),
            "text_common": self.ask(
                "SELECT t FROM s WHERE body LIKE '%refund%' ORDER BY start DESC LIMIT 50"
            ),
            "text_rare": self.ask(
                "SELECT t FROM s WHERE body LIKE '%zanzibar%' ORDER BY start DESC LIMIT 50"
            ),
            "text_absent": self.ask("SELECT t FROM s WHERE body LIKE '%zqxj%' ORDER BY start DESC LIMIT 50"),
            "cost_by_user": self.ask(
                "SELECT json_extract(body, '$.user_id'), sum(json_extract(body, '$.cost_usd')) FROM s GROUP BY 1"
            ),
            "calls_by_model_and_day": self.ask(
                f"SELECT {model}, start / {DAY_NS}, count(*) FROM s GROUP BY 1, 2"
            ),
            "open_10000_spans": self.ask("SELECT body FROM s WHERE t = ? ORDER BY start", trace_id),
        }


def fill(path: Path, n_spans: int, floor: Floor, n_floor: int) -> float:
    """Fill store and floor; return the seconds that appending to the store took."""
    store, seconds, n_done = DuckDBSpanStore(path), 0.0, 0
    for batch in make_batches(n_spans, until_ns=UNTIL_NS, days=30, seed=1):
        for first in range(0, len(batch), ROUND_SPANS):
            spans = batch[first : first + ROUND_SPANS]
            begun = time.perf_counter()
            n_done += store.append(spans)
            seconds += time.perf_counter() - begun
            if n_done > n_spans - n_floor:
                floor.add(spans)
    store.close()
    return seconds


def store_questions(store: DuckDBSpanStore, big: Sequence[str]) -> dict[str, Question]:
    """Return what pages, searches and dashboards ask."""
    lists, measures = DuckDBTraceLists(store.file), DuckDBMeasures(store.file)
    page = lists.list_traces(TraceQuery())
    small = page.rows[20].trace_id
    until = page.rows[0].start_ns + 1
    first_span = store.get_trace(small)[0].span_id

    def traces(text: str, **fields: Any) -> Question:
        return lambda: lists.list_traces(TraceQuery(where=parse(text), **fields))

    def measure(*names: str, **fields: Any) -> Question:
        query = MetricQuery(measures=names, since_ns=until - 31 * DAY_NS, until_ns=until, **fields)
        return lambda: measures.measure(query)

    return {
        "list_page": lambda: lists.list_traces(TraceQuery()),
        "list_second_page": lambda: lists.list_traces(TraceQuery(cursor=page.next_cursor)),
        "list_of_spans": lambda: lists.list_spans(SpanQuery()),
        "filtered": traces("model:gpt-4o status:error duration>2s"),
        "slowest": lambda: lists.list_traces(TraceQuery(order="slowest")),
        "structure_no_passage": traces("any(kind:retrieval passages=0)"),
        "structure_child_failed": traces("status:ok child(status:error)"),
        "text_common": traces("refund"),
        "text_two_words": traces("order refund"),
        "text_rare": traces("zanzibar"),
        "text_absent": traces("zqxj"),
        "text_absent_phrase": traces('"refund order parcel"'),
        "text_rare_and_common": traces("order zqxj"),
        "text_in_output": traces("output:zqxj"),
        "text_count": lambda: lists.count(TraceQuery(where=parse("zanzibar"))),
        "text_count_again": lambda: lists.count(TraceQuery(where=parse("zanzibar"))),
        "text_chart_again": measure(
            "calls", "errors", subject="trace", where=parse("zanzibar"), bucket_ns=DAY_NS
        ),
        "overview_month": lambda: store.overview(until - 31 * DAY_NS, until),
        "latency_by_model_and_day": measure("latency_p95", by=("model",), bucket_ns=DAY_NS),
        "calls_by_model_and_day": measure("calls", by=("model",), bucket_ns=DAY_NS),
        "cost_by_model_and_day": measure("cost", by=("model",), bucket_ns=DAY_NS),
        "latency_of_calls": measure("latency_p50", "latency_p95", "latency_p99", "ttft_p50", "ttft_p95"),
        "table_of_models": measure(
            *("calls", "latency_p50", "latency_p95", "ttft_p50", "output_rate", "cost", "prompt_cache_share"),
            by=("provider", "model"),
        ),
        "cost_by_user": measure("cost", by=("user",)),
        "errors_of_spans_by_name": measure("error_share", by=("name",), subject="span"),
        "open_small": lambda: store.get_skeleton(small),
        "open_10000_spans": lambda: store.get_skeleton(big[1]),
        "open_50000_spans": lambda: store.get_skeleton(big[0]),
        "payload": lambda: store.get_payload(small, first_span),
    }


def median_ms(ask: Question, n: int = 3, before: Question | None = None) -> tuple[float, float]:
    """Return the medians of `n` runs in milliseconds: by the clock, and of all processors together."""
    times, works = [], []
    for _ in range(n):
        if before is not None:
            before()
        begun, worked = time.perf_counter(), time.process_time()
        ask()
        times.append((time.perf_counter() - begun) * 1000)
        works.append((time.process_time() - worked) * 1000)
    return round(statistics.median(times), 1), round(statistics.median(works), 1)


def ask_all(
    store: DuckDBSpanStore, asked: dict[str, Question], floor: dict[str, Question]
) -> dict[str, dict[str, float]]:
    """Return, and print, what each question takes, beside what it takes the floor."""
    results: dict[str, dict[str, float]] = {}
    print(f"{'':32}{'ms':>9}{'processor ms':>14}{'floor ms':>10}")
    for name, ask in asked.items():
        before = None if name.endswith("_again") else partial(store.file.known_texts.note_change, 0)
        wall, work = median_ms(ask, before=before)
        results[name] = {"ms": wall, "processor_ms": work}
        if name in floor:
            results[name]["floor_ms"] = median_ms(floor[name], 1)[0]
        print(f"{name:32}{wall:9.1f}{work:14.1f}{results[name].get('floor_ms', ''):>10}", flush=True)
    return results


def measure_adding(store: DuckDBSpanStore) -> dict[str, float]:
    """Time appends to the full store: a few spans, as they trickle in, and a batch."""
    numbers = iter(range(10**6))

    def spans(n_traces: int) -> list[Span]:
        return [
            msgspec.structs.replace(span, start_ns=UNTIL_NS + number, end_ns=UNTIL_NS + number + 10**8)
            for number in (next(numbers) for _ in range(n_traces))
            for span in make_trace(number)
        ]

    few, many = [spans(2) for _ in range(9)], [spans(1000) for _ in range(5)]
    few_ms = [median_ms(lambda batch=batch: store.append(batch), 1)[0] for batch in few]
    many_ms = [median_ms(lambda batch=batch: store.append(batch), 1)[0] for batch in many]
    return {
        "append_10_spans_ms": statistics.median(few_ms),
        "append_5000_spans_ms": statistics.median(many_ms),
        "slowest_append_ms": max(few_ms + many_ms),
    }


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spans", type=int, default=1_000_000)
    parser.add_argument("--floor-spans", type=int, default=200_000)
    parser.add_argument("--file", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        path, floor = Path(name) / "spans.duckdb", Floor(Path(name) / "floor.db")
        seconds = None
        if options.file is not None:
            shutil.copy(options.file, path)
            for batch in make_batches(options.floor_spans, until_ns=UNTIL_NS, days=6, seed=1):
                floor.add(batch)
        else:
            seconds = fill(path, options.spans, floor, options.floor_spans)
        store = DuckDBSpanStore(path)
        with store.file.cursor() as cursor:
            n_spans, n_traces = cursor.execute(
                "SELECT sum(n_spans)::BIGINT, count(*) FROM traces"
            ).fetchall()[0]
            rows = cursor.execute("SELECT trace_id FROM traces ORDER BY n_spans DESC LIMIT 2").fetchall()
        big = [str(row[0]).replace("-", "") for row in rows]
        asked = store_questions(store, big)
        results: dict[str, Any] = {
            "n_spans": n_spans,
            "n_traces": n_traces,
            "appended_spans_per_s": round(n_spans / seconds) if seconds else None,
            "stored_bytes_per_span": round(path.stat().st_size / n_spans),
            "floor_n_spans": floor.n_spans,
            "reading": ask_all(store, asked, floor.questions(big[1])),
            "adding": measure_adding(store),
        }
        store.close()
    record_result("traces_read", results, packages=("duckdb", "msgspec", "numpy"))


if __name__ == "__main__":
    main()
