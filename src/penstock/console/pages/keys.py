"""Keys and what they may do. A new key's text is shown on one page, once."""

from dataclasses import dataclass
from typing import ClassVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import needs
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
    gateway_url: str


def read_limit(text: str, what: str) -> int | None:
    """Return the limit, None for an empty field; raise `InvalidInput`."""
    text = text.strip().replace(",", "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        raise InvalidInput(f"{what} must be a whole number.", hint="Leave it empty for no limit.")
    return int(text)


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/keys`."""
    router = APIRouter(include_in_schema=False)

    def show(request: Request, new_key: str | None = None, new_name: str | None = None) -> Response:
        page = KeysPage(
            frame=renderer.frame(request, "Keys & access", "/keys"),
            keys=tuple(sorted(services.keys.list(), key=lambda key: (key.revoked_ns is not None, key.id))),
            new_key=new_key,
            new_name=new_name,
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
        made = services.keys.create(
            name,
            (fields.get("scope", "call"),),
            requests_per_minute=read_limit(fields.get("requests_per_minute", ""), "Requests per minute"),
            tokens_per_minute=read_limit(fields.get("tokens_per_minute", ""), "Tokens per minute"),
        )
        services.publish_snapshot()
        return show(request, made.key, name)  # not a redirect: the text must not be in any URL or history

    @router.post("/keys/{key_id}/revoke")
    @needs(Permission.KEYS_WRITE)
    def revoke_key(key_id: str) -> Response:
        services.keys.revoke(key_id)
        services.publish_snapshot()
        return RedirectResponse("/keys", status_code=303)

    return router
