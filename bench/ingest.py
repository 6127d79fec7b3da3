"""Spans from spool to searchable, OTLP to acknowledged, and reading back, on one core.

    python bench/ingest.py [--spans 200000] [--out-of-order]

Spans are five to a trace, about 2.1 KB each, as an app call leaves them. "Searchable" is timed from records lying in
the spool until the trace list shows them (decode, index text, store, sync, acknowledge). The floor in the same
run is SQLite storing the same bytes with a key and nothing else: no decoding, no columns, no search.
"""

import argparse
import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from penstock.spec.search import All, Compare, Words
from penstock.spec.spans import Span
from penstock.spec.usage import Usage
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.types import TraceQuery
from penstock.telemetry.counters import IngestCounters
from penstock.telemetry.edge import Edge, SnapshotEdge
from penstock.telemetry.encode import encode_span
from penstock.telemetry.otlp import PROTOBUF, decode_otlp_batch
from penstock.telemetry.spool import SpoolReader, SpoolWriter
from penstock.traces.collector import Collector
from penstock.traces.ingest import IngestService
from penstock.traces.live_folder import LiveFolder
from penstock.traces.waterfall import layout_waterfall
from record import record_result

T0 = 1_790_000_000_000_000_000
CHUNK = 20_000
_SOURCE = random.Random(7)
_WORDS = [
    f"{a}{b}"
    for a in ("walk", "sleep", "rest", "drink", "salt", "heart")
    for b in ("ing", "s", "er", "less", "")
]
_OPERATIONS = {"llm": "chat", "app": "invoke_agent", "retrieval": "execute_tool", "embedding": "embeddings"}
_COUNTS = (("gen_ai.usage.input_tokens", 4000), ("gen_ai.usage.output_tokens", 800))
_KINDS = (("llm", None), ("app", 0), ("retrieval", 1), ("embedding", 2), ("llm", 1))


def make_trace(number: int) -> list[Span]:
    """Return the five spans of one app call."""
    trace_id = f"{_SOURCE.getrandbits(128) | 1:032x}"
    ids = [f"{_SOURCE.getrandbits(64) | 1:016x}" for _ in _KINDS]
    start = T0 + number * 5_000_000
    exchanges = make_exchanges()
    return [
        Span(
            trace_id=trace_id,
            span_id=ids[index],
            parent_id=None if parent is None else ids[parent],
            name=f"{kind} handbook",
            kind=kind,
            start_ns=start + index * 1000,
            end_ns=start + 10**8 + _SOURCE.randrange(10**8),
            status="error" if _SOURCE.random() < 0.02 else "ok",
            service="gateway",
            key_id="key_bench",
            route=("handbook", "pocket", "minilm")[number % 3] if parent is None else None,
            provider="engine",
            model="pocket" if kind == "llm" else None,
            usage=Usage(input_uncached=200, output_text=40) if kind in {"llm", "embedding"} else None,
            cost_usd=Decimal("0.000123") if kind == "llm" else None,
            ttft_ms=_SOURCE.uniform(5, 500),
            overhead_ms=0.4,
            versions={"app:handbook": "1"},
            attributes={"gen_ai.operation.name": "chat", "server.address": "127.0.0.1"},
            input=exchanges[index][0],
            output=exchanges[index][1],
        )
        for index, (kind, parent) in enumerate(_KINDS)
    ]


def make_exchanges() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return what goes into each step of an app call and what comes out of it.

    As in life, question and answer are in most steps, passages in two, instructions come again with every trace, and no
    two questions are the same.
    """
    question, answer, found = text(500), text(400), "\n\n".join(_SOURCE.choices(_PASSAGES, k=2))
    call = chat(_SOURCE.choice(_SYSTEMS), question), reply(answer)
    grounded = chat(_SOURCE.choice(_SYSTEMS), f"{found}\n\n{question}"), reply(answer)
    return [call, call, (chat(question), reply(found)), (chat(question), reply("")), grounded]


def chat(*texts: str) -> dict[str, Any]:
    """Return a request whose last text is the user's."""
    roles = ["system"] * (len(texts) - 1) + ["user"]
    return {
        "model": "handbook",
        "messages": [{"role": role, "content": content} for role, content in zip(roles, texts, strict=True)],
    }


def reply(content: str) -> dict[str, Any]:
    """Return the reply to a request."""
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": content}}]}


def text(size: int) -> str:
    """Return about `size` characters of words."""
    return " ".join(_SOURCE.choices(_WORDS, k=size // 7))


_SYSTEMS = [text(500) for _ in range(12)]
_PASSAGES = [text(600) for _ in range(500)]


def measure_ingest(
    folder: Path, n_spans: int, *, is_shuffled: bool
) -> tuple[dict[str, Any], DuckDBSpanStore]:
    """Fill a store through the spool, chunk by chunk; time only the way from spool to searchable."""
    store = DuckDBSpanStore(folder / "spans.duckdb", threads=1)
    collector = Collector(folder / "spool", store)
    writer = SpoolWriter(folder / "spool" / "bench")
    seconds, cpu_s, floor_s, spool_s, size = [], 0.0, 0.0, 0.0, 0
    for first in range(0, n_spans, CHUNK):
        spans = [span for number in range(first // 5, (first + CHUNK) // 5) for span in make_trace(number)]
        newest = spans[-1].trace_id
        if is_shuffled:
            _SOURCE.shuffle(spans)
        records = [encode_span(span) for span in spans]
        size += sum(map(len, records))
        begun = time.perf_counter()
        for record in records:
            writer.append(record)
        writer.flush()
        spool_s += time.perf_counter() - begun
        begun, begun_cpu = time.perf_counter(), time.process_time()
        n_new = collector.run_once()
        assert store.list_traces(TraceQuery(limit=1)).rows[0].trace_id == newest
        seconds.append(time.perf_counter() - begun)
        cpu_s += time.process_time() - begun_cpu
        assert n_new == len(spans)
        floor_s += time_floor(folder / "floor.db", spans, records)
    writer.close()
    n_done = len(seconds) * CHUNK
    return {
        "n_spans": n_done,
        "bytes_per_span": round(size / n_done),
        "is_out_of_order": is_shuffled,
        "spans_per_s": round(n_done / sum(seconds)),
        "spans_per_cpu_s": round(n_done / cpu_s),
        "first_chunk_spans_per_s": round(CHUNK / seconds[0]),
        "last_chunk_spans_per_s": round(CHUNK / seconds[-1]),
        "slowest_chunk_s": round(max(seconds), 3),
        "spool_append_us": round(spool_s / n_done * 1e6, 2),
        "floor_sqlite_blobs_per_s": round(n_done / floor_s),
        "stored_bytes_per_span": round((folder / "spans.duckdb").stat().st_size / n_done),
    }, store


def time_floor(path: Path, spans: list[Span], records: list[bytes]) -> float:
    """Store the records as plain rows of SQLite, in transactions of the collector's size; return seconds."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS s (t TEXT, s TEXT, r BLOB, PRIMARY KEY (t, s)) WITHOUT ROWID"
        )
        rows = [(span.trace_id, span.span_id, record) for span, record in zip(spans, records, strict=True)]
        begun = time.perf_counter()
        for first in range(0, len(rows), 8000):
            connection.executemany("INSERT OR IGNORE INTO s VALUES (?, ?, ?)", rows[first : first + 8000])
            connection.commit()
        return time.perf_counter() - begun


def measure_otlp(folder: Path, n_requests: int = 1000) -> dict[str, Any]:
    """Decode OTLP protobuf requests of five spans and acknowledge each only when it is on disk."""
    bodies = [as_otlp(make_trace(number)) for number in range(n_requests)]
    writer = SpoolWriter(folder / "otlp")
    begun, begun_cpu = time.perf_counter(), time.process_time()
    for body in bodies:
        writer.append_durable([encode_span(span) for span in decode_otlp_batch(body, PROTOBUF).spans])
    seconds, cpu_s = time.perf_counter() - begun, time.process_time() - begun_cpu
    begun = time.perf_counter()
    for body in bodies:
        decode_otlp_batch(body, PROTOBUF)
    decode_s = time.perf_counter() - begun
    writer.close()
    assert sum(1 for _ in SpoolReader(folder / "otlp")) == n_requests * 5
    return {
        "acknowledged_spans_per_s_one_sender": round(n_requests * 5 / seconds),
        "acknowledged_spans_per_cpu_s": round(n_requests * 5 / cpu_s),
        "decode_us_per_span": round(decode_s / n_requests / 5 * 1e6, 1),
        "body_bytes_per_span": round(sum(map(len, bodies)) / n_requests / 5),
    }


def measure_pipeline(folder: Path, n_requests: int = 300) -> dict[str, Any]:
    """Take OTLP requests of 100 spans as the control process does, and time from their bytes to searchable."""
    bodies = [
        b"".join(as_otlp(make_trace(number * 20 + each)) for each in range(20))
        for number in range(n_requests)
    ]  # requests one behind the other are one request: repeated fields add up
    live = LiveFolder()
    writer = SpoolWriter(folder / "pipeline" / "control", taker=live.take)
    live.watch(writer.folder)
    store = DuckDBSpanStore(folder / "pipeline.duckdb", threads=1)
    collector = Collector(folder / "pipeline", store, live=live, source=store)
    edge = SnapshotEdge(folder / "none", Edge())
    service = IngestService(writer, collector, edge, IngestCounters())
    seconds, cpu_s = [], 0.0
    for first in range(0, n_requests, 50):
        begun, begun_cpu = time.perf_counter(), time.process_time()
        for body in bodies[first : first + 50]:
            with service.reserve() as grow:
                grow(len(body))
                service.take("traces", body, PROTOBUF, way="bench")
        collector.run_once()
        seconds.append(time.perf_counter() - begun)
        cpu_s += time.process_time() - begun_cpu
    writer.close()
    store.close()
    n_spans = n_requests * 100
    return {
        "n_spans": n_spans,
        "spans_per_s": round(n_spans / sum(seconds)),
        "spans_per_cpu_s": round(n_spans / cpu_s),
        "body_bytes_per_span": round(sum(map(len, bodies)) / n_spans),
    }


def as_otlp(spans: list[Span]) -> bytes:
    """Return the spans as an OTLP request, as an instrumented client would send them."""
    request = ExportTraceServiceRequest()
    scoped = request.resource_spans.add().scope_spans.add()
    for span in spans:
        sent = scoped.spans.add(
            trace_id=bytes.fromhex(span.trace_id),
            span_id=bytes.fromhex(span.span_id),
            parent_span_id=bytes.fromhex(span.parent_id or ""),
            name=span.name,
            start_time_unix_nano=span.start_ns,
            end_time_unix_nano=span.end_ns,
        )
        texts = {
            "gen_ai.operation.name": _OPERATIONS[span.kind],
            "gen_ai.input.messages": msgspec.json.encode(span.input["messages"]).decode(),
            "gen_ai.output.messages": msgspec.json.encode(span.output["choices"]).decode(),
        }
        if span.usage is not None:  # a model was asked
            texts |= {"gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o-mini"}
            texts["gen_ai.response.id"] = (
                f"chatcmpl-{span.span_id}"  # as in life: some attributes never come again
            )
        for name, value in texts.items():
            sent.attributes.add(key=name).value.string_value = value
        for name, most in _COUNTS if span.usage is not None else ():
            sent.attributes.add(key=name).value.int_value = _SOURCE.randrange(1, most)
    encoded: bytes = request.SerializeToString()
    return encoded


def measure_reading(store: DuckDBSpanStore) -> dict[str, float]:
    """Time what pages ask, in milliseconds (median of five)."""
    page = store.list_traces(TraceQuery())
    row = page.rows[10]
    big = "c" * 32
    store.append(
        [
            Span(
                trace_id=big,
                span_id=f"{number:016x}",
                parent_id=None if number == 1 else f"{number // 2:016x}",
                name="step",
                start_ns=T0 + number,
                end_ns=T0 + number + 10**6,
            )
            for number in range(1, 10_001)
        ]
    )
    questions: dict[str, Callable[[], Any]] = {
        "list_page_ms": lambda: store.list_traces(TraceQuery()),
        "list_second_page_ms": lambda: store.list_traces(TraceQuery(cursor=page.next_cursor)),
        "filtered_page_ms": lambda: store.list_traces(
            TraceQuery(where=All((Compare("model", "=", "pocket"), Compare("status", "=", "error"))))
        ),
        "text_search_rare_ms": lambda: store.list_traces(TraceQuery(where=Words("nowhere to be found"))),
        "text_search_common_ms": lambda: store.list_traces(TraceQuery(where=Words("walking sleeper"))),
        "overview_ms": lambda: store.overview(T0, T0 + 10**15),
        "trace_of_5_spans_ms": lambda: store.get_trace(row.trace_id),
        "payload_ms": lambda: store.get_payload(row.trace_id, store.get_trace(row.trace_id)[0].span_id),
        "trace_of_10000_spans_with_layout_ms": lambda: layout_waterfall(store.get_trace(big)),
    }
    return {name: round(median_ms(ask), 1) for name, ask in questions.items()}


def median_ms(ask: Callable[[], Any]) -> float:
    """Return the median of five runs in milliseconds."""
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        ask()
        times.append((time.perf_counter() - begun) * 1000)
    return sorted(times)[2]


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=200_000)
    parser.add_argument("--out-of-order", action="store_true", help="shuffle the spans of each 20,000")
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        ingest, store = measure_ingest(Path(name), options.spans, is_shuffled=options.out_of_order)
        results = {
            "ingest": ingest,
            "otlp": measure_otlp(Path(name)),
            "pipeline": measure_pipeline(Path(name)),
            "reading": measure_reading(store),
        }
        store.close()
    record_result("ingest", results, packages=("duckdb", "msgspec", "numpy", "opentelemetry-proto"))


if __name__ == "__main__":
    main()
