"""Saved views of the trace list: kept and forgotten from its menu."""

from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import Caller, actor_of, needs
from penstock.access.permissions import Permission
from penstock.console.rendering import Renderer
from penstock.console.services import ConsoleServices
from penstock.console.trace_columns import read_order, read_view
from penstock.traces.views import SavedView


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return the forms below `/traces/views`."""
    del renderer
    router = APIRouter(include_in_schema=False)

    @router.post("/traces/views")
    @needs(Permission.VIEWS_WRITE)
    def save_view(request: Request) -> Response:
        caller: Caller = request.state.caller
        form = caller.form
        columns = (name for name in form.get("cols", "").split(",") if name and name != "asked")
        saved = services.views.save(
            SavedView(
                name=form.get("name", ""),
                query=form.get("q", ""),
                subject="span" if read_view(form.get("view", "")) == "spans" else "trace",
                columns=tuple(columns),
                order=read_order(form.get("order", "")),
            ),
            actor=actor_of(caller),
        )
        return _back(form.get("next", ""), f"Saved the view {saved.name}.")

    @router.post("/traces/views/delete")
    @needs(Permission.VIEWS_WRITE)
    def delete_view(request: Request) -> Response:
        caller: Caller = request.state.caller
        name = caller.form.get("name", "")
        services.views.delete(name)
        return _back(caller.form.get("next", ""), f"Deleted the view {name}.")

    return router


def _back(place: str, notice: str) -> Response:
    """Return the way back to the list that the form was on; to no other page, whatever the form says."""
    asked = urlsplit(place)
    params = [(name, value) for name, value in parse_qsl(asked.query) if name != "notice"]
    return RedirectResponse(f"/traces?{urlencode([*params, ('notice', notice)])}", status_code=303)
