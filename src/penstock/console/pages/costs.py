"""Money: what calls cost, by whom and for what, why one of them cost what it did, and what could be saved."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.clock import now_ns
from penstock.console.formats import format_calls, format_count, format_money, format_share
from penstock.console.limit_use import RuleUse, list_use
from penstock.console.objects import read_rule
from penstock.console.pages.overview import Figure
from penstock.console.ranges import RANGES, Window, read_window
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.store.spans.ledger_types import CostQuery, CostRow
from penstock.traces.costs.advice import Advice
from penstock.traces.costs.service import CostExplanation

ACTIVE = "/cost"
DIMENSIONS = (
    "model",
    "provider",
    "key",
    "user",
    "prompt",
    "route",
    "step",
    "project",
    "session",
    "day",
    "source",
)
_FILTERS = ("project", "key", "user", "route", "provider", "model")
"""What a sum can be narrowed to."""
_TRACE_FILTERS = {
    "key": "key_id",
    "route": "route",
    "model": "model",
    "provider": "provider",
    "session": "session_id",
}
MAX_ROWS = 100
MAX_ADVICE = 8


@dataclass(frozen=True, kw_only=True)
class CostLine:
    """One group of a sum."""

    label: str
    is_unknown: bool
    """Whether the calls do not say."""
    row: CostRow
    pct: float
    """Against the dearest group."""
    narrow_href: str | None
    traces_href: str | None


@dataclass(frozen=True, kw_only=True)
class CostPage(Page):
    """Sums of one window by one dimension."""

    template: ClassVar[str] = "cost.html"
    window: Window
    ranges: tuple[tuple[str, str], ...]
    by: str
    dimensions: tuple[tuple[str, str], ...]
    """Name and link."""
    filters: tuple[tuple[str, str, str], ...]
    """Dimension, value, and the link that takes it away."""
    base: str
    """Link to this page without a range."""
    figures: tuple[Figure, ...]
    lines: tuple[CostLine, ...]
    n_hidden: int
    total: CostRow
    budgets: tuple[RuleUse, ...]
    is_first_day: bool


@dataclass(frozen=True, kw_only=True)
class AdvicePage(Page):
    """What recorded traffic would have cost otherwise."""

    template: ClassVar[str] = "cost_advice.html"
    window: Window
    ranges: tuple[tuple[str, str], ...]
    advice: Advice
    max_rows: int = MAX_ADVICE


@dataclass(frozen=True, kw_only=True)
class CallCostPage(Page):
    """Why the calls of a trace cost what they did."""

    template: ClassVar[str] = "cost_call.html"
    trace_id: str
    calls: tuple[CostExplanation, ...]
    total: Decimal | None
    """Of the calls whose cost is known; None when none is."""
    n_unpriced: int


def build_figures(total: CostRow, window: Window) -> tuple[Figure, ...]:
    """Return the strip of figures, with what the sum leaves out."""
    unpriced = format_calls(total.n_unpriced) if total.n_unpriced else "none"
    return (
        Figure(name="Cost", value=format_money(total.cost_usd), detail=window.label.lower()),
        Figure(
            name="Billed requests",
            value=format_count(total.n_calls),
            detail=f"{format_count(total.input_tokens)} tokens in, {format_count(total.output_tokens)} out",
        ),
        Figure(
            name="Without a price",
            value=format_share(total.n_unpriced, total.n_calls),
            detail=f"{unpriced}; not in the sum",
            is_bad=bool(total.n_unpriced),
        ),
        Figure(
            name="Estimated",
            value=format_share(total.n_estimated, total.n_calls),
            detail=f"{format_money(total.estimated_usd)} of the sum rest on counted text"
            if total.n_estimated
            else "every provider told its tokens",
        ),
        Figure(
            name="Saved by the cache",
            value=format_money(total.saved_usd),
            detail=f"{format_calls(total.n_cached)} answered from it",
        ),
    )


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/cost` and below."""
    router = APIRouter(include_in_schema=False)
    costs = services.costs

    @router.get("/cost")
    @needs(Permission.COST_READ, Permission.KEYS_READ, Permission.CONFIG_READ)
    def show_costs(request: Request, range: str = "7d", by: str = "model") -> Response:  # noqa: A002 - the word in the URL
        now = now_ns()
        by = by if by in DIMENSIONS else "model"
        window = read_window(range if range in RANGES else "7d", None, None, now_ns=now)
        asked: dict[str, Any] = {
            name: value for name in _FILTERS if (value := request.query_params.get(name))
        }
        query = CostQuery(since_ns=window.since_ns or 0, until_ns=window.until_ns or now, **asked)
        report = costs.sum_costs(query, [by])
        names = {key.id: key.name for key in services.keys.list()}
        rows = report.rows if by != "day" else sorted(report.rows, key=lambda row: row.group["day"] or "")
        page = CostPage(
            frame=renderer.frame(request, "Cost", ACTIVE),
            window=window,
            ranges=tuple((name, label) for name, (label, _) in RANGES.items()),
            by=by,
            dimensions=tuple((name, _link(window, name, asked)) for name in DIMENSIONS),
            filters=tuple(
                (
                    name,
                    names.get(value, value),
                    _link(window, by, {k: v for k, v in asked.items() if k != name}),
                )
                for name, value in asked.items()
            ),
            base="/cost?" + urlencode({"by": by, **asked}) + "&range=",
            figures=build_figures(report.total, window),
            lines=build_lines(rows[:MAX_ROWS], by, window, asked, names),
            n_hidden=max(0, len(rows) - MAX_ROWS),
            total=report.total,
            budgets=_budgets(services, names, now),
            is_first_day=not report.total.n_calls
            and not asked
            and not costs.sum_costs(CostQuery(), []).total.n_calls,
        )
        return renderer.show(page)

    @router.get("/cost/advice")
    @needs(Permission.COST_READ)
    def show_advice(request: Request, range: str = "7d") -> Response:  # noqa: A002 - the word in the URL
        now = now_ns()
        window = read_window(range if range in RANGES else "7d", None, None, now_ns=now)
        query = CostQuery(since_ns=window.since_ns or 0, until_ns=window.until_ns or now)
        page = AdvicePage(
            frame=renderer.frame(request, "What could be saved", ACTIVE),
            window=window,
            ranges=tuple((name, label) for name, (label, _) in RANGES.items()),
            advice=costs.advise(query),
        )
        return renderer.show(page)

    @router.get("/cost/calls/{identity}")
    @needs(Permission.COST_READ)
    def explain_call(request: Request, identity: str) -> Response:
        calls = costs.explain(identity)
        known = [each.call.cost_usd for each in calls if each.call.cost_usd is not None]
        page = CallCostPage(
            frame=renderer.frame(request, "Why this cost", ACTIVE),
            trace_id=calls[0].call.trace_id,
            calls=tuple(calls),
            total=sum(known, Decimal(0)) if known else None,
            n_unpriced=len(calls) - len(known),
        )
        return renderer.show(page)

    return router


def build_lines(
    rows: Sequence[CostRow], by: str, window: Window, asked: dict[str, str], names: dict[str, str]
) -> tuple[CostLine, ...]:
    """Return the groups with bars against the dearest, and links to what is in them."""
    dearest = max((row.cost_usd for row in rows if row.cost_usd is not None), default=Decimal(0))
    most = max((row.n_calls for row in rows), default=1)
    lines = []
    for row in rows:
        value = row.group[by]
        share = float((row.cost_usd or 0) / dearest) if dearest else row.n_calls / most
        narrow = _link(window, _next(by, asked), {**asked, by: value}) if value and by in _FILTERS else None
        traces = None
        if value and by in _TRACE_FILTERS:
            traces = "/traces?" + urlencode({"range": window.name or "7d", _TRACE_FILTERS[by]: value})
        lines.append(
            CostLine(
                label=names.get(value, value) if value else "not said",
                is_unknown=value is None,
                row=row,
                pct=round(100 * share, 1),
                narrow_href=narrow,
                traces_href=traces,
            )
        )
    return tuple(lines)


def _next(by: str, asked: dict[str, str]) -> str:
    """Return what to look at within one group: the first dimension that is not fixed yet."""
    return next((each for each in DIMENSIONS if each != by and each not in asked), "day")


def _link(window: Window, by: str, asked: dict[str, str]) -> str:
    return "/cost?" + urlencode({"range": window.name or "7d", "by": by, **asked})


def _budgets(services: ConsoleServices, names: dict[str, str], now: int) -> tuple[RuleUse, ...]:
    rules = [rule for view in services.configuration.list("limit") if (rule := read_rule(view)).unit == "usd"]
    return list_use(rules, services.live.counters() or (), names, now_s=now / 1e9) if rules else ()
