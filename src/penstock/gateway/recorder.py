"""Turns a finished call into spans: usage, money, timings, payloads; one span, and one more for each lost request.

Bodies go into the span as the JSON bytes they are. What needs real work (folding a stream, a price seen for
the first time) is done by one background thread with a bounded queue; when it is full, payloads and such prices are left
out.
Before that the journal has what is owed, so that it outlives this process.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any, Protocol

import msgspec

from penstock.base.digest import digest_request
from penstock.base.ids import new_span_id
from penstock.gateway.bills import NOT_BEGUN, NOT_LOADED, Bill, bill_call, load_price
from penstock.gateway.calls import AttemptRecord, Call
from penstock.gateway.estimates import input_estimate
from penstock.gateway.journal import KINDS, RATES, Journal, OpenedFor
from penstock.gateway.outputs import fold_output
from penstock.gateway.settling import attempt_end_ns, settled_attempt, settled_call
from penstock.gateway.table import ReadyTarget, Table
from penstock.providers.prices import PriceBook
from penstock.spec.spans import Span, SpanEvent
from penstock.spec.usage import Usage
from penstock.telemetry.cutting import cut
from penstock.telemetry.masks import MaskSet

_log = logging.getLogger("penstock.gateway")
_QUEUE_CALLS = 4096
_RATE_HOLDS_S = 60.0
"""How long the price in a journal's entry may be old. It is used only where a worker was lost."""
_MAX_PACKED = 4096
_ONE_TOKEN = Usage(input_uncached=1)
_Place = tuple[int, str | None, str | None, str, tuple[str, str] | None]
UNCOVERED = -2
"""Slot of a request that was begun without a journal."""


class SpanSink(Protocol):
    """Where spans go."""

    def record(self, span: Span, on_stored: Callable[[], None] | None = None) -> None:
        """Take one span; must not block on the disk and must not raise.

        `on_stored` is called, from any thread, once the span is on disk; never if that cannot be.
        """
        ...


class _Item(msgspec.Struct, frozen=True):
    call: Call
    main: Bill
    lost: list[tuple[Bill, str]]
    end_ns: int
    capture: bool
    limit: int
    quotes: bool
    """Whether messages of errors are kept: providers quote in them what was asked."""


class CallRecorder:
    """Makes spans of calls. `begin` and `record` are called on the event loop and return quickly."""

    def __init__(self, sink: SpanSink, prices: PriceBook, journal: Journal | None = None) -> None:
        self.dropped_payloads = 0
        """Spans recorded without payloads because the background thread was behind."""
        self._sink = sink
        self._prices = prices
        self._journal = journal
        self._queue: queue.Queue[_Item | list[tuple[str, str]] | None] = queue.Queue(_QUEUE_CALLS)
        self._thread: threading.Thread | None = None
        self._masks = MaskSet()
        self._has_masks = False
        self._packed: dict[_Place, tuple[float, bytes, ReadyTarget]] = {}
        """By target, key, model, operation and prompt: until when it holds, and what the journal keeps of it."""
        self._names: dict[tuple[str, str], str | None] = {}
        """By project and user or session: what may be written of it."""

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

    def take_table(self, table: Table) -> None:
        """Go by the prices of a new table, and have those that it will need loaded in the background."""
        self._prices.set_own_prices(table.prices)
        if table.limits.masks != self._masks.rules:
            self._masks = MaskSet(table.limits.masks)
            self._has_masks = bool(self._masks)
            self._names.clear()
        self._packed.clear()
        self.preload_prices(table.priced_models())

    def preload_prices(self, models: list[tuple[str, str]]) -> None:
        """Have the prices of `models` loaded in the background."""
        if models and self._thread is not None:
            try:
                self._queue.put_nowait(models)
            except queue.Full:
                return  # they will be loaded when first needed

    def begin(self, call: Call, record: AttemptRecord) -> None:
        """Note in the journal that a request is about to be sent. Again for the same record changes nothing."""
        if record.slot != NOT_BEGUN:
            return
        record.slot = UNCOVERED
        if self._journal is None:
            return
        log = call.attempt_log
        is_first = len(log) == 1 or all(other.slot == NOT_BEGUN for other in log if other is not record)
        slot = self._journal.begin(
            call.trace_id,
            call.span_id if is_first else new_span_id(),
            call.parent_id if is_first else call.span_id,
            is_first=is_first,
            start_ns=time.time_ns(),
            input_tokens=input_estimate(call),
            user_id=self._masked_name(call, _user(call)),
            session_id=self._masked_name(call, call.session),
            common=self._common(call, record.target),
        )
        if slot >= 0:
            record.slot = slot

    def _masked_name(self, call: Call, name: str | None) -> str | None:
        """Return a user or session as the rules let it be written; names come again, so what was found is kept."""
        if name is None or not self._has_masks:
            return name
        place = (call.key.project if call.key is not None else "default", name)
        if place not in self._names:
            if len(self._names) >= _MAX_PACKED:
                self._names.clear()
            self._names[place] = self._masks.apply_value(name, "identity", place[0])
        return self._names[place]

    def refuse(self, record: AttemptRecord) -> None:
        """Take back what `begin` noted: the provider has answered with an error, so nothing is owed."""
        slot, record.slot = record.slot, NOT_BEGUN
        if slot >= 0 and self._journal is not None:
            self._journal.free(slot)

    def _common(self, call: Call, target: ReadyTarget) -> bytes:
        """Return what all calls of this key to this target have in common, as the journal keeps it."""
        key, envelope = call.key, call.envelope
        model = envelope.model if envelope is not None else None
        prompt = call.caller.prompt if call.caller is not None else None
        place = (id(target), key.id if key is not None else None, model, call.operation, prompt)
        found = self._packed.get(place)
        now = time.monotonic()
        if found is not None and found[0] > now:
            return found[1]
        if len(self._packed) >= _MAX_PACKED:
            self._packed.clear()
        provider = target.provider
        packed = OpenedFor(
            call.operation,
            key.project if key is not None else "default",
            key.id if key is not None else None,
            model[:200] if model is not None else None,
            provider.name,
            "local" if provider.local else provider.price_id,
            target.model,
            *self._input_rate(target),
            _versions(call),
        ).packed()
        # the target is kept too, so that its id is nobody else's meanwhile
        self._packed[place] = (now + _RATE_HOLDS_S, packed, target)
        return packed

    def _input_rate(self, target: ReadyTarget) -> tuple[Decimal | None, str | None]:
        """Return what a million input tokens cost about now and who says so."""
        provider = target.provider
        price_id = "local" if provider.local else provider.price_id
        cost = self._prices.price_now(
            price_id, target.model, _ONE_TOKEN, time.time_ns(), provider=provider.name
        )
        if cost is None:
            return None, None
        return (cost.usd * 1_000_000 if cost.usd is not None else None), cost.source

    def record(self, call: Call, *, capture: bool, max_payload_bytes: int) -> None:
        """Record a finished call: bill what it owes, settle its slots, hand its spans on."""
        end_ns = call.start_ns + int((time.perf_counter() - call.started_at) * 1e9)
        main, bills = bill_call(call, self._prices)
        lost = [(bill, new_span_id()) for bill in bills]
        call.cost = main.cost
        if self._journal is not None:
            self._settle(call, main, lost, end_ns, quotes=capture and not self._has_masks)
        item = _Item(call, main, lost, end_ns, capture, max_payload_bytes, quotes=capture)
        is_priced = main.cost is not None and (not bills or all(bill.cost is not None for bill in bills))
        # folding a stream, or looking through texts for what is to be masked, is not for the event loop
        needs_work = capture and (call.streamed or self._has_masks)
        if self._thread is None or (is_priced and not needs_work):
            self._store(item)
            return
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            self.dropped_payloads += 1
            for bill in (main, *bills):
                bill.cost = bill.cost or NOT_LOADED  # the event loop must not wait for a price
            self._store(msgspec.structs.replace(item, capture=False))

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                if isinstance(item, list):
                    self._prices.preload(item)
                else:
                    self._store(item)
            except Exception:  # the edge of this thread: one bad call must not end the records of all others
                _log.exception("span lost")

    # -- the journal

    def _settle(
        self, call: Call, main: Bill, lost: list[tuple[Bill, str]], end_ns: int, *, quotes: bool
    ) -> None:
        """Settle the lost ones first: until the last step no two slots share an id."""
        journal = self._journal
        assert journal is not None
        for bill, span_id in lost:
            slot = _slot(bill)
            if slot >= 0:
                journal.settle(slot, settled_attempt(call, bill, span_id, quotes=quotes))
        if (slot := _slot(main)) >= 0:
            journal.settle(slot, settled_call(call, main, end_ns, quotes=quotes))
        if len(call.attempt_log) == 1 and slot >= 0:
            return
        kept = {slot, *(_slot(bill) for bill, _ in lost)}
        for record in call.attempt_log:
            if record.slot >= 0 and record.slot not in kept:
                journal.free(record.slot)  # the provider refused it: nothing is owed

    def _on_stored(self, bill: Bill) -> Callable[[], None] | None:
        slot = _slot(bill)
        return partial(self._journal.free, slot) if self._journal is not None and slot >= 0 else None

    # -- spans

    def _store(self, item: _Item) -> None:
        for bill, span_id in item.lost:
            load_price(bill, item.call.start_ns, self._prices)
            self._hand_on(_attempt_span(item.call, bill, span_id, quotes=item.quotes), bill, item.limit)
        load_price(item.main, item.call.start_ns, self._prices)
        self._hand_on(self._span(item), item.main, item.limit)

    def _hand_on(self, span: Span, bill: Bill, limit: int) -> None:
        on_stored = self._on_stored(bill)
        if self._has_masks:
            span = cut(self._masks.apply(span), limit)  # in this order: half of a name is not met by any rule
        if on_stored is None:
            self._sink.record(span)
        else:
            self._sink.record(span, on_stored)

    def _span(self, item: _Item) -> Span:
        call, bill = item.call, item.main
        envelope, target, key = call.envelope, bill.target, call.key
        has_request = item.capture and envelope is not None
        limit = len(call.body) + call.output_size if self._has_masks else item.limit
        return Span(
            trace_id=call.trace_id,
            span_id=call.span_id,
            parent_id=call.parent_id,
            name=_name(call),
            kind=KINDS.get(call.operation, "llm"),
            start_ns=call.start_ns,
            end_ns=item.end_ns,
            status="ok" if call.error_code is None else "error",
            status_message=call.error_message if item.quotes else None,
            error_code=call.error_code,
            project=key.project if key is not None else "default",
            service="gateway",
            key_id=key.id if key is not None else None,
            user_id=_user(call),
            session_id=call.session,
            route=envelope.model[:200] if envelope is not None else None,
            provider=target.provider.name if target is not None else None,
            model=bill.model,
            http_status=call.http_status,
            streamed=call.streamed,
            attempts=call.attempts,
            usage=_plain(bill.usage),
            cost_usd=bill.cost.usd if bill.cost is not None else None,
            cost_source=bill.cost.source if bill.cost is not None else None,
            ttft_ms=call.ttft_ms,
            overhead_ms=call.overhead_ms,
            versions=_versions(call),
            attributes=self._attributes(item),
            events=[
                SpanEvent(
                    name="attempt failed",
                    time_ns=tried.started_ns,
                    attributes=_tried(tried, quotes=item.quotes),
                )
                for tried in call.attempt_log
                if tried.outcome != "served"
            ],
            # a body that could not be parsed is no JSON, so it cannot stand in a span
            input=_payload(call.body, len(call.body), limit) if has_request else None,
            output=self._output(item, limit) if item.capture else None,
            payload_dropped=not item.capture,
        )

    def _output(self, item: _Item, limit: int) -> Any:
        call = item.call
        if call.output is None:
            return None
        if isinstance(call.output, bytes):
            return _payload(call.output, call.output_size, limit)
        is_cut = call.output_size > item.limit
        kept = {"size_bytes": call.output_size, "kept_bytes": 0 if self._has_masks else item.limit}
        if is_cut and self._has_masks:
            return {"penstock_cut": kept}  # it may end within what a rule would have met
        folded = fold_output(call.dialect, b"".join(call.output))
        if is_cut and isinstance(folded, dict):
            folded["penstock_cut"] = kept
        return folded

    def _attributes(self, item: _Item) -> dict[str, Any]:
        call, bill = item.call, item.main
        attributes: dict[str, Any] = {"gen_ai.operation.name": call.operation}
        _add_rates(attributes, bill)
        if call.rendered:
            attributes.update(call.rendered)
        if call.dropped:
            attributes["penstock.dropped"] = list(call.dropped)
        if call.cache_state is not None:
            attributes["penstock.cache"] = call.cache_state
            if bill.cost is not None and bill.cost.source == "cache" and call.route is not None:
                saved = self._saved(call)
                if saved is not None:
                    attributes["penstock.saved_usd"] = saved
        if not item.capture and call.envelope is not None:
            # with the request at hand, whoever stores the span finds this out
            digest = _digest(call.body)
            if digest is not None:
                attributes["penstock.request_digest"] = digest
        return attributes

    def _saved(self, call: Call) -> Decimal | None:
        """Return what a call from the cache would have cost at the route's first target."""
        assert call.route is not None
        target = call.route.targets[0]
        if call.usage is None:
            return None
        price_id = "local" if target.provider.local else target.provider.price_id
        return self._prices.estimate(price_id, target.model, call.usage, provider=target.provider.name)


def _slot(bill: Bill) -> int:
    return bill.record.slot if bill.record is not None else NOT_BEGUN


def _attempt_span(call: Call, bill: Bill, span_id: str, *, quotes: bool) -> Span:
    record, key, envelope = bill.record, call.key, call.envelope
    assert record is not None
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": call.operation,
        "penstock.attempt.outcome": record.outcome,
    }
    _add_rates(attributes, bill)
    return Span(
        trace_id=call.trace_id,
        span_id=span_id,
        parent_id=call.span_id,
        name=f"attempt {record.target.provider.name}"[:200],
        kind="attempt",
        start_ns=record.started_ns,
        end_ns=attempt_end_ns(record),
        status="error",
        status_message=(record.message if quotes else None) or "Another attempt served the call.",
        error_code=record.error_code,
        project=key.project if key is not None else "default",
        service="gateway",
        key_id=key.id if key is not None else None,
        user_id=_user(call),
        session_id=call.session,
        route=envelope.model[:200] if envelope is not None else None,
        provider=record.target.provider.name,
        model=bill.model,
        http_status=record.status,
        usage=_plain(bill.usage),
        cost_usd=bill.cost.usd if bill.cost is not None else None,
        cost_source=bill.cost.source if bill.cost is not None else None,
        versions=_versions(call),
        attributes=attributes,
    )


def _name(call: Call) -> str:
    envelope = call.envelope
    return (f"{call.operation} {envelope.model}" if envelope is not None else call.operation)[:200]


def _user(call: Call) -> str | None:
    if call.user is not None:
        return call.user
    if call.envelope is not None and call.envelope.user is not None:
        return call.envelope.user[:200]
    return None


def _versions(call: Call) -> dict[str, str]:
    """Return the versions of what serves the call, and of the prompt that makes it: its costs are told by prompt."""
    known = call.route.route.versions if call.route is not None else {}
    if call.caller is None or call.caller.prompt is None:
        return known
    name, stamp = call.caller.prompt
    return {name: stamp, **known}


def _plain(usage: Usage | None) -> Usage | None:
    """Return the usage without the provider's own sum, which stands in the span's cost."""
    if usage is None or usage.reported_usd is None:
        return usage
    return msgspec.structs.replace(usage, reported_usd=None)


def _add_rates(attributes: dict[str, Any], bill: Bill) -> None:
    cost = bill.cost
    if cost is None or not cost.rates:
        return
    attributes[RATES] = cost.rates
    if cost.usd_per_request is not None:
        attributes["penstock.cost.usd_per_request"] = cost.usd_per_request
    if cost.tier_over is not None:
        attributes["penstock.cost.tier_over"] = cost.tier_over


def _tried(record: AttemptRecord, *, quotes: bool) -> dict[str, Any]:
    tried: dict[str, Any] = {
        "provider": record.target.provider.name,
        "model": record.target.model,
        "outcome": record.outcome,
        "reason": (record.message if quotes else None) or record.outcome,
    }
    if record.status is not None:
        tried["http_status"] = record.status
    if record.fault is not None:
        tried["fault"] = record.fault
    return tried


def _digest(body: bytes) -> str | None:
    try:
        request = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return digest_request(request) if isinstance(request, dict) else None


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
