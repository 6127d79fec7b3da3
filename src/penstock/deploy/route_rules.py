"""What routes must fulfil, each alone and all together. Pure."""

import datetime as dt
import math
from collections.abc import Collection, Iterator, Mapping

from penstock.deploy.row_problems import Found, is_header_text, not_a_share, not_over_zero
from penstock.spec.routes import CachePolicy, Deprecation, PinnedVersion, Route, Target

MAX_TIER = 15
MAX_CHAIN = 3
"""Fallbacks that one call can pass through."""


class RouteNames:
    """Every name that answers: routes, their pins, and `PROVIDER/*` for all models of a provider."""

    def __init__(self, routes: Collection[Route]) -> None:
        self.routes: Mapping[str, Route] = {route.name: route for route in routes}
        self._chains: dict[str, list[str]] = {}
        self._pinned = {f"{route.name}@{pin.name}" for route in routes for pin in route.pins}

    def __contains__(self, name: object) -> bool:
        text = str(name)
        return text in self.routes or text in self._pinned or f"{text.partition('/')[0]}/*" in self.routes

    def find_cycle(self, start: str) -> list[str] | None:
        """Return the shortest way over fallbacks from a route back to itself, or None."""
        ways, seen = [[start]], {start}
        while ways:
            way = ways.pop(0)
            found = self.routes.get(way[-1])
            for fallback in found.fallbacks if found is not None else ():
                if fallback.route == start:
                    return [*way, start]
                if fallback.route not in seen:
                    seen.add(fallback.route)
                    ways.append([*way, fallback.route])
        return None

    def longest_chain(self, start: str) -> list[str]:
        """Return the longest way over fallbacks from a route, itself left out. Circles are told by `find_cycle`."""
        known = self._chains.get(start)
        if known is not None:
            return known
        self._chains[start] = []  # what comes round to here ends here
        found = self.routes.get(start)
        ways = [
            [fallback.route, *self.longest_chain(fallback.route)]
            for fallback in (found.fallbacks if found is not None else ())
        ]
        self._chains[start] = max(ways, key=len, default=[])[: MAX_CHAIN + 1]
        return self._chains[start]


def route_problems(route: Route, providers: frozenset[str], names: RouteNames) -> Iterator[Found]:
    """Yield what is wrong with a route among these others."""
    if not is_header_text(route.name, longest=256):
        yield (
            "name",
            "its name must be 1 to 256 printable ASCII characters, because it stands in reply headers",
        )
    if route.version is not None and not is_header_text(route.version, longest=512):
        yield "version", "its version must be printable ASCII, because it stands in reply headers"
    yield from _target_problems(route.targets, providers)
    yield from not_over_zero(route, "deadline_s")
    yield from _policy_problems(route)
    yield from _fallback_problems(route, names)
    yield from _cache_problems(route.cache, names)
    yield from _deprecation_problems(route.deprecation, names, own=route.name)
    yield from _pin_problems(route, route.pins, providers, names)


def _target_problems(targets: tuple[Target, ...], providers: frozenset[str]) -> Iterator[Found]:
    if not targets:
        yield "targets", "it has no target"
    for target in targets:
        if target.provider not in providers:
            known = ", ".join(sorted(providers)) or "none"
            yield (
                "targets",
                f"its target names the provider {target.provider!r}, which is not there; known: {known}",
            )
        if not 1 <= len(target.model) <= 256 or not target.model.isprintable():
            yield "targets", f"the model {target.model[:40]!r} must be 1 to 256 printable characters"
        if not math.isfinite(target.weight) or target.weight <= 0:
            yield (
                "targets",
                f"the weight of {target.provider}/{target.model} must be over 0, not {target.weight}",
            )
        if not 0 <= target.tier <= MAX_TIER:
            yield "targets", f"the tier of {target.provider}/{target.model} must be 0 to {MAX_TIER}"
        yield from (("targets", text) for _, text in not_over_zero(target, "timeout_s"))


def _policy_problems(route: Route) -> Iterator[Found]:
    retry, breaker, hedge = route.retry, route.breaker, route.hedge
    found: list[Found] = []
    if not 1 <= retry.max_attempts <= 20:
        found.append(("retry", f"max_attempts must be 1 to 20, not {retry.max_attempts}"))
    found += [("retry", text) for _, text in not_over_zero(retry, "base_s", "max_s")]
    found += [("retry", text) for _, text in not_a_share(retry, "budget_ratio")]
    if not 0 <= retry.max_retry_after_s < math.inf:
        found.append(("retry", f"max_retry_after_s must not be negative, not {retry.max_retry_after_s}"))
    if retry.base_s > retry.max_s:
        found.append(("retry", f"base_s {retry.base_s:g} is over max_s {retry.max_s:g}"))
    if breaker is not None:
        found += [
            ("breaker", text) for _, text in not_over_zero(breaker, "failure_ratio", "window_s", "open_s")
        ]
        found += [("breaker", text) for _, text in not_a_share(breaker, "failure_ratio")]
        if breaker.min_calls < 1:
            found.append(("breaker", f"min_calls must be at least 1, not {breaker.min_calls}"))
    if hedge is not None:
        found += [("hedge", text) for _, text in not_over_zero(hedge, "after_s")]
        found += [("hedge", text) for _, text in not_a_share(hedge, "max_ratio")]
    yield from ((field, f"{field}: {text}") for field, text in found)


def _fallback_problems(route: Route, names: RouteNames) -> Iterator[Found]:
    seen: set[str] = set()
    for fallback in route.fallbacks:
        if fallback.route in seen:
            yield "fallbacks", f"its fallback {fallback.route!r} stands there twice"
        seen.add(fallback.route)
        if fallback.route == route.name:
            yield "fallbacks", "it falls back to itself"
        elif fallback.route not in names:
            yield "fallbacks", f"it falls back to the route {fallback.route!r}, which is not there"
        else:
            other = names.routes.get(fallback.route, route)
            if "any" not in {route.kind, other.kind} and route.kind != other.kind:
                yield "fallbacks", f"its fallback {other.name!r} serves {other.kind}, not {route.kind}"
        if not fallback.on:
            yield "fallbacks", f"its fallback {fallback.route!r} names no fault in `on`"
    if route.name not in seen and (way := names.find_cycle(route.name)):
        yield "fallbacks", f"its fallbacks go round in a circle: {' → '.join(way)}"
    elif len(chain := names.longest_chain(route.name)) > MAX_CHAIN:
        shown = " → ".join([route.name, *chain])
        yield "fallbacks", f"its fallbacks are a chain of more than {MAX_CHAIN}: {shown}"


def _cache_problems(cache: CachePolicy, names: RouteNames) -> Iterator[Found]:
    if cache.mode == "off":
        return
    for field in ("ttl_s", "max_entry_bytes", "max_messages"):
        if getattr(cache, field) < 1:
            yield "cache", f"cache: {field} must be at least 1, not {getattr(cache, field)}"
    yield from (("cache", f"cache: {text}") for _, text in not_a_share(cache, "threshold", "check_ratio"))
    if cache.mode == "semantic":
        if cache.embedding_route not in names:
            yield "cache", f"cache: the embedding_route {cache.embedding_route!r} is not there"
        elif (other := names.routes.get(cache.embedding_route)) and other.kind not in {"embedding", "any"}:
            yield "cache", f"cache: the embedding_route {other.name!r} serves {other.kind}, not embeddings"


def _deprecation_problems(told: Deprecation | None, names: RouteNames, *, own: str) -> Iterator[Found]:
    if told is None:
        return
    days: dict[str, dt.date] = {}
    for field in ("since", "sunset"):
        written: str | None = getattr(told, field)
        if written is None:
            continue
        try:
            days[field] = dt.date.fromisoformat(written)
        except ValueError:
            yield (
                "deprecation",
                f"deprecation: {field} must be a date written YYYY-MM-DD, not {written[:20]!r}",
            )
    if len(days) == 2 and days["sunset"] < days["since"]:
        yield "deprecation", f"deprecation: sunset {told.sunset} is before since {told.since}"
    if not days:
        yield "deprecation", "deprecation: since or sunset must say when"
    if told.replacement is not None and (told.replacement == own or told.replacement not in names):
        yield "deprecation", f"deprecation: the replacement {told.replacement!r} is no other route"


def _pin_problems(
    route: Route, pins: tuple[PinnedVersion, ...], providers: frozenset[str], names: RouteNames
) -> Iterator[Found]:
    seen: set[str] = set()
    for pin in pins:
        full = f"{route.name}@{pin.name}"
        if not is_header_text(pin.name, longest=64) or "@" in pin.name or "/" in pin.name:
            yield (
                "pins",
                f"the pin {pin.name[:40]!r} must be 1 to 64 printable ASCII characters without @ and /",
            )
        if pin.name in seen:
            yield "pins", f"the pin {pin.name!r} stands there twice"
        seen.add(pin.name)
        if full in names.routes:
            yield "pins", f"{full!r} is also the name of a route"
        if pin.version is not None and not is_header_text(pin.version, longest=512):
            yield "pins", f"the version of the pin {pin.name!r} must be printable ASCII"
        for _, text in (
            *_target_problems(pin.targets, providers),
            *_deprecation_problems(pin.deprecation, names, own=full),
        ):
            yield "pins", f"pin {pin.name!r}: {text}"
