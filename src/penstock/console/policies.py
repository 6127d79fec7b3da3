"""What a route does, in sentences: policies as a person would say them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from penstock.spec.routes import Deprecation, FaultKind, Route

_FAULTS: dict[FaultKind, str] = {
    "connect": "no connection",
    "timeout": "a timeout",
    "rate-limit": "a rate limit",
    "server-error": "a server error",
    "context-length": "a prompt that is too long",
    "content-filter": "a content filter",
}
_BALANCE = {
    "weighted": "Targets of a tier share calls by weight.",
    "random": "Each call goes to a random target of the lowest tier that works.",
    "least-busy": "Each call goes to the target with the fewest calls in flight.",
    "latency": "Each call goes to the target that answers soonest.",
    "cost": "Each call goes to the cheapest target.",
}


@dataclass(frozen=True, kw_only=True)
class Policy:
    """One policy: its name, and what it does."""

    name: str
    text: str
    is_off: bool = False


def tell_policies(route: Route) -> tuple[Policy, ...]:
    """Return what the route does with a call, in the order in which it matters."""
    return (
        Policy(name="Balance", text=_BALANCE[route.balance] + _sticky(route)),
        Policy(name="Deadline", text=_deadline(route), is_off=route.deadline_s is None),
        Policy(name="Retries", text=_retries(route), is_off=route.retry.max_attempts <= 1),
        Policy(name="Breaker", text=_breaker(route), is_off=route.breaker is None),
        Policy(name="Hedging", text=_hedge(route), is_off=route.hedge is None),
        Policy(name="Fallbacks", text=_fallbacks(route), is_off=not route.fallbacks),
        Policy(name="Cache", text=_cache(route), is_off=route.cache.mode == "off"),
        Policy(name="Losses", text=_losses(route)),
        Policy(
            name="Client leaves",
            text="The provider is left too."
            if route.cancel_upstream
            else "The reply is read to its end all the same.",
        ),
    )


def tell_deprecation(found: Deprecation | None, today: date) -> str | None:
    """Return what clients are told, None when nothing."""
    if found is None or (found.since is None and found.sunset is None):
        return None
    parts = []
    if found.since is not None:
        parts.append(f"deprecated {_since(found.since, today)}")
    if found.sunset is not None:
        is_over = date.fromisoformat(found.sunset) <= today
        parts.append(f"{'refused since' if is_over else 'refused from'} {found.sunset}")
    if found.replacement:
        parts.append(f"clients are sent to {found.replacement}")
    text = ", ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


def seconds(value: float) -> str:
    """Return 0.2 s, 5 s, 10 min, 2 h."""
    if value >= 3600 and value % 3600 == 0:
        return f"{value / 3600:g} h"
    if value >= 120 and value % 60 == 0:
        return f"{value / 60:g} min"
    return f"{value:g} s"


def _since(day: str, today: date) -> str:
    return f"{'since' if date.fromisoformat(day) <= today else 'from'} {day}"


def _sticky(route: Route) -> str:
    return "" if route.sticky == "none" else f" Calls of one {route.sticky} keep their target while it works."


def _deadline(route: Route) -> str:
    if route.deadline_s is None:
        return "None for the call as a whole; each attempt ends by its provider's bounds."
    return f"A call ends after {seconds(route.deadline_s)}, with all its attempts and its stream."


def _retries(route: Route) -> str:
    retry = route.retry
    if retry.max_attempts <= 1:
        return "None: the first failure is the answer."
    again = "" if retry.same_target else ", never the same target twice"
    return (
        f"Up to {retry.max_attempts} attempts over all targets{again}, on {_faults(retry.on)}; waits at most "
        f"{seconds(retry.max_s)} between two, and obeys Retry-After up to {seconds(retry.max_retry_after_s)}. "
        f"At most {_percent(retry.budget_ratio)} of recent calls may be retries."
    )


def _breaker(route: Route) -> str:
    breaker = route.breaker
    if breaker is None:
        return "None: every target is always tried."
    return (
        f"A target is left alone for {seconds(breaker.open_s)} when {_percent(breaker.failure_ratio)} of at least "
        f"{breaker.min_calls} calls within {seconds(breaker.window_s)} failed; then one call at a time tries it."
    )


def _hedge(route: Route) -> str:
    if route.hedge is None:
        return "None."
    return (
        f"After {seconds(route.hedge.after_s)} of silence a second target is asked too, for at most "
        f"{_percent(route.hedge.max_ratio)} of calls; whichever begins first serves."
    )


def _fallbacks(route: Route) -> str:
    if not route.fallbacks:
        return "None."
    parts = [f"{each.route} on {_faults(each.on)}" for each in route.fallbacks]
    return f"When no target can answer: {'; then '.join(parts)}."


def _cache(route: Route) -> str:
    cache = route.cache
    shared = " Equal requests in flight share one call." if cache.share_in_flight else ""
    if cache.mode == "off":
        return f"Off.{shared}"
    same = (
        "equal requests"
        if cache.mode == "exact"
        else f"requests that mean the same (similarity of at least {cache.threshold:g})"
    )
    return f"Replies to {same} are kept for {seconds(cache.ttl_s)}, shared within a {cache.scope}.{shared}"


def _losses(route: Route) -> str:
    return {
        "warn": "What a target cannot be told is left out and named in x-penstock-dropped.",
        "refuse": "A request that the target cannot be told whole is refused.",
        "drop": "What a target cannot be told is left out without a word.",
    }[route.on_loss]


def _faults(faults: Sequence[FaultKind]) -> str:
    words = [_FAULTS[each] for each in faults]
    if not words:
        return "nothing"
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _percent(share: float) -> str:
    return f"{100 * share:g} %"
