"""Configuration objects as pages show them: rows back as what gateways read, and who keeps them in words."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from penstock.console.ranges import HOUR_NS
from penstock.console.services import ConsoleServices
from penstock.deploy.live import TargetState
from penstock.deploy.object_views import ObjectView
from penstock.spec.limits import LimitRule
from penstock.spec.routes import PriceRow, Provider, Route, Target
from penstock.store.spans.traffic_queries import TrafficRow


@dataclass(frozen=True, kw_only=True)
class Owned:
    """Who keeps an object, and whether it is changed here."""

    owner: str
    """As a line says it: `penstock.toml, line 12`."""
    can_edit: bool
    advice: str
    """What to do instead where it cannot be edited."""


def tell_owner(view: ObjectView) -> Owned:
    """Return who keeps the object."""
    if view.owner == "database":
        return Owned(owner="kept here", can_edit=True, advice="")
    if view.owner == "settings":
        line = f", line {view.line}" if view.line else ""
        return Owned(
            owner=f"penstock.toml{line}",
            can_edit=False,
            advice=f"It stands in penstock.toml{line}: change it there, and it is taken up within a second. "
            "Or take it out of the file and make it here.",
        )
    if view.owner == "environment":
        return Owned(
            owner="environment",
            can_edit=False,
            advice="It is there because its key is in the environment. Make one of that name to use instead.",
        )
    if view.owner == "registry":
        return Owned(
            owner="registry",
            can_edit=False,
            advice="It follows the alias prod of the registry: move the alias to change it.",
        )
    return Owned(
        owner="built in", can_edit=False, advice="It is built in. Make one of that name to use instead."
    )


def read_provider(view: ObjectView) -> Provider:
    """Return a provider as gateways read it."""
    return msgspec.convert({"name": view.name, **view.row}, Provider, strict=False)


def read_route(view: ObjectView) -> Route:
    """Return a route as gateways read it."""
    return msgspec.convert({"name": view.name, **view.row}, Route, strict=False)


def read_rule(view: ObjectView) -> LimitRule:
    """Return a limit rule as gateways read it."""
    return msgspec.convert({"name": view.name, **view.row}, LimitRule, strict=False)


def read_price(view: ObjectView) -> PriceRow:
    """Return a price as gateways read it."""
    return msgspec.convert(dict(view.row), PriceRow, strict=False)


@dataclass(frozen=True, kw_only=True)
class TargetLine:
    """One target of a route with what is known of it right now."""

    target: Target
    share: Decimal | None
    """Of its tier, in percent; None where weights do not decide."""
    is_known_provider: bool
    state: TargetState | None

    has_key: bool = True
    """False where its provider wants a key that is not there."""

    @property
    def word(self) -> str:
        """How it is, in a word or three."""
        return health_word(self.state) if self.has_key else NO_KEY


NO_KEY = "no key"
NEVER = "not asked yet"
QUIET = "not asked lately"


def health_word(state: TargetState | None) -> str:
    """Return how a target is: open, probing, resting, failing, healthy, or that nothing is known of it.

    A closed circuit alone says nothing: it may not have seen enough calls to open. Only answers make it healthy.
    """
    if state is None:
        return NEVER
    if state.circuit == "open":
        return "open"
    if state.circuit == "half-open":
        return "probing"
    if state.is_resting:
        return "resting"
    if state.n_good == state.n_bad == 0:
        return QUIET
    return "healthy" if state.n_good >= state.n_bad else "failing"


def tell_traffic(row: TrafficRow | None, window_ns: int) -> str | None:
    """Return how the newest calls of the last hour went, healthy or failing; None when there were none.

    `window_ns` is what the slices of the row cover together.
    """
    if row is None:
        return None
    n_recent = -(-len(row.calls) * HOUR_NS // window_ns)
    for n_calls, n_bad in list(zip(row.calls, row.errors, strict=True))[: -n_recent - 1 : -1]:
        if n_calls:
            return "healthy" if n_bad < n_calls else "failing"
    return None


def list_targets(
    services: ConsoleServices, route: Route, targets: Iterable[Target], providers: dict[str, Provider]
) -> tuple[TargetLine, ...]:
    """Return the targets by tier, with their state."""
    wanted = sorted(targets, key=lambda each: each.tier)
    weights: dict[int, float] = {}
    for each in wanted:
        weights[each.tier] = weights.get(each.tier, 0.0) + each.weight
    lines = []
    keyless = {
        name
        for name in {each.provider for each in wanted} & providers.keys()
        if services.live.provider_key(providers[name]).state == "missing"
    }
    for each in wanted:
        provider = providers.get(each.provider)
        share = None
        if route.balance == "weighted":
            share = Decimal(str(round(100 * each.weight / weights[each.tier], 1))).normalize()
        lines.append(
            TargetLine(
                target=each,
                share=share,
                is_known_provider=provider is not None,
                state=services.live.target(route, each, provider) if provider is not None else None,
                has_key=each.provider not in keyless,
            )
        )
    return tuple(lines)


def sum_health(words: Iterable[str], traffic: str | None = None) -> str:
    """Return the word for several targets: `degraded` where some of them can answer and some cannot.

    `traffic` says how their newest calls went, for when the targets themselves were quiet in the last seconds.
    """
    found = list(words)
    told = [word for word in found if word not in {NEVER, QUIET}]
    if found and all(word == NO_KEY for word in found):
        return NO_KEY
    if traffic is not None and all(word == NO_KEY for word in told):
        told.append(traffic)
    if not told:
        return QUIET if QUIET in found else NEVER
    kinds = set(told)
    if len(kinds) == 1 and NO_KEY not in kinds:
        return told[0]
    if kinds <= {NO_KEY, "failing", "open"}:
        return "failing" if kinds - {NO_KEY} else "degraded"
    return "degraded"
