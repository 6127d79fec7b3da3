"""Keys and what they may do. A new key's text is shown on one page, once."""

from dataclasses import dataclass
from typing import ClassVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import actor_of, needs
from penstock.access.keys import check_routes
from penstock.access.permissions import Permission
from penstock.access.types import KeyInfo
from penstock.base.errors import InvalidInput
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices


@dataclass(frozen=True, kw_only=True)
class KeysPage(Page):
    """All keys; right after a creation also the new one's text."""

    template: ClassVar[str] = "keys.html"
    keys: tuple[KeyInfo, ...]
    new_key: str | None
    new_name: str | None
    routes: tuple[str, ...]
    """Names to choose from for a key that may call a few of them only."""
    gateway_url: str


def read_limit(text: str, what: str) -> int | None:
    """Return the limit, None for an empty field; raise `InvalidInput`."""
    text = text.strip().replace(",", "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        raise InvalidInput(f"{what} must be a whole number.", hint="Leave it empty for no limit.")
    return int(text)


def read_routes(text: str) -> tuple[str, ...] | None:
    """Return the names between commas or spaces, None when there are none: the key may call all."""
    return tuple(text.replace(",", " ").split()) or None


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/keys`."""
    router = APIRouter(include_in_schema=False)

    def known_routes() -> tuple[str, ...]:
        snapshot = services.read_snapshot()
        return tuple(route.name for route in snapshot.routes) if snapshot else ()

    def show(request: Request, new_key: str | None = None, new_name: str | None = None) -> Response:
        page = KeysPage(
            frame=renderer.frame(request, "Keys & access", "/keys"),
            keys=tuple(sorted(services.keys.list(), key=lambda key: (key.revoked_ns is not None, key.id))),
            new_key=new_key,
            new_name=new_name,
            routes=known_routes(),
            gateway_url=services.gateway_url,
        )
        return renderer.show(page)

    @router.get("/keys")
    @needs(Permission.KEYS_READ)
    def list_keys(request: Request) -> Response:
        return show(request)

    @router.post("/keys")
    @needs(Permission.KEYS_WRITE, Permission.KEYS_READ)
    def create_key(request: Request) -> Response:
        fields = request.state.caller.form
        name = fields.get("name", "").strip()
        routes = read_routes(fields.get("routes", ""))
        if known := known_routes():
            check_routes(routes or (), known)
        made = services.keys.create(
            name,
            (fields.get("scope", "call"),),
            requests_per_minute=read_limit(fields.get("requests_per_minute", ""), "Requests per minute"),
            tokens_per_minute=read_limit(fields.get("tokens_per_minute", ""), "Tokens per minute"),
            routes=routes,
        )
        services.publish_snapshot(actor_of(request.state.caller), f"create key {made.id}")
        return show(request, made.key, name)  # not a redirect: the text must not be in any URL or history

    @router.post("/keys/{key_id}/revoke")
    @needs(Permission.KEYS_WRITE)
    def revoke_key(request: Request, key_id: str) -> Response:
        services.keys.revoke(key_id)
        services.publish_snapshot(actor_of(request.state.caller), f"revoke key {key_id}")
        return RedirectResponse("/keys", status_code=303)

    return router
