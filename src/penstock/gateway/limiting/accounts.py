"""What a call is going to need, and what it used, in the limiter's terms: estimates where nobody has told."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Protocol

import msgspec

from penstock.dialects.port import Envelope
from penstock.gateway.bills import Bill
from penstock.gateway.calls import Call
from penstock.gateway.estimates import WRITING, is_cut, output_estimate
from penstock.gateway.limiting.rules import UNBOUNDED_TOKENS, LimitFacts
from penstock.gateway.table import ReadyRoute, ReadyTarget
from penstock.spec.callers import Caller
from penstock.spec.routes import KeyRow
from penstock.spec.usage import Usage

_FREE_OF_TOKENS = frozenset({"count_tokens"})


class Prices(Protocol):
    """What is needed of `providers.prices.PriceBook`."""

    def estimate(
        self, price_id: str | None, model: str, usage: Usage, *, provider: str | None = None
    ) -> Decimal | None:
        """Return what `usage` would cost, None where that is not known at once; never blocks."""
        ...


def gather_facts(
    *,
    key: KeyRow,
    route: ReadyRoute,
    envelope: Envelope,
    operation: str,
    prompt_tokens: int,
    user: str | None,
    prices: Prices | None,
    caller: Caller | None = None,
) -> LimitFacts:
    """Return what limits ask of a call, which an app makes for `caller` if there is one. Money is the most that any of the route's targets may cost, None without `prices`."""
    completion: int | None = 0
    if operation in WRITING:
        completion = None
        if envelope.max_tokens is not None:
            completion = max(0, envelope.max_tokens) * max(1, envelope.n or 1) or None
    if operation in _FREE_OF_TOKENS:
        prompt_tokens = 0
    known: list[Decimal] = []
    if prices is not None:
        usage = Usage(
            input_uncached=prompt_tokens,
            output_text=UNBOUNDED_TOKENS if completion is None else completion,
        )
        known = [usd for target in route.targets if (usd := _price(target, usage, prices)) is not None]
    return LimitFacts(
        key=key,
        route=route.route.name,
        model=route.targets[0].model,
        user=user or envelope.user,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion,
        usd=max(known) if known else None,
        caller=caller,
        passes_on=route.passes_on,
    )


def sum_up(
    facts: LimitFacts, call: Call, target: ReadyTarget | None, prices: Prices | None
) -> tuple[int, Decimal | None]:
    """Return the tokens and the dollars that a finished call counts; None dollars where no price is known.

    A call that no provider took counts nothing, nor does one that an app took: the calls it made have been counted. What the provider did not report counts as reserved, and a reply that
    nothing bounds by its length: unknown is not 0. Of a stream that was cut off, what has come counts as it is billed.
    """
    told = call.usage
    if call.n_sent == call.n_refused:
        return 0, Decimal(0)  # refused each time, or served from the cache
    if target is not None and target.is_app:
        return 0, Decimal(0)
    prompt = told.input_tokens if told is not None else None
    completion = told.output_tokens if told is not None else None
    used = told if told is not None else Usage()
    if prompt is None:
        prompt = facts.prompt_tokens
        used = msgspec.structs.replace(used, input_uncached=prompt)
    if completion is None:
        completion = _written(facts, call)
        used = msgspec.structs.replace(used, output_text=completion)
    elif is_cut(call) and (seen := output_estimate(call)) > completion:
        used = msgspec.structs.replace(used, output_text=(used.output_text or 0) + seen - completion)
        completion = seen
    usd = _price(target, used, prices) if target is not None else None
    return max(0, prompt) + max(0, completion), usd


def add_lost(tokens: int, usd: Decimal | None, lost: Iterable[Bill]) -> tuple[int, Decimal | None]:
    """Return the same with what requests used that were sent and did not serve the call: they are billed too."""
    for bill in lost:
        if bill.target is not None and bill.target.is_app:
            continue
        if bill.usage is not None:
            tokens += (bill.usage.input_tokens or 0) + (bill.usage.output_tokens or 0)
        if usd is not None and bill.cost is not None and bill.cost.usd is not None:
            usd += bill.cost.usd
    return tokens, usd


def _written(facts: LimitFacts, call: Call) -> int:
    if call.operation not in WRITING:
        return 0
    return facts.completion_tokens if facts.completion_tokens is not None else output_estimate(call)


def _price(target: ReadyTarget, usage: Usage, prices: Prices | None) -> Decimal | None:
    provider = target.provider
    if provider.local or provider.price_id == "local":
        return Decimal(0)
    if prices is None:
        return None
    return prices.estimate(provider.price_id, target.model, usage, provider=provider.name)
