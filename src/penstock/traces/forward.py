"""Stored spans, sent on to another place that takes OTLP over HTTP.

What is to be sent lies in a spool folder of its own, a target each, so that nothing here waits for the other side and a
restart sends on from where it was. What cannot be delivered is tried again with growing pauses; what the other side
refuses for good, or what is more than may wait, is given up and counted. Every span carries who has sent it on:
two that send to each other do not do so for ever.
"""

import contextlib
import gzip
import http.client
import logging
import random
import secrets
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from penstock.base.clock import now_ns
from penstock.base.files import write_atomic
from penstock.spec.spans import Span
from penstock.telemetry.counters import ForwardHealth
from penstock.telemetry.edge import withhold
from penstock.telemetry.encode import decode_span, encode_span
from penstock.telemetry.mapping_table import load_table
from penstock.telemetry.otlp import JSON, PROTOBUF
from penstock.telemetry.otlp_out import encode_otlp_json
from penstock.telemetry.otlp_out_protobuf import encode_otlp_protobuf
from penstock.telemetry.spool import SpoolReader, SpoolWriter

FORWARDED_BY = "penstock.forwarded_by"
"""Attribute: who has sent a span on, one mark an installation."""
BATCH_BYTES = 1024 * 1024
TIMEOUT_S = 10.0
INTERVAL_S = 0.5
FIRST_PAUSE_S = 1.0
MAX_PAUSE_S = 300.0
_TRY_AGAIN = frozenset({401, 403, 404, 408, 429})
"""Answers that a person can mend (a key, an address) or that time does; others below 500 are about what was sent."""
_log = logging.getLogger("penstock.forward")


class Reply(NamedTuple):
    """What the other side answered."""

    status: int
    body: bytes = b""
    retry_after_s: float | None = None
    location: str | None = None
    """Where a redirect leads; it is told and not followed."""


Post = Callable[[str, bytes, Mapping[str, str]], Reply]
"""Sends a body to an address; raises `OSError` when nothing answers."""


@dataclass(frozen=True, kw_only=True)
class ForwardTarget:
    """Where spans are sent on to."""

    name: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    encoding: Literal["protobuf", "json"] = "protobuf"
    payloads: bool = True
    projects: frozenset[str] = frozenset()
    """Only these; empty: all."""
    max_waiting_bytes: int = 1024 * 1024 * 1024


class Forwarder:
    """Sends on to one target. `tap` is the collector's, `run` a thread's of its own."""

    def __init__(
        self,
        target: ForwardTarget,
        folder: Path,
        *,
        mark: str,
        post: "Post | None" = None,
        rng: random.Random | None = None,
        clock: Callable[[], int] = now_ns,
    ) -> None:
        self.target = target
        self._mark = mark
        self._post = post or post_http
        self._rng = rng or random.Random()
        self._clock = clock
        self._writer = SpoolWriter(folder)
        self._reader = SpoolReader(folder)
        self._waiting_bytes = self._reader.waiting_bytes
        self._n_sent = 0
        self._n_dropped = 0
        self._n_failed = 0
        self._n_tries = 0
        """Failures in a row."""
        self._last_error: str | None = None
        self._last_sent_ns: int | None = None

    @property
    def health(self) -> ForwardHealth:
        """How it goes."""
        return ForwardHealth(
            name=self.target.name,
            url=self.target.url,
            n_sent=self._n_sent,
            n_dropped=self._n_dropped,
            n_failed=self._n_failed,
            waiting_bytes=self._waiting_bytes,
            last_error=self._last_error,
            last_sent_ns=self._last_sent_ns,
        )

    def tap(self, spans: Sequence[Span]) -> None:
        """Take spans that were just stored; they are on disk here when this returns. Never raises."""
        chosen = [span for span in spans if self._is_meant(span)]
        if not chosen:
            return
        if self._waiting_bytes > self.target.max_waiting_bytes:
            self._n_dropped += len(chosen)
            return
        lost = self._writer.dropped_records
        for span in chosen:
            try:
                record = encode_span(self._leaving(span))
            except Exception:  # the edge between storing and sending on: storing must go on
                _log.exception("a span cannot be sent on", extra={"target": self.target.name})
                self._n_dropped += 1
                continue
            self._writer.append(record)
            self._waiting_bytes += len(record)
        self._writer.flush()
        self._n_dropped += self._writer.dropped_records - lost

    def _is_meant(self, span: Span) -> bool:
        if self.target.projects and span.project not in self.target.projects:
            return False
        senders = span.attributes.get(FORWARDED_BY)
        return not (isinstance(senders, list) and self._mark in senders)

    def _leaving(self, span: Span) -> Span:
        senders = span.attributes.get(FORWARDED_BY)
        before = senders if isinstance(senders, list) else []
        if not self.target.payloads:
            span = withhold(span, load_table())
        return msgspec.structs.replace(
            span, attributes={**span.attributes, FORWARDED_BY: [*before, self._mark]}
        )

    def run(self, stop: threading.Event) -> None:
        """Send on until `stop` is set."""
        pause = 0.0
        while not stop.wait(pause):
            try:
                pause = self.send_once() or INTERVAL_S
            except (
                Exception
            ) as error:  # the edge of this thread: a full disk or a bug must not end forwarding for good
                if self._last_error is None:
                    _log.exception("forwarding failed, will try again", extra={"target": self.target.name})
                self._last_error = f"{type(error).__name__}: {error}"
                self._reader.rewind()
                pause = self._pause(None)

    def send_once(self) -> float:
        """Send what waits; return 0, or after a failure the seconds to wait before the next time."""
        while records := self._reader.read(max_bytes=BATCH_BYTES).payloads:
            position = self._reader.position
            spans = [span for record in records if (span := _decode(record)) is not None]
            pause = self._deliver(spans)
            if pause:
                self._reader.rewind()
                return pause
            self._reader.ack(position)
            self._waiting_bytes = self._reader.waiting_bytes
        return 0.0

    def _deliver(self, spans: list[Span]) -> float:
        """Send spans; return 0 when they are done with, sent or given up, else the seconds to wait."""
        reply = self._try(spans)
        if reply is not None and 200 <= reply.status < 300:
            n_refused = min(len(spans), _count_refused(reply.body, self.target.encoding))
            self._n_sent += len(spans) - n_refused
            self._n_dropped += n_refused
            self._n_tries, self._last_error, self._last_sent_ns = 0, None, self._clock()
            return 0.0
        if reply is None or reply.status in _TRY_AGAIN or reply.status >= 500 or 300 <= reply.status < 400:
            return self._pause(reply)
        self._last_error = f"refused with {reply.status}"
        if len(spans) > 1:  # one of them may be what is not liked
            middle = len(spans) // 2
            return self._deliver(spans[:middle]) or self._deliver(spans[middle:])
        self._n_dropped += len(spans)
        return 0.0

    def _try(self, spans: list[Span]) -> Reply | None:
        is_json = self.target.encoding == "json"
        body = encode_otlp_json(spans) if is_json else encode_otlp_protobuf(spans)
        headers = {
            "content-type": JSON if is_json else PROTOBUF,
            "content-encoding": "gzip",
            **self.target.headers,
        }
        try:
            return self._post(self.target.url, gzip.compress(body, 1), headers)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._last_error = str(error) or type(error).__name__
            return None

    def _pause(self, reply: Reply | None) -> float:
        self._n_failed += 1
        if reply is not None:
            moved = f", to {reply.location}" if reply.location else ""
            self._last_error = f"answered {reply.status}{moved}"
        longest: float = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2**self._n_tries)
        self._n_tries = min(self._n_tries + 1, 20)
        pause = longest * self._rng.uniform(0.5, 1.0)
        if reply is not None and reply.retry_after_s is not None:
            pause = max(pause, min(reply.retry_after_s, MAX_PAUSE_S))
        return pause

    def close(self) -> None:
        """Let go; what waits stays on disk."""
        self._writer.close()


def post_http(url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
    """Send a body and return the answer; raise `OSError` when there is none."""
    request = urllib.request.Request(url, data=body, headers=dict(headers), method="POST")  # noqa: S310 - settings allow http and https only
    try:
        with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
            return Reply(answer.status, answer.read(BATCH_BYTES))
    except urllib.error.HTTPError as error:
        wait = error.headers.get("retry-after", "")
        with error:
            place = error.headers.get("location")
            return Reply(
                error.code, b"", float(wait) if wait.isdigit() else None, place[:200] if place else None
            )


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Takes a redirect as the answer: followed, it would lose the body and hand the key to another host."""

    def redirect_request(self, *_args: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_StayHere)


def read_headers(text: str) -> dict[str, str]:
    """Return headers as OpenTelemetry's environment variables write them: `name=value,other=percent%20encoded`."""
    found: dict[str, str] = {}
    for pair in text.split(","):
        name, sign, value = pair.partition("=")
        if sign and name.strip():
            found[unquote(name.strip()).lower()] = unquote(value.strip())
    return found


def read_mark(folder: Path) -> str:
    """Return the mark of this installation, made when there is none."""
    path = folder / "mark"
    with contextlib.suppress(OSError, UnicodeError):
        if mark := path.read_text(encoding="ascii").strip():
            return mark
    folder.mkdir(parents=True, exist_ok=True)
    mark = secrets.token_hex(8)
    write_atomic(path, mark.encode(), mode=0o600)
    return mark


def _decode(record: bytes) -> Span | None:
    try:
        return decode_span(record)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _count_refused(body: bytes, encoding: str) -> int:
    try:
        if encoding == "json":
            partial = msgspec.json.decode(body or b"{}", type=dict[str, dict[str, object]])
            return int(str(partial.get("partialSuccess", {}).get("rejectedSpans", 0)))
        refused: int = ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans
        return refused
    except Exception:  # whatever else it answered, it said that it took them
        return 0
