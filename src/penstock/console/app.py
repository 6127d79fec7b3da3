"""Mounts the console's pages on the control application. Every page declares the permission it needs."""

import mimetypes

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import open_to_all
from penstock.base.errors import NotFound, PenstockError
from penstock.console.pages import (
    alert_edit,
    alerts,
    apps,
    assets,
    configuration,
    costs,
    dashboard_edit,
    dashboards,
    dataset_proposals,
    datasets,
    deployments,
    editing,
    evaluation,
    evaluation_actions,
    evaluation_compare,
    evaluations,
    experiments,
    gates,
    jobs,
    judges,
    keys,
    knowledge,
    knowledge_actions,
    knowledge_base,
    knowledge_documents,
    knowledge_measured,
    knowledge_quality,
    knowledge_reports,
    knowledge_search,
    knowledge_sources,
    labels,
    limits,
    load_tests,
    models,
    overview,
    patterns,
    playground,
    playground_compare,
    prices,
    privacy,
    problem,
    prompt_edit,
    prompts,
    providers,
    record,
    routes,
    secrets,
    sessions,
    signin,
    trace,
    trace_panels,
    traces,
    tuning,
    tuning_new,
    tuning_run,
    users,
    views,
)
from penstock.console.rendering import Renderer, asset_url, load_static, static_version
from penstock.console.services import ConsoleServices

_PAGES = (
    overview,
    traces,
    trace_panels,
    views,
    trace,
    sessions,
    users,
    dashboard_edit,
    dashboards,
    alert_edit,
    alerts,
    record,
    privacy,
    evaluations,
    evaluation_actions,
    evaluation_compare,
    evaluation,
    experiments,
    gates,
    judges,
    prompt_edit,
    prompts,
    labels,
    playground,
    playground_compare,
    datasets,
    dataset_proposals,
    prices,
    knowledge,
    knowledge_search,
    knowledge_documents,
    knowledge_sources,
    knowledge_quality,
    knowledge_measured,
    knowledge_reports,
    knowledge_actions,
    knowledge_base,
    apps,
    tuning,
    tuning_new,
    tuning_run,
    models,
    deployments,
    load_tests,
    assets,
    routes,
    jobs,
    costs,
    keys,
    limits,
    providers,
    secrets,
    configuration,
    editing,
    signin,
    patterns,
)
_CACHED = "private, max-age=31536000, immutable"


def mount_console(app: FastAPI, services: ConsoleServices) -> None:
    """Add pages, static files and the error page to `app`."""
    renderer = Renderer(version=services.version, home_option=services.home_option)
    app.include_router(_create_static())
    for module in _PAGES:
        app.include_router(module.create_router(services, renderer))

    def error_page(request: Request, error: PenstockError) -> Response:
        if error.status == 401 and request.method == "GET":
            return RedirectResponse(signin.signin_url(request), status_code=303)
        return problem.show(renderer, request, error)

    app.state.error_page = error_page


def _create_static() -> APIRouter:
    router = APIRouter(include_in_schema=False)
    kept = load_static()

    @router.get("/static/{name}")
    @router.get("/static/{version}/{name}")
    @open_to_all("style sheets and scripts are the same for everybody, and the sign-in page needs them")
    def show_static(name: str, version: str = "") -> Response:
        body = kept.get(name)
        if body is None:
            raise NotFound(f"There is no file {name!r}.")
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        # a page of another version may still ask for its own: it gets what there is, to be asked for again
        is_current = version == static_version()
        return Response(
            body, media_type=kind, headers={"cache-control": _CACHED if is_current else "no-cache"}
        )

    @router.get("/favicon.ico")
    @open_to_all("browsers ask for it by themselves, before anybody has signed in")
    def show_icon() -> Response:
        return RedirectResponse(asset_url("mark.svg"), status_code=308)

    return router
