"""Turns a finished call into one span: usage, money, timings, payloads.

Bodies go into the span as the JSON bytes they are. What needs real work (folding a stream, a price seen for
the first time) is done by one background thread with a bounded queue; when it is full, payloads are left out first.
"""

import logging
import queue
import threading
import time
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from penstock.dialects.openai.replies import fold_stream
from penstock.gateway.calls import Call
from penstock.providers.prices import PriceBook
from penstock.spec.spans import Span, SpanEvent, SpanKind
from penstock.spec.usage import Cost, Usage

_log = logging.getLogger("penstock.gateway")
_QUEUE_CALLS = 4096
_NOT_SENT = Cost(usd=Decimal(0), source="not sent")
_KINDS: dict[str, SpanKind] = {"embeddings": "embedding"}


class SpanSink(Protocol):
    """Where spans go."""

    def record(self, span: Span) -> None:
        """Take one span; must not block on the disk and must not raise."""
        ...


class CallRecorder:
    """Makes spans of calls. `record` is called on the event loop and returns quickly."""

    def __init__(self, sink: SpanSink, prices: PriceBook) -> None:
        self.dropped_payloads = 0
        """Spans recorded without payloads because the background thread was behind."""
        self._sink = sink
        self._prices = prices
        self._queue: queue.Queue[tuple[Call, int, bool, int] | list[tuple[str, str]] | None] = queue.Queue(
            _QUEUE_CALLS
        )
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the background thread."""
        self._thread = threading.Thread(target=self._run, name="call-recorder", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Record what is queued and stop."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def preload_prices(self, models: list[tuple[str, str]]) -> None:
        """Have the prices of `models` loaded in the background."""
        if models and self._thread is not None:
            try:
                self._queue.put_nowait(models)
            except queue.Full:
                return  # they will be loaded when first needed

    def record(self, call: Call, *, capture: bool, max_payload_bytes: int) -> None:
        """Record a finished call."""
        end_ns = call.start_ns + int((time.perf_counter() - call.started_at) * 1e9)
        is_light = not (capture and call.streamed) and self._has_price(call)
        if is_light or self._thread is None:
            self._sink.record(self._span(call, end_ns, capture, max_payload_bytes))
            return
        try:
            self._queue.put_nowait((call, end_ns, capture, max_payload_bytes))
        except queue.Full:
            self.dropped_payloads += 1
            self._sink.record(self._span(call, end_ns, False, max_payload_bytes))

    def _has_price(self, call: Call) -> bool:
        target = call.target
        if target is None or call.usage is None or target.provider.local:
            return True
        return self._prices.is_ready(target.provider.price_id, call.reply_model or target.model)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                if isinstance(item, list):
                    self._prices.preload(item)
                else:
                    call, end_ns, capture, limit = item
                    self._sink.record(self._span(call, end_ns, capture, limit))
            except Exception:  # the edge of this thread: one bad call must not end the records of all others
                _log.exception("span lost")

    def _span(self, call: Call, end_ns: int, capture: bool, limit: int) -> Span:
        envelope, target, route, key = call.envelope, call.target, call.route, call.key
        usage = call.usage
        cost = self._cost(call, usage)
        name = f"{call.operation} {envelope.model}" if envelope is not None else call.operation
        return Span(
            trace_id=call.trace_id,
            span_id=call.span_id,
            parent_id=call.parent_id,
            name=name[:200],
            kind=_KINDS.get(call.operation, "llm"),
            start_ns=call.start_ns,
            end_ns=end_ns,
            status="ok" if call.error_code is None else "error",
            status_message=call.error_message,
            error_code=call.error_code,
            project=key.project if key is not None else "default",
            service="gateway",
            key_id=key.id if key is not None else None,
            user_id=call.user,
            session_id=call.session,
            route=envelope.model[:200] if envelope is not None else None,
            provider=target.provider.name if target is not None else None,
            model=call.reply_model or (target.model if target is not None else None),
            http_status=call.http_status,
            streamed=call.streamed,
            attempts=call.attempts,
            usage=usage,
            cost_usd=cost.usd if cost is not None else None,
            cost_source=cost.source if cost is not None else None,
            ttft_ms=call.ttft_ms,
            overhead_ms=call.overhead_ms,
            versions=route.route.versions if route is not None else {},
            attributes={"gen_ai.operation.name": call.operation},
            events=[
                SpanEvent(
                    name="attempt failed",
                    time_ns=tried.started_ns,
                    attributes={
                        "provider": tried.target.provider.name,
                        "reason": tried.message or tried.outcome,
                    },
                )
                for tried in call.attempt_log
                if tried.outcome != "served"
            ],
            # a body that could not be parsed is no JSON, so it cannot stand in a span
            input=_payload(call.body, len(call.body), limit) if capture and envelope is not None else None,
            output=_output(call, limit) if capture else None,
            payload_dropped=not capture,
        )

    def _cost(self, call: Call, usage: Usage | None) -> Cost | None:
        target = call.target
        if target is None or call.n_sent == 0:
            return _NOT_SENT
        if target.provider.local:
            return self._prices.price("local", target.model, usage, call.start_ns)
        if usage is None and call.error_code is not None:
            return None
        price_id = target.provider.price_id
        if call.reply_model and call.reply_model != target.model:
            cost = self._prices.price(price_id, call.reply_model, usage, call.start_ns)
            if cost.usd is not None:
                return cost
        return self._prices.price(price_id, target.model, usage, call.start_ns)


def _output(call: Call, limit: int) -> Any:
    if call.output is None:
        return None
    if isinstance(call.output, bytes):
        return _payload(call.output, call.output_size, limit)
    folded = fold_stream(b"".join(call.output))
    if call.output_size > limit:
        folded["penstock_cut"] = {"size_bytes": call.output_size, "kept_bytes": limit}
    return folded


def _payload(body: bytes, size: int, limit: int) -> Any:
    """Return a body as JSON that is copied, not parsed; a long one as its beginning, marked as cut."""
    if not body:
        return None
    if size <= limit:
        return msgspec.Raw(body)
    return {
        "penstock_cut": {"size_bytes": size, "kept_bytes": limit},
        "text": body[:limit].decode("utf-8", "replace"),
    }
