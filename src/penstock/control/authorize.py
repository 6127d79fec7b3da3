"""One gate before every route: reads the endpoint's declaration, finds the caller, lets in or refuses.

A caller shows a bearer key, or a console session cookie. A session that changes something must also send its
form token; a bearer key need not, since no browser sends one by itself.
"""

from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import parse_qsl

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.routing import BaseRoute

from penstock.access.declarations import Caller, check_caller, declared_permissions
from penstock.access.keys import KeyService
from penstock.access.sessions import SessionSigner
from penstock.base.errors import BugError, Forbidden, InvalidInput, Unauthenticated
from penstock.control.headers import FORM_TYPE, SESSION_COOKIE, content_type
from penstock.spec.routes import KeyRow

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def make_gate(keys: KeyService, sessions: SessionSigner) -> Callable[[Request], Awaitable[None]]:
    """Return the dependency that stands before every route of the application."""

    async def gate(request: Request) -> None:
        permissions = declared_permissions(request.scope.get("endpoint"))
        if permissions is None:
            raise BugError("This route declares no permission.", path=request.url.path)
        form = await read_form(request)
        caller = await run_in_threadpool(find_caller, request, form, keys, sessions)
        request.state.caller = caller
        check_caller(caller, permissions)

    return gate


def find_caller(request: Request, form: dict[str, str], keys: KeyService, sessions: SessionSigner) -> Caller:
    """Return who asks; raise `Unauthenticated` for a wrong key, `Forbidden` for a missing form token."""
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and secret:
        key = keys.verify(secret.strip())
        if key is None:
            raise Unauthenticated("This key is not known here, or it was revoked or has expired.")
        return Caller(key=key, form=form)
    cookie = request.cookies.get(SESSION_COOKIE)
    session = sessions.read(cookie) if cookie else None
    if session is None or (key := find_key(keys, session.key_id)) is None:
        return Caller(form=form)
    if request.method not in _READING:
        token = request.headers.get("x-csrf-token") or form.get("csrf_token", "")
        if not sessions.is_csrf_token(session, token):
            raise Forbidden(
                "The form's token is missing or old.", hint="Go back, reload the page, and send it again."
            )
    return Caller(key=key, csrf_token=sessions.csrf_token(session), form=form)


def find_key(keys: KeyService, key_id: str) -> KeyRow | None:
    """Return the key with this id while it is valid."""
    return keys.find(key_id)


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a posted form (`application/x-www-form-urlencoded`), empty for anything else."""
    if request.method in _READING or content_type(request.headers) != FORM_TYPE:
        return {}
    try:
        pairs = parse_qsl((await request.body()).decode(), keep_blank_values=True, max_num_fields=2000)
    except ValueError as error:
        raise InvalidInput("The form could not be read.") from error
    return dict(pairs)


def check_declarations(app: FastAPI) -> None:
    """Raise `BugError` naming every route that does not declare its permission."""
    bare = sorted(f"{route}" for route in _walk(app.routes) if _is_bare(route))
    if bare:
        raise BugError(
            f"{len(bare)} routes declare no permission: {', '.join(bare)}",
            hint="Put @needs(Permission.…) or @open_to_all(reason) on the endpoint.",
        )


def _walk(routes: Iterable[BaseRoute]) -> Iterable[BaseRoute]:
    for route in routes:
        # FastAPI keeps an included router as one entry and looks into it per request.
        router = getattr(route, "original_router", route)
        below = getattr(router, "routes", None)
        if below and getattr(route, "endpoint", None) is None:
            yield from _walk(below)
        else:
            yield route


def _is_bare(route: BaseRoute) -> bool:
    return declared_permissions(getattr(route, "endpoint", None)) is None
