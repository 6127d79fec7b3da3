"""Upstream keys: entered, replaced, deleted; names, hosts and uses are shown, what they say never."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import actor_of, needs
from penstock.access.permissions import Permission
from penstock.access.secrets import SecretInfo
from penstock.base.errors import PenstockError
from penstock.console.objects import read_provider
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices


@dataclass(frozen=True, kw_only=True)
class SecretLine:
    """One secret and the providers that are sent it."""

    info: SecretInfo
    used_by: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class SecretsPage(Page):
    """All secrets; after a mistake also what was wrong, but never the text that was entered."""

    template: ClassVar[str] = "secrets.html"
    lines: tuple[SecretLine, ...]
    addresses: tuple[tuple[str, str], ...]
    """Providers and the address each has, to choose a host from."""
    problem: str | None
    hint: str | None
    name: str
    url: str


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/secrets` and below."""
    router = APIRouter(include_in_schema=False)
    secrets = services.secrets

    def show(request: Request, notice: str | None = None, error: PenstockError | None = None) -> Response:
        fields = request.state.caller.form if error else {}
        providers = [read_provider(view) for view in services.configuration.list("provider")]
        page = SecretsPage(
            frame=renderer.frame(request, "Secrets", "/configuration", notice=notice),
            lines=tuple(
                SecretLine(info=info, used_by=services.users_of_secret(info.name)) for info in secrets.list()
            ),
            addresses=tuple((each.name, each.base_url) for each in providers if not each.local),
            problem=error.message if error else None,
            hint=error.hint if error else None,
            name=fields.get("name", ""),
            url=fields.get("url", ""),
        )
        return renderer.show(page, status=error.status if error else 200)

    def done(actor: str, note: str, notice: str) -> Response:
        services.publish_snapshot(actor, note)
        return RedirectResponse(f"/secrets?{urlencode({'notice': notice})}", status_code=303)

    @router.get("/secrets")
    @needs(Permission.SECRETS_READ, Permission.CONFIG_READ)
    def list_secrets(request: Request, notice: str | None = None) -> Response:
        return show(request, notice)

    @router.post("/secrets")
    @needs(Permission.SECRETS_WRITE, Permission.SECRETS_READ, Permission.CONFIG_READ)
    def create_secret(request: Request) -> Response:
        fields, actor = request.state.caller.form, actor_of(request.state.caller)
        name = fields.get("name", "").strip()
        try:
            secrets.create(name, fields.get("value", ""), url=fields.get("url", "").strip(), actor=actor)
        except PenstockError as error:
            return show(request, error=error)
        return done(actor, f"set secret {name}", f"The secret {name} is kept, sealed. Name it in a provider.")

    @router.post("/secrets/{name}/rotate")
    @needs(Permission.SECRETS_WRITE, Permission.SECRETS_READ, Permission.CONFIG_READ)
    def rotate_secret(request: Request, name: str) -> Response:
        actor = actor_of(request.state.caller)
        try:
            secrets.rotate(name, request.state.caller.form.get("value", ""), actor=actor)
        except PenstockError as error:
            return show(request, error=error)
        return done(actor, f"rotate secret {name}", f"The secret {name} is replaced.")

    @router.post("/secrets/{name}/delete")
    @needs(Permission.SECRETS_WRITE, Permission.SECRETS_READ, Permission.CONFIG_READ)
    def delete_secret(request: Request, name: str) -> Response:
        try:
            secrets.delete(name, used_by=services.users_of_secret(name))
        except PenstockError as error:
            return show(request, error=error)
        return done(actor_of(request.state.caller), f"delete secret {name}", f"The secret {name} is deleted.")

    return router
