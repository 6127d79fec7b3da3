"""What recorded traffic would have cost otherwise: with a cache, at other models, with the provider's prompt cache.

Everything is computed from calls that were made and prices that are known. What cannot be computed is what a change
does to the answers: the advice about models says so each time.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

import msgspec

from penstock.spec.usage import OUTPUT_CLASSES, Cost, Usage
from penstock.store.spans.ledger_types import Traffic

PROVIDER_CACHE_S = 300
"""How long providers keep a prompt's beginning at least (Anthropic: five minutes; OpenAI: five to ten)."""
_MILLION = Decimal(1_000_000)
_ZERO = Decimal(0)
CandidatePricer = Callable[[str, str, Usage, int], Cost]
"""(provider, model, usage, when) → cost."""


class CacheAdvice(msgspec.Struct, frozen=True, kw_only=True):
    """What an exact cache would have answered on one route."""

    route: str | None
    n_calls: int
    n_repeats: int
    """Calls that asked the same as an earlier one within the time to live."""
    saved_usd: Decimal
    n_unpriced: int
    """Repeats whose cost is unknown: not in the sum."""


class ModelAdvice(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of one model, priced at another. If quality holds."""

    route: str | None
    provider: str | None
    model: str | None
    candidate: str
    n_calls: int
    cost_usd: Decimal
    candidate_usd: Decimal
    saved_usd: Decimal
    note: str = "if quality holds: the same tokens at the other price, its answers were not tried"


class PrefixAdvice(msgspec.Struct, frozen=True, kw_only=True):
    """Beginnings of prompts that were sent again within minutes, and how much of them came from the provider's cache."""

    route: str | None
    model: str | None
    n_calls: int
    n_repeats: int
    prefix_tokens: int
    """Tokens (estimated) of beginnings that the provider had just seen."""
    read_tokens: int
    """Tokens that it read from its cache in these calls."""
    missed_share: Decimal
    """Part of the repeated tokens that were paid in full."""
    saved_usd: Decimal | None
    """What reading the rest from the cache would save; None where the price of cached tokens is not known."""


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """All advice over one window."""

    n_calls: int
    since_ns: int | None
    until_ns: int | None
    cost_usd: Decimal
    ttl_s: int
    cache: list[CacheAdvice]
    models: list[ModelAdvice]
    prefixes: list[PrefixAdvice]
    is_cut: bool
    """Whether there were more calls than were looked at; then these are the newest."""


def advise(
    traffic: Sequence[Traffic],
    *,
    ttl_s: int,
    candidates: Iterable[tuple[str, str]] = (),
    price: CandidatePricer,
    is_cut: bool = False,
) -> Advice:
    """Return what could be saved on `traffic` (oldest first). `candidates` (provider, model) are added to the models
    that the traffic itself went to."""
    return Advice(
        n_calls=len(traffic),
        since_ns=traffic[0].start_ns if traffic else None,
        until_ns=traffic[-1].start_ns if traffic else None,
        cost_usd=sum((call.cost_usd for call in traffic if call.cost_usd is not None), _ZERO),
        ttl_s=ttl_s,
        cache=find_repeats(traffic, ttl_s=ttl_s),
        models=price_elsewhere(traffic, candidates, price),
        prefixes=find_prefixes(traffic, price),
        is_cut=is_cut,
    )


def find_repeats(traffic: Sequence[Traffic], *, ttl_s: int) -> list[CacheAdvice]:
    """Return by route what an exact cache with one entry a request, kept `ttl_s`, would have answered."""
    kept_at: dict[tuple[str | None, str], int] = {}
    calls: dict[str | None, int] = defaultdict(int)
    repeats: dict[str | None, list[Traffic]] = defaultdict(list)
    for call in traffic:
        calls[call.route] += 1
        if call.request_digest is None:
            continue
        key = (call.project, call.request_digest)
        seen = kept_at.get(key)
        if seen is not None and call.start_ns - seen <= ttl_s * 1_000_000_000:
            repeats[call.route].append(call)
        else:
            kept_at[key] = call.start_ns
    found = [
        CacheAdvice(
            route=route,
            n_calls=calls[route],
            n_repeats=len(again),
            saved_usd=sum((call.cost_usd for call in again if call.cost_usd is not None), _ZERO),
            n_unpriced=sum(call.cost_usd is None for call in again),
        )
        for route, again in repeats.items()
    ]
    return sorted(found, key=lambda one: (-one.saved_usd, -one.n_repeats))


def price_elsewhere(
    traffic: Sequence[Traffic], candidates: Iterable[tuple[str, str]], price: CandidatePricer
) -> list[ModelAdvice]:
    """Return, for each route and model, what is cheaper of the candidates and of the models that were seen to do the
    same work: none that embeds is named for chat. Calls without a price or tokens are left out."""
    work = _work_by_model(traffic)
    groups: dict[tuple[str | None, str | None, str | None], list[Traffic]] = defaultdict(list)
    for call in traffic:
        if call.cost_usd and call.classes:
            groups[call.route, call.provider, call.model].append(call)
    found: list[ModelAdvice] = []
    named = set(candidates)
    wanted = sorted(named | set(work))
    for (route, provider, model), calls in groups.items():
        paid = sum((call.cost_usd for call in calls if call.cost_usd is not None), _ZERO)
        for other_provider, other_model in wanted:
            other_key = (other_provider, other_model)
            if other_key == (provider, model):
                continue
            if other_key not in named and not work[other_key] & _work_of(calls):
                continue
            other = _price_all(calls, other_provider, other_model, price)
            if other is not None and other < paid:
                found.append(
                    ModelAdvice(
                        route=route,
                        provider=provider,
                        model=model,
                        candidate=f"{other_provider}/{other_model}",
                        n_calls=len(calls),
                        cost_usd=paid,
                        candidate_usd=other,
                        saved_usd=paid - other,
                    )
                )
    return sorted(found, key=lambda one: -one.saved_usd)


def _work_by_model(traffic: Iterable[Traffic]) -> dict[tuple[str, str], set[tuple[str, bool]]]:
    calls: dict[tuple[str, str], list[Traffic]] = defaultdict(list)
    for call in traffic:
        if call.provider and call.model:
            calls[call.provider, call.model].append(call)
    return {key: _work_of(each) for key, each in calls.items()}


def _work_of(calls: Iterable[Traffic]) -> set[tuple[str, bool]]:
    """Return the kinds of work among calls: what they were, and whether they wrote anything. Lost requests show none."""
    return {
        (call.kind, any(call.classes.get(name) for name in OUTPUT_CLASSES))
        for call in calls
        if call.kind != "attempt"
    }


def find_prefixes(traffic: Sequence[Traffic], price: CandidatePricer) -> list[PrefixAdvice]:
    """Return by route and model how much of repeated prompt beginnings the provider's cache gave."""
    seen: dict[tuple[str | None, str | None, str], int] = {}
    groups: dict[tuple[str | None, str | None], list[tuple[Traffic, bool]]] = defaultdict(list)
    for call in traffic:
        if call.prefix_digest is None or not call.prefix_tokens:
            continue
        key = (call.provider, call.model, call.prefix_digest)
        before = seen.get(key)
        is_repeat = before is not None and call.start_ns - before <= PROVIDER_CACHE_S * 1_000_000_000
        groups[call.route, call.model].append((call, is_repeat))
        seen[key] = call.start_ns
    found = []
    for (route, model), calls in groups.items():
        again = [call for call, is_repeat in calls if is_repeat]
        if not again:
            continue
        repeated = sum(call.prefix_tokens or 0 for call in again)
        read = sum(min(call.classes.get("input_cache_read", 0), call.prefix_tokens or 0) for call in again)
        found.append(
            PrefixAdvice(
                route=route,
                model=model,
                n_calls=len(calls),
                n_repeats=len(again),
                prefix_tokens=repeated,
                read_tokens=sum(call.classes.get("input_cache_read", 0) for call in again),
                missed_share=Decimal(repeated - read) / repeated,
                saved_usd=_prefix_saving(again, price),
            )
        )
    return sorted(found, key=lambda one: -(one.saved_usd or _ZERO))


def _prefix_saving(calls: Sequence[Traffic], price: CandidatePricer) -> Decimal | None:
    total = _ZERO
    for call in calls:
        full = call.rates.get("input_uncached")
        cached = _cached_rate(call, price)
        if full is None or cached is None or cached >= Decimal(full):
            return None  # the same price for both is a price that nobody set for cached tokens
        missed = max(0, (call.prefix_tokens or 0) - call.classes.get("input_cache_read", 0))
        missed = min(missed, call.classes.get("input_uncached", 0))
        total += (Decimal(full) - cached) * missed / _MILLION
    return max(total, _ZERO)


def _cached_rate(call: Traffic, price: CandidatePricer) -> Decimal | None:
    told = call.rates.get("input_cache_read")
    if told is not None:
        return Decimal(told)
    if call.provider is None or call.model is None:
        return None
    cost = price(call.provider, call.model, Usage(input_cache_read=1), call.start_ns)
    return cost.usd * _MILLION if cost.usd is not None else None


def _price_all(calls: Sequence[Traffic], provider: str, model: str, price: CandidatePricer) -> Decimal | None:
    total = _ZERO
    for call in calls:
        usd = price(provider, model, Usage(**call.classes), call.start_ns).usd  # type: ignore[arg-type]  # counts
        if usd is None:
            return None
        total += usd
    return total
