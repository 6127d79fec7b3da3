"""The control application: REST, OTLP and health on FastAPI, one gate before all of them.

Pages are added by the composition root (`mounts`), since the console is a room of its own. Whatever is added,
by whomever: a route without a declared permission stops the start-up.
"""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.errors import BugError, CallerError, InvalidInput, NotFound, PenstockError
from penstock.control.api import (
    alerts,
    apps,
    cache,
    configuration,
    costs,
    dashboards,
    dataset_cleaning,
    datasets,
    deployments,
    evaluations,
    experiments,
    gates,
    health,
    jobs,
    judges,
    keys,
    knowledge,
    knowledge_erasure,
    knowledge_generations,
    knowledge_quality,
    knowledge_sources,
    loadtests,
    metrics,
    model_measurements,
    models,
    otlp,
    privacy,
    prompts,
    registry,
    routes,
    scores,
    secrets,
    sessions,
    trace_lists,
    traces,
    tuning,
    upkeep,
)
from penstock.control.authorize import check_declarations, find_caller, make_gate
from penstock.control.headers import SafeHeaders
from penstock.control.replies import error_reply, json_reply
from penstock.control.services import ControlServices
from penstock.telemetry.errors import IngestBusy

_log = logging.getLogger("penstock.control")
_ROUTERS = (
    otlp,  # first: routes are tried in this order, and these are asked most
    trace_lists,
    traces,
    scores,
    sessions,
    privacy,
    upkeep,
    costs,
    dashboards,
    alerts,
    gates,
    evaluations,
    experiments,
    registry,
    jobs,
    judges,
    keys,
    secrets,
    configuration,
    cache,
    apps,
    knowledge,
    knowledge_erasure,
    knowledge_generations,
    knowledge_quality,
    knowledge_sources,
    loadtests,
    dataset_cleaning,
    datasets,
    prompts,
    tuning,
    model_measurements,
    routes,
    deployments,
    metrics,
    models,
    health,
)
Mount = Callable[[FastAPI], None]


class NoSuchPath(NotFound):
    """Nothing is served under this path."""

    code = "PS-1654"


class WrongMethod(CallerError):
    """The path is served, but not for this method."""

    code = "PS-1655"
    status = 405


def create_control(services: ControlServices, *, mounts: Sequence[Mount] = ()) -> FastAPI:
    """Return the application; raise `BugError` when a route declares no permission.

    `mounts` add routes of other rooms (the console's pages). A page's errors are rendered by
    `app.state.error_page(request, error)` where a mount sets it.
    """
    app = FastAPI(
        title="Penstock",
        version=services.version,
        docs_url=None,  # FastAPI's documentation pages load scripts from a foreign host
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(make_gate(services.keys, services.sessions))],
        lifespan=_check_at_start,
    )
    app.state.error_page = None
    app.add_middleware(SafeHeaders)
    for module in _ROUTERS:
        app.include_router(module.create_router(services))

    @app.get("/api/openapi.json", include_in_schema=False)
    @needs(Permission.ROUTES_READ)
    def show_openapi() -> Response:
        return json_reply(app.openapi())

    for mount in mounts:
        mount(app)
    _add_error_handlers(app, services)
    check_declarations(app)
    return app


@asynccontextmanager
async def _check_at_start(app: FastAPI) -> AsyncIterator[None]:
    check_declarations(app)  # again: routes may have been added since
    yield


def _add_error_handlers(app: FastAPI, services: ControlServices) -> None:
    async def recognise(request: Request) -> None:
        """Find the caller where no route was met and so no gate asked: the page keeps their menu."""
        if request.method == "GET" and not hasattr(request.state, "caller"):
            with suppress(PenstockError):
                request.state.caller = await run_in_threadpool(
                    find_caller, request, {}, services.keys, services.sessions
                )

    async def on_penstock(request: Request, error: Exception) -> Response:
        assert isinstance(error, PenstockError)
        is_counted = isinstance(error, IngestBusy)  # thousands a minute in a flood
        if error.status >= 500 and not is_counted:
            _log.error("request failed", extra={"path": request.url.path, "code": error.code})
        return _answer(request, error)

    async def on_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return _answer(request, InvalidInput(f"{where}: {first['msg']}.", where=where))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if isinstance(error.__cause__, PenstockError):  # FastAPI wraps what is raised while it reads a body
            return await on_penstock(request, error.__cause__)
        await recognise(request)
        path = request.url.path
        if error.status_code == 404:
            return _answer(request, NoSuchPath(f"Nothing is served under {path}."))
        if error.status_code == 405:
            return _answer(request, WrongMethod(f"{path} is not served for {request.method}."))
        return _answer(request, InvalidInput(str(error.detail)))

    async def on_bug(request: Request, error: Exception) -> Response:
        _log.error("request broke", exc_info=error, extra={"path": request.url.path})
        return _answer(
            request, BugError("Something broke here.", hint="The log of the control process says what.")
        )

    app.add_exception_handler(PenstockError, on_penstock)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_bug)


def _answer(request: Request, error: PenstockError) -> Response:
    wants_page = "text/html" in request.headers.get("accept", "")
    is_page = not request.url.path.startswith(("/api/", "/v1/", "/healthz", "/readyz"))
    if wants_page and is_page and request.app.state.error_page is not None:
        page: Response = request.app.state.error_page(request, error)
        return page
    return error_reply(error)
