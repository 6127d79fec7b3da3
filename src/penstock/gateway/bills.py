"""What is owed for a finished call: one bill for each request that a provider may charge for. Decides, writes nothing.

The request that served the call (or the last one that was sent, if none did) is billed on the call's own span; each
other one that was sent and lost is a bill of its own. A request that a provider answered with an error status costs
nothing, nor does one that was never sent.
"""

from decimal import Decimal

import msgspec

from penstock.gateway.calls import AttemptRecord, Call
from penstock.gateway.estimates import complete_usage, is_complete, is_cut, lost_usage
from penstock.gateway.table import ReadyTarget
from penstock.providers.prices import PriceBook
from penstock.spec.usage import Cost, Usage

NOT_SENT = Cost(usd=Decimal(0), source="not sent")
REFUSED = Cost(usd=Decimal(0), source="refused")
FREE = Cost(usd=Decimal(0), source="free of charge")
PASSED_ON = Cost(usd=Decimal(0), source="billed with the calls it made")
"""Of a call that an app or a prompt of this installation has answered."""
FROM_CACHE = Cost(usd=Decimal(0), source="cache")
NOT_LOADED = Cost(usd=None, source="the price was not loaded when the call was recorded")
NOT_BEGUN = -1
"""Slot of an attempt whose request was never begun: no target to ask, no connection."""
_FREE_OPERATIONS = frozenset({"count_tokens", "moderations"})
_CACHED = frozenset({"hit", "semantic", "shared"})


class Bill(msgspec.Struct, kw_only=True):
    """What one request used and costs. `cost` is None while the price is not loaded."""

    record: AttemptRecord | None
    """None where no request was sent."""
    target: ReadyTarget | None
    usage: Usage | None
    cost: Cost | None
    model: str | None


def bill_call(call: Call, prices: PriceBook) -> tuple[Bill, list[Bill]]:
    """Return the bill of the call's own span and those of lost requests. Never waits."""
    log = call.attempt_log
    if len(log) == 1 and log[0].outcome == "served":
        return _main_bill(call, log[0], prices), []
    owed = [record for record in log if is_owed(record)]
    main = next((record for record in log if record.outcome == "served"), None)
    if main is None and owed:
        main = owed[-1]
    lost = [_lost_bill(call, record, prices) for record in owed if record is not main]
    return _main_bill(call, main, prices), lost


def is_owed(record: AttemptRecord) -> bool:
    """Return whether a provider may charge for this request."""
    if record.outcome == "served":
        return True
    is_taken = record.status is None or record.status < 300
    return record.slot != NOT_BEGUN and is_taken


def load_price(bill: Bill, when_ns: int, prices: PriceBook) -> None:
    """Fill in the cost of a bill whose price was not loaded; may wait for the price table."""
    if bill.cost is None and bill.target is not None:
        bill.cost = _price(bill.target, bill.model, bill.usage, when_ns, prices)


def _main_bill(call: Call, record: AttemptRecord | None, prices: PriceBook) -> Bill:
    target = record.target if record is not None else call.target
    model = call.reply_model or (target.model if target is not None else None)
    bill = Bill(record=record, target=target, usage=call.usage, cost=None, model=model)
    if call.cache_state in _CACHED and call.n_sent == 0:
        bill.cost = FROM_CACHE
    elif target is None or call.n_sent == 0:
        bill.cost = NOT_SENT
    elif record is None:
        bill.cost = REFUSED
    elif call.operation in _FREE_OPERATIONS:
        bill.cost = FREE
    elif target.is_app:
        bill.cost = PASSED_ON
    elif record.outcome != "served":
        bill.usage = lost_usage(call, record)
        bill.cost = _quick_price(bill, call.start_ns, prices)
    elif _is_error_reply(call, record):
        bill.cost = REFUSED
    else:
        if not is_complete(call.usage, call.operation) or is_cut(call):
            bill.usage = complete_usage(call)
        bill.cost = _quick_price(bill, call.start_ns, prices)
    return bill


def _lost_bill(call: Call, record: AttemptRecord, prices: PriceBook) -> Bill:
    is_app = record.target.is_app
    usage = lost_usage(call, record) if not is_app else record.usage
    bill = Bill(record=record, target=record.target, usage=usage, cost=None, model=record.target.model)
    bill.cost = PASSED_ON if is_app else _quick_price(bill, record.started_ns, prices)
    return bill


def _is_error_reply(call: Call, record: AttemptRecord) -> bool:
    return (record.status or call.http_status or 0) >= 400 and not call.streamed


def _quick_price(bill: Bill, when_ns: int, prices: PriceBook) -> Cost | None:
    """Return the cost as `_price` does, None where a price would have to be loaded."""
    target, usage = bill.target, bill.usage
    assert target is not None
    provider = target.provider
    price_id = "local" if provider.local else provider.price_id
    if (
        usage is not None
        and usage.reported_usd is not None
        and not prices.has_own(provider.name, target.model)
    ):
        return Cost(usd=usage.reported_usd, source="provider")
    model = bill.model or target.model
    cost = prices.price_now(price_id, model, usage, when_ns, provider=provider.name)
    if cost is not None and cost.usd is None and model != target.model:
        return prices.price_now(price_id, target.model, usage, when_ns, provider=provider.name)
    return cost


def _price(
    target: ReadyTarget, model: str | None, usage: Usage | None, when_ns: int, prices: PriceBook
) -> Cost:
    """Return the cost by the name that answered, and where that has no price by the name that was asked for."""
    provider = target.provider
    price_id = "local" if provider.local else provider.price_id
    if (
        usage is not None
        and usage.reported_usd is not None
        and not prices.has_own(provider.name, target.model)
    ):
        return Cost(usd=usage.reported_usd, source="provider")
    if model is not None and model != target.model:
        cost = prices.price(price_id, model, usage, when_ns, provider=provider.name)
        if cost.usd is not None:
            return cost
    return prices.price(price_id, target.model, usage, when_ns, provider=provider.name)
