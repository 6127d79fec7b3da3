"""Lists of traces and spans by search, what the search language knows, and saved views, over REST."""

from collections.abc import Callable
from itertools import chain
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from penstock.access.declarations import actor_of, needs
from penstock.access.permissions import Permission
from penstock.control.api.parameters import StoredNumber
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.store.spans.types import Order
from penstock.traces.exports import MEDIA_TYPES, ExportFormat
from penstock.traces.filters import build_query, build_span_query
from penstock.traces.lists import list_fields
from penstock.traces.views import DEFAULT_PROJECT, read_view

MAX_LIMIT = 500


class Filters(BaseModel):
    """What a list is asked, in the URL. All that is set must hold."""

    model_config = ConfigDict(extra="ignore")
    q: str | None = None
    """A search, such as `kind:llm duration>2s`."""
    since_ns: StoredNumber | None = None
    until_ns: StoredNumber | None = None
    route: str | None = None
    model: str | None = None
    provider: str | None = None
    status: str | None = None
    kind: str | None = None
    text: str | None = None
    min_duration_ms: float | None = None
    key_id: str | None = None
    session_id: str | None = None
    user_id: str | None = None


class ViewBody(BaseModel):
    """Body of a saved view."""

    model_config = ConfigDict(extra="forbid")
    name: str
    query: str = ""
    subject: Literal["trace", "span"] = "trace"
    columns: list[str] = []
    order: Order = "newest"
    project: str = DEFAULT_PROJECT


Asked = Annotated[Filters, Depends()]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]
Text = Annotated[str, Query(max_length=10_000)]


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1` that list and search."""
    router = APIRouter(prefix="/api/v1", tags=["search"])
    for add in (_add_lists, _add_export, _add_language, _add_views):
        add(router, services)
    return router


def _add_lists(router: APIRouter, services: ControlServices) -> None:
    lists = services.trace_lists

    @router.get("/traces")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def list_traces(
        asked: Asked, order: Order = "newest", limit: Limit = 50, cursor: str | None = None
    ) -> Response:
        """One page of traces."""
        page = {"order": order, "limit": limit, "cursor": cursor}
        return json_reply(lists.list_traces(build_query({**asked.model_dump(), **page})))

    @router.get("/spans")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def list_spans(
        asked: Asked, order: Order = "newest", limit: Limit = 50, cursor: str | None = None
    ) -> Response:
        """One page of spans of any trace."""
        page = {"order": order, "limit": limit, "cursor": cursor}
        return json_reply(lists.list_spans(build_span_query({**asked.model_dump(), **page})))

    @router.get("/search/count")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def count(asked: Asked, subject: Literal["trace", "span"] = "trace") -> Response:
        """How many there are, counting up to a bound."""
        build: Callable[[dict[str, Any]], Any] = build_query if subject == "trace" else build_span_query
        return json_reply(lists.count(build(asked.model_dump())))


def _add_export(router: APIRouter, services: ControlServices) -> None:
    exports = services.trace_exports

    @router.get("/export")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def export(
        asked: Asked,
        subject: Literal["trace", "span"] = "trace",
        order: Order = "newest",
        format: ExportFormat = "jsonl",  # noqa: A002 - the word in the URL
    ) -> Response:
        """All spans that a search finds, as a stream; of traces every span."""
        build: Callable[[dict[str, Any]], Any] = build_query if subject == "trace" else build_span_query
        chunks = exports.write(build({**asked.model_dump(), "order": order}), format)
        first = next(chunks, b"")  # what is wrong is told before the reply begins
        name = f"penstock-{subject}s.{'parquet' if format == 'parquet' else 'jsonl'}"
        return StreamingResponse(
            chain([first], chunks),
            media_type=MEDIA_TYPES[format],
            headers={"content-disposition": f'attachment; filename="{name}"'},
        )


def _add_language(router: APIRouter, services: ControlServices) -> None:
    lists = services.trace_lists

    @router.get("/search/complete")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def complete(text: Text = "", cursor: Annotated[int | None, Query(ge=0, le=10_000)] = None) -> Response:
        """What can stand at the cursor (at the end unless told): each replaces the characters from `start` to `end`."""
        return json_reply({"completions": lists.complete(text, len(text) if cursor is None else cursor)})

    @router.get("/search/fields")
    @needs(Permission.TRACES_READ)
    def show_fields() -> Response:
        """Every field that a search can ask for."""
        return json_reply({"fields": list_fields()})


def _add_views(router: APIRouter, services: ControlServices) -> None:
    views = services.views

    @router.get("/views")
    @needs(Permission.TRACES_READ)
    def list_views(project: str = DEFAULT_PROJECT) -> Response:
        """All saved views of a project."""
        return json_reply({"views": views.list(project)})

    @router.get("/views/{name:path}")
    @needs(Permission.TRACES_READ)
    def show_view(name: str, project: str = DEFAULT_PROJECT) -> Response:
        """One saved view."""
        return json_reply(views.get(name, project))

    @router.post("/views")
    @needs(Permission.VIEWS_WRITE)
    def save_view(body: ViewBody, request: Request) -> Response:
        """Keep a view, in place of the one of its name."""
        saved = views.save(read_view(body.model_dump()), actor=actor_of(request.state.caller))
        return json_reply(saved, status=201)

    @router.delete("/views/{name:path}")
    @needs(Permission.VIEWS_WRITE)
    def delete_view(name: str, project: str = DEFAULT_PROJECT) -> Response:
        """Forget a view."""
        views.delete(name, project)
        return json_reply({"deleted": name})
