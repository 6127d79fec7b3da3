"""Signing in with a key, signing out, and the theme."""

from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import quote, urlsplit

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import open_to_all
from penstock.access.permissions import Permission, permissions_of
from penstock.base.errors import Forbidden
from penstock.console.rendering import THEME_COOKIE, THEMES, Page, Renderer
from penstock.console.services import ConsoleServices

SESSION_COOKIE = "penstock_session"


@dataclass(frozen=True, kw_only=True)
class SignInPage(Page):
    """The form, and why the last try failed."""

    template: ClassVar[str] = "signin.html"
    next: str
    problem: str | None


def signin_url(request: Request) -> str:
    """Return where to sign in, coming back to this page."""
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return "/signin" if here == "/" else f"/signin?next={quote(here, safe='')}"


def safe_next(text: str) -> str:
    """Return `text` if it is a path of this console, else `/`: nobody is sent elsewhere."""
    if not text.startswith("/") or text.startswith("//") or "\\" in text or not text.isprintable():
        return "/"
    parts = urlsplit(text)
    return text if not parts.scheme and not parts.netloc else "/"


def check_origin(request: Request) -> None:
    """Raise `Forbidden` when a browser says that the form came from another site."""
    origin = request.headers.get("origin")
    if origin and origin != "null" and urlsplit(origin).netloc != request.headers.get("host", ""):
        raise Forbidden("This form was sent from another site.")


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/signin`, `/signout` and `/theme`."""
    router = APIRouter(include_in_schema=False)

    def form(request: Request, target: str, problem: str | None) -> Response:
        page = SignInPage(frame=renderer.frame(request, "Sign in", ""), next=target, problem=problem)
        return renderer.show(page, status=200 if problem is None else 401)

    @router.get("/signin")
    @open_to_all("this is where a key is shown")
    def show_signin(request: Request, next: str = "/") -> Response:  # noqa: A002 - the usual name in URLs
        if request.state.caller.key is not None:
            return RedirectResponse(safe_next(next), status_code=303)
        return form(request, safe_next(next), None)

    @router.post("/signin")
    @open_to_all("this is where a key is shown")
    def sign_in(request: Request) -> Response:
        check_origin(request)
        fields = request.state.caller.form
        target = safe_next(fields.get("next", "/"))
        key = services.keys.verify(fields.get("key", "").strip())
        if key is None:
            return form(request, target, "This key is not known here, or it was revoked.")
        if Permission.TRACES_READ not in permissions_of(key.scopes):
            return form(request, target, f"The key “{key.name}” may call models, not read the console.")
        reply = RedirectResponse(target, status_code=303)
        reply.set_cookie(
            SESSION_COOKIE,
            services.sessions.issue(key.id),
            max_age=services.sessions.lifetime_s,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return reply

    @router.post("/signout")
    @open_to_all("ending one's own session needs no right")
    def sign_out() -> Response:
        reply = RedirectResponse("/signin", status_code=303)
        reply.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict")
        return reply

    @router.post("/theme")
    @open_to_all("light or dark is nobody's secret")
    def set_theme(request: Request) -> Response:
        check_origin(request)
        fields = request.state.caller.form
        theme = fields.get("theme", "auto")
        reply = RedirectResponse(safe_next(fields.get("next", "/")), status_code=303)
        if theme in THEMES:
            reply.set_cookie(THEME_COOKIE, theme, max_age=31_536_000, samesite="strict", httponly=True)
        return reply

    return router
