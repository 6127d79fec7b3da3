"""Sending on: everything arrives once the other side takes it, nothing waits for it, and no span goes round in circles."""

import gzip
import json
import random
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from penstock.spec.spans import FOREIGN_MARK, Span
from penstock.telemetry.otlp import JSON, PROTOBUF, decode_otlp_batch
from penstock.traces.forward import (
    FORWARDED_BY,
    Forwarder,
    ForwardTarget,
    Reply,
    post_http,
    read_headers,
    read_mark,
)
from tests.fixtures.spans import make_call_trace, make_span


class OtherSide:
    """Takes requests, answers as told."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.headers: list[Mapping[str, str]] = []
        self.answers: list[Reply | OSError] = []
        self.refuses: Callable[[Span], bool] = lambda span: False

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        self.headers.append(headers)
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, OSError):
                raise answer
            return answer
        spans = decode_otlp_batch(gzip.decompress(body), headers["content-type"]).spans
        if any(self.refuses(span) for span in spans):
            return Reply(400)
        self.spans += spans
        return Reply(200)


@pytest.fixture
def other() -> OtherSide:
    return OtherSide()


@pytest.fixture
def open_forwarder(tmp_path: Path, other: OtherSide) -> Iterator[Callable[..., Forwarder]]:
    opened: list[Forwarder] = []

    def make(**target: Any) -> Forwarder:
        for forwarder in opened:
            forwarder.close()
        fields = {"name": "far", "url": "http://far/v1/traces", **target}
        opened.append(
            Forwarder(
                ForwardTarget(**fields), tmp_path / "far", mark="us", post=other.post, rng=random.Random(1)
            )
        )
        return opened[-1]

    yield make
    opened[-1].close()


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_spans_arrive_with_what_they_say(
    open_forwarder: Callable[..., Forwarder], other: OtherSide, encoding: str
) -> None:
    forwarder = open_forwarder(encoding=encoding, headers={"authorization": "Bearer x"})
    trace = make_call_trace()
    forwarder.tap(trace)
    assert forwarder.send_once() == 0
    assert [(span.trace_id, span.span_id, span.parent_id, span.kind) for span in other.spans] == [
        (span.trace_id, span.span_id, span.parent_id, span.kind) for span in trace
    ]
    sent, came = trace[0], other.spans[0]
    assert (came.name, came.model, came.session_id, came.input, came.output) == (
        sent.name,
        sent.model,
        sent.session_id,
        sent.input,
        sent.output,
    )
    assert other.headers[0]["content-type"] == (JSON if encoding == "json" else PROTOBUF)
    assert other.headers[0]["authorization"] == "Bearer x"
    assert (forwarder.health.n_sent, forwarder.health.waiting_bytes) == (len(trace), 0)


def test_what_does_not_get_through_is_tried_again_ever_later(
    open_forwarder: Callable[..., Forwarder], other: OtherSide
) -> None:
    forwarder = open_forwarder()
    forwarder.tap([make_span(1)])
    other.answers = [OSError("nobody there"), Reply(503), Reply(429, b"", 40.0), Reply(401)]
    pauses = [forwarder.send_once() for _ in range(4)]
    assert 0.5 <= pauses[0] <= 1
    assert 1 <= pauses[1] <= 2
    assert pauses[2] == 40
    assert 4 <= pauses[3] <= 8
    assert (forwarder.health.n_failed, forwarder.health.last_error) == (4, "answered 401")
    assert forwarder.health.waiting_bytes > 0
    assert forwarder.send_once() == 0
    assert (len(other.spans), forwarder.health.last_error) == (1, None)


def test_a_restart_goes_on_from_where_it_was(
    open_forwarder: Callable[..., Forwarder], other: OtherSide
) -> None:
    forwarder = open_forwarder()
    forwarder.tap([make_span(1)])
    forwarder.send_once()
    forwarder.tap([make_span(2)])
    again = open_forwarder()
    assert again.health.waiting_bytes > 0
    again.tap([make_span(3)])
    again.send_once()
    assert [span.name for span in other.spans] == ["span 1", "span 2", "span 3"]


def test_a_span_that_is_refused_is_given_up_alone(
    open_forwarder: Callable[..., Forwarder], other: OtherSide
) -> None:
    other.refuses = lambda span: span.name == "span 3"
    forwarder = open_forwarder()
    forwarder.tap([make_span(number) for number in range(1, 9)])
    assert forwarder.send_once() == 0
    assert len(other.spans) == 7
    assert (forwarder.health.n_sent, forwarder.health.n_dropped) == (7, 1)


def test_partial_success_is_counted(open_forwarder: Callable[..., Forwarder], other: OtherSide) -> None:
    other.answers = [Reply(200, b'{"partialSuccess": {"rejectedSpans": "2"}}')]
    forwarder = open_forwarder(encoding="json")
    forwarder.tap([make_span(number) for number in range(1, 6)])
    forwarder.send_once()
    assert (forwarder.health.n_sent, forwarder.health.n_dropped) == (3, 2)


def test_no_span_goes_round_in_circles(open_forwarder: Callable[..., Forwarder], other: OtherSide) -> None:
    forwarder = open_forwarder()
    forwarder.tap([make_span(1)])
    forwarder.send_once()
    [there] = other.spans
    assert there.attributes[FORWARDED_BY] == ["us"]
    forwarder.tap([there])  # it came back
    forwarder.tap([make_span(2, attributes={FORWARDED_BY: ["them"]})])
    forwarder.send_once()
    assert [span.name for span in other.spans] == ["span 1", "span 2"]
    assert other.spans[1].attributes[FORWARDED_BY] == ["them", "us"]


def test_content_and_other_projects_stay_where_they_are_if_the_target_is_not_to_have_them(
    open_forwarder: Callable[..., Forwarder], other: OtherSide
) -> None:
    forwarder = open_forwarder(payloads=False, projects=frozenset({"shop"}))
    attributes = {FOREIGN_MARK: 2, "input.value": "secret"}
    forwarder.tap(
        [
            make_span(1, project="shop", input="secret", output="secret", attributes=attributes),
            make_span(2, project="other"),
        ]
    )
    forwarder.send_once()
    [span] = other.spans
    assert (span.name, span.input, span.output, span.payload_dropped) == ("span 1", None, None, True)
    assert "input.value" not in span.attributes


def test_more_than_may_wait_is_not_taken_and_counted(
    open_forwarder: Callable[..., Forwarder], other: OtherSide
) -> None:
    forwarder = open_forwarder(max_waiting_bytes=100)
    forwarder.tap([make_span(1)])
    forwarder.tap([make_span(2), make_span(3)])
    assert forwarder.health.n_dropped == 2
    forwarder.send_once()
    forwarder.tap([make_span(4)])
    forwarder.send_once()
    assert [span.name for span in other.spans] == ["span 1", "span 4"]


def test_over_a_real_socket() -> None:
    seen: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append((self.headers["x-team"], self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(429 if len(seen) == 1 else 200)
            self.send_header("retry-after", "7")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1/traces"
        headers = read_headers("x-team=a%20b,authorization=Bearer%20ps-1")
        assert post_http(url, b"1", headers) == Reply(429, b"", 7.0)
        assert post_http(url, b"2", headers) == Reply(200, b"{}")
        server.shutdown()
    with pytest.raises(OSError, match=r"\w"):
        post_http(url, b"3", {})
    assert seen == [("a b", b"1"), ("a b", b"2")]


def test_an_installation_keeps_its_mark(tmp_path: Path) -> None:
    assert read_mark(tmp_path / "f") == read_mark(tmp_path / "f") != read_mark(tmp_path / "g")
    assert json.dumps(read_mark(tmp_path / "f"))


def answer_raw(data: bytes) -> tuple[str, socket.socket, list[bytes]]:
    """Serve one connection with exactly `data`; return the address, the listener, and what was asked."""
    listener = socket.create_server(("127.0.0.1", 0))
    asked: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            asked.append(connection.recv(65536))
            connection.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/v1/traces", listener, asked


def test_a_redirect_is_told_and_not_followed(tmp_path: Path) -> None:
    url, listener, _ = answer_raw(
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/login\r\ncontent-length: 0\r\n\r\n"
    )
    forwarder = Forwarder(ForwardTarget(name="far", url=url), tmp_path / "far", mark="us")
    forwarder.tap([make_span(1)])
    assert forwarder.send_once() > 0
    forwarder.close()
    listener.close()
    assert forwarder.health.last_error == "answered 302, to http://127.0.0.1:1/login"
    assert (forwarder.health.n_sent, forwarder.health.n_dropped) == (0, 0)


def test_an_answer_that_is_no_http_is_one_failure_of_many(tmp_path: Path) -> None:
    url, listener, _ = answer_raw(b"HELLO THERE\r\n")
    forwarder = Forwarder(ForwardTarget(name="far", url=url), tmp_path / "far", mark="us")
    forwarder.tap([make_span(1)])
    assert forwarder.send_once() > 0
    forwarder.close()
    listener.close()
    assert "HELLO THERE" in (forwarder.health.last_error or "")
    assert forwarder.health.waiting_bytes > 0
