"""Every component in each of its states, for whoever changes the style sheet. Not in the navigation."""

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.console.charts import build_charts, sparkline
from penstock.console.exchanges import Turn
from penstock.console.pages.overview import Figure
from penstock.console.plots import Plot
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.store.spans.types import Bucket

START_NS = 1_763_700_000_000_000_000


@dataclass(frozen=True, kw_only=True)
class PatternsPage(Page):
    """Samples made of nothing but this file."""

    template: ClassVar[str] = "patterns.html"
    figures: tuple[Figure, ...]
    charts: tuple[Plot, ...]
    empty_charts: tuple[Plot, ...]
    spark: str
    turns: tuple[Turn, ...]
    states: tuple[str, ...] = ("ok", "error", "unset", "queued", "running", "done", "failed", "cancelled")


def make_series(n_calls: int) -> list[Bucket]:
    """Return a day of slices with a quiet night."""
    return [
        Bucket(
            start_ns=START_NS + hour * 3600 * 1_000_000_000,
            n_calls=n_calls * (hour % 12),
            n_errors=hour % 5 if n_calls else 0,
            cost_usd=Decimal(hour) / 1000 if n_calls else None,
            n_unpriced=0,
            n_without_usage=0,
            p95_ms=200.0 + 37 * (hour % 7) if n_calls and hour % 12 else None,
        )
        for hour in range(24)
    ]


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/-/patterns`."""
    del services
    router = APIRouter(include_in_schema=False)

    @router.get("/-/patterns")
    @needs(Permission.ROUTES_READ)
    def show_patterns(request: Request) -> Response:
        until_ns = START_NS + 24 * 3600 * 1_000_000_000
        page = PatternsPage(
            frame=renderer.frame(request, "Patterns", "", notice="A notice says what just happened."),
            figures=(
                Figure(name="Calls", value="12,345", detail="last 24 hours", href="/traces"),
                Figure(name="Failed", value="17", detail="0.1 % of calls", is_bad=True),
                Figure(name="Cost", value="–", detail="no price is known"),
            ),
            charts=build_charts(make_series(9), until_ns),
            empty_charts=build_charts(make_series(0), until_ns),
            spark=sparkline([3, 5, 2, None, 8, 9, 4]),
            turns=(
                Turn(role="system", text="Answer from the passages."),
                Turn(role="user", text="How long should a nap be?"),
                Turn(role="assistant", text="Ten to twenty minutes.", n_cut=1200),
            ),
        )
        return renderer.show(page)

    return router
