"""Prices the operator set."""

from dataclasses import dataclass
from typing import ClassVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.console.objects import Owned, read_price, tell_owner
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.spec.routes import PriceRow


@dataclass(frozen=True, kw_only=True)
class PricesPage(Page):
    """All prices of one's own: name, row, owner, version."""

    template: ClassVar[str] = "prices.html"
    lines: tuple[tuple[str, PriceRow, Owned, int | None], ...]


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/prices`."""
    router = APIRouter(include_in_schema=False)

    @router.get("/prices")
    @needs(Permission.CONFIG_READ)
    def list_prices(request: Request, notice: str | None = None) -> Response:
        page = PricesPage(
            frame=renderer.frame(request, "Prices", "/configuration", notice=notice),
            lines=tuple(
                (view.name, read_price(view), tell_owner(view), view.version)
                for view in services.configuration.list("price")
            ),
        )
        return renderer.show(page)

    return router
