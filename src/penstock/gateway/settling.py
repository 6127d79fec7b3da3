"""What the journal is told of a call that is over, and of each request that was lost on the way."""

from operator import attrgetter

from penstock.gateway.bills import Bill
from penstock.gateway.calls import AttemptRecord, Call
from penstock.gateway.journal import KINDS, Settled
from penstock.spec.usage import TOKEN_CLASSES, Usage

_all_counts = attrgetter(*TOKEN_CLASSES)


def settled_call(call: Call, bill: Bill, end_ns: int, *, quotes: bool) -> Settled:
    """Return the true figures of a call; `quotes`: with what the provider said of its error."""
    usage, cost = bill.usage, bill.cost
    return Settled(
        call.span_id,
        call.parent_id,
        KINDS.get(call.operation, "llm"),
        end_ns,
        "ok" if call.error_code is None else "error",
        call.error_code,
        call.error_message[:200] if quotes and call.error_message else None,
        call.http_status,
        bill.model,
        call.streamed,
        call.attempts,
        call.ttft_ms,
        _counts(usage),
        usage is not None and usage.estimated,
        cost.usd if cost is not None else None,
        cost.source if cost is not None else None,
    )


def settled_attempt(call: Call, bill: Bill, span_id: str, *, quotes: bool) -> Settled:
    """Return the true figures of a request that did not serve its call."""
    record, usage, cost = bill.record, bill.usage, bill.cost
    assert record is not None
    return Settled(
        span_id,
        call.span_id,
        "attempt",
        attempt_end_ns(record),
        "error",
        record.error_code,
        record.message[:200] if quotes and record.message else None,
        record.status,
        bill.model,
        False,
        None,
        None,
        _counts(usage),
        usage is not None and usage.estimated,
        cost.usd if cost is not None else None,
        cost.source if cost is not None else None,
    )


def attempt_end_ns(record: AttemptRecord) -> int:
    """Return when a request was over."""
    return record.started_ns + int((record.took_s or 0.0) * 1e9)


def _counts(usage: Usage | None) -> tuple[int | None, ...] | None:
    return _all_counts(usage) if usage is not None else None
