"""A collector on a real socket that answers as it is told, and an SDK that is set up anew for every test."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock.sdk.runtime import RUNTIME
from penstock.sdk.settings import SdkSettings

KEY = "ps-sdk-tests-0123456789"


@dataclass
class Seen:
    """One span as it arrived."""

    wire: dict[str, Any]
    resource: dict[str, Any]
    scope: str

    @property
    def attributes(self) -> dict[str, Any]:
        return plain(self.wire.get("attributes", []))

    @property
    def name(self) -> str:
        return str(self.wire["name"])

    @property
    def id(self) -> str:
        return str(self.wire["spanId"])

    @property
    def parent(self) -> str | None:
        return self.wire.get("parentSpanId")

    @property
    def trace(self) -> str:
        return str(self.wire["traceId"])

    @property
    def failed(self) -> bool:
        return bool(self.wire.get("status", {}).get("code") == 2)

    @property
    def input(self) -> Any:
        return self._payload("input")

    @property
    def output(self) -> Any:
        return self._payload("output")

    def _payload(self, place: str) -> Any:
        text = self.attributes.get(f"{place}.value")
        is_json = self.attributes.get(f"{place}.mime_type") == "application/json"
        return json.loads(text) if is_json else text


def plain(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return OTLP attributes as values."""
    return {pair["key"]: _plain_value(pair["value"]) for pair in pairs}


def _plain_value(value: dict[str, Any]) -> Any:
    if "arrayValue" in value:
        return [_plain_value(item) for item in value["arrayValue"].get("values", [])]
    if "kvlistValue" in value:
        return plain(value["kvlistValue"].get("values", []))
    if "intValue" in value:
        return int(value["intValue"])
    return next(iter(value.values()), None)


Answer = Callable[[str, bytes], tuple[int, bytes]]


@dataclass
class Collector:
    """What arrived, and how the next requests are answered."""

    url: str = ""
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    answer: Answer = lambda path, body: (200, b"{}")
    gate: threading.Event = field(default_factory=threading.Event)
    """Cleared, it keeps every request waiting."""

    @property
    def spans(self) -> list[Seen]:
        found = []
        for path, _, body in self.requests:
            if path != "/v1/traces":
                continue
            for group in body["resourceSpans"]:
                resource = plain(group["resource"]["attributes"])
                for scoped in group["scopeSpans"]:
                    scope = scoped["scope"].get("name", "")
                    found += [Seen(span, resource, scope) for span in scoped["spans"]]
        return found

    @property
    def scores(self) -> list[dict[str, Any]]:
        return [
            score for path, _, body in self.requests if path == "/api/v1/scores" for score in body["scores"]
        ]

    def span(self, name: str) -> Seen:
        """Return the one span of this name."""
        (found,) = [span for span in self.spans if span.name == name]
        return found


@pytest.fixture
def collector() -> Iterator[Collector]:
    seen = Collector()
    seen.gate.set()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            seen.gate.wait(120)
            status, reply = seen.answer(self.path, body)
            if status == 200:
                seen.requests.append((self.path, dict(self.headers.items()), json.loads(body)))
            self.send_response(status)
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    seen.url = f"http://127.0.0.1:{server.server_port}"
    yield seen
    seen.gate.set()
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def sdk(collector: Collector) -> Iterator[Collector]:
    """The SDK, pointed at the collector, keeping what waits in memory."""
    setup(collector)
    yield collector
    switch_off()


@pytest.fixture
def spilling(collector: Collector, tmp_path: Path) -> Iterator[Path]:
    """The SDK, pointed at the collector, with a folder for what waits."""
    setup(collector, spill=tmp_path / "spill")
    yield tmp_path / "spill"
    switch_off()


def setup(collector: Collector, **more: Any) -> None:
    """Point the SDK at `collector`."""
    given = {"url": collector.url, "key": KEY, "spill": False, "interval_s": 0.005, "enabled": True}
    penstock.configure(**{**given, **more})


def switch_off() -> None:
    """Leave nothing of this test to the next."""
    RUNTIME.leave()
    RUNTIME.apply(SdkSettings(is_on=False))
