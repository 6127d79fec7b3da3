"""What has to be found in a home after a process that recorded was killed in it."""

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from penstock.main.recording import Recording
from penstock.spec.spans import Span
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.read_rows import READ_COLUMNS, span_of_row
from penstock.store.spans.types import TraceQuery
from tests.main import lives


class FarSide:
    """Takes what is sent on, and counts it."""

    def __init__(self) -> None:
        self.n_seen: dict[str, int] = {}
        seen = self.n_seen

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(gzip.decompress(self.rfile.read(int(self.headers["content-length"]))))
                for group in body["resourceSpans"]:
                    for scope in group["scopeSpans"]:
                        for span in scope["spans"]:
                            seen[span["spanId"]] = seen.get(span["spanId"], 0) + 1
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Said(NamedTuple):
    """What was said of one span."""

    input: Any
    output: Any


def dump(store: DuckDBSpanStore) -> dict[str, Any]:
    """Return what a store says, ready to be compared."""
    with store.file.cursor() as cursor:
        spans = cursor.execute(
            f"SELECT {READ_COLUMNS} FROM spans ORDER BY start_ns, trace_id, span_id"
        ).fetchall()
        payloads = cursor.execute(
            "SELECT replace(trace_id::VARCHAR, '-', ''), span_id, input, output FROM payloads"
        ).fetchall()
    said = {(trace_id, f"{span_id:016x}"): Said(*map(_read, texts)) for trace_id, span_id, *texts in payloads}
    return {
        "rows": store.list_traces(TraceQuery(limit=500)).rows,
        "spans": [span_of_row(row) for row in spans],
        "payloads": said,
    }


def _read(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def assert_whole(store: DuckDBSpanStore, scratch: Path) -> dict[str, Any]:
    """Every span is there once, and rows of traces say what their spans say."""
    with store.file.cursor() as cursor:
        for table in ("spans", "payloads", "scores", "ledger"):
            key = "score_id" if table == "scores" else "trace_id, span_id"
            doubled = f"SELECT {key}, count(*) FROM {table} GROUP BY ALL HAVING count(*) > 1"
            assert cursor.execute(doubled).fetchall() == [], table
        assert cursor.execute(
            "SELECT count(*) FROM payloads p ANTI JOIN spans s USING (trace_id, span_id)"
        ).fetchall() == [(0,)]
        assert (
            cursor.execute("SELECT count(*) FROM traces").fetchall()
            == cursor.execute("SELECT count(DISTINCT trace_id) FROM spans").fetchall()
        )
    found = dump(store)
    fresh = DuckDBSpanStore(scratch / f"fresh-{len(list(scratch.iterdir()))}.duckdb")
    fresh.append([with_payload(span, found) for span in found["spans"]])
    assert dump(fresh)["rows"] == found["rows"]
    fresh.close()
    return found


def with_payload(span: Span, found: dict[str, Any]) -> Span:
    payload = found["payloads"].get((span.trace_id, span.span_id), Said(None, None))
    return msgspec.structs.replace(span, input=payload.input, output=payload.output)


def assert_recorded(root: Path, notes: Path, scratch: Path, far: FarSide | None = None) -> int:
    """Start the home again and find all that was acknowledged; return how much that was."""
    told = [line.split() for line in notes.read_text().splitlines()] if notes.exists() else []
    taken = {
        what: {int(number) for name, number in told if name == what}
        for what in ("request", "event", "later", "gateway")
    }
    recording = Recording(lives.prepare(root), lives.settings_of(far.url if far else None))
    try:
        recording.collector.run_once()
        recording.collector.run_once()  # folders of the dead are removed once nothing is left in them
        for forwarder in recording._forwarders:
            forwarder.send_once()
        found = assert_whole(recording.store, scratch)
        spans = {span.span_id: span for span in found["spans"]}
        for number in taken["request"]:
            assert f"{number:016x}" in spans, f"request {number} was acknowledged"
            before = spans.get(f"{number - 1:016x}")
            assert number == 1 or (before is not None and before.end_ns), (
                f"request {number} ends {number - 1}"
            )
            payload = found["payloads"][(lives.trace_of(number), f"{number:016x}")]
            assert f"{number}: {lives.TEXT}" in json.dumps(payload.input)
        late = recording.collector._late
        assert late is not None
        waiting = {key[1] for key in late._waiting}
        for name, text in (("event", "before"), ("later", "later")):
            for number in taken[name]:
                span = spans.get(f"{number:016x}")
                said = [] if span is None else [event.attributes["content"] for event in span.events]
                assert text in said or (span is None and f"{number:016x}" in waiting), (name, number)
        for span in found["spans"]:
            said = [str(event.attributes) for event in span.events]
            assert len(said) == len(set(said)), "an event belongs to its span once"
        for number in taken["gateway"]:
            key = (lives.gateway_span(number).trace_id, lives.gateway_span(number).span_id)
            assert found["payloads"][key].output == "far"
        if far is not None:
            assert set(spans) <= set(far.n_seen), "all that is stored was sent on"
        folders = {path.name.split("-")[0] for path in (root / "spool").iterdir()}
        assert folders <= {"control", "late"}
    finally:
        recording.stop_taking()
        recording.close()
    return len(told)
