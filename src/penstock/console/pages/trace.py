"""One trace: its waterfall, and one selected span in full. The selection is in the URL (`?span=`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.errors import NotFound
from penstock.console.formats import format_ms
from penstock.console.messages import (
    Found,
    Quote,
    Turn,
    read_citations,
    read_passages,
    read_turns,
    show_json,
)
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.spec.spans import Span
from penstock.spec.usage import Usage
from penstock.store.spans.types import Payload
from penstock.traces.service import TraceView
from penstock.traces.waterfall import WaterfallRow

MAX_ROWS = 2000
MAX_DEPTH = 16


@dataclass(frozen=True, kw_only=True)
class SpanDetail:
    """One span in full."""

    span: Span
    turns: tuple[Turn, ...]
    citations: tuple[Quote, ...]
    passages: tuple[Found, ...]
    tokens: tuple[tuple[str, int], ...]
    facts: tuple[tuple[str, str], ...]
    attributes: tuple[tuple[str, str], ...]
    input_json: str | None
    output_json: str | None
    is_dropped: bool
    raw_href: str


@dataclass(frozen=True, kw_only=True)
class TracePage(Page):
    """The trace and the selected span."""

    template: ClassVar[str] = "trace.html"
    view: TraceView
    rows: tuple[WaterfallRow, ...]
    n_hidden: int
    axis: tuple[str, ...]
    versions: tuple[tuple[str, str, str], ...]
    """Asset, stamp, and its page."""
    selected: SpanDetail
    question: str | None
    max_depth: int = MAX_DEPTH


@dataclass(frozen=True, kw_only=True)
class SpanPage(Page):
    """The panel of one span alone, for the script that swaps it."""

    template: ClassVar[str] = "span.html"
    selected: SpanDetail


_TOKEN_CLASSES = (
    ("input_uncached", "input"),
    ("input_cache_read", "input, from cache"),
    ("input_cache_write", "input, into cache"),
    ("input_cache_write_1h", "input, into cache for 1 h"),
    ("input_audio", "input, audio"),
    ("input_image", "input, images"),
    ("output_text", "output"),
    ("output_reasoning", "output, reasoning"),
    ("output_audio", "output, audio"),
    ("output_image", "output, images"),
)


def list_tokens(usage: Usage | None) -> tuple[tuple[str, int], ...]:
    """Return the known token classes by name."""
    if usage is None:
        return ()
    known = [(label, getattr(usage, name)) for name, label in _TOKEN_CLASSES]
    return tuple((label, count) for label, count in known if count is not None)


def list_facts(span: Span, key_name: str | None = None) -> tuple[tuple[str, str], ...]:
    """Return what is known of a span's call, as label and value."""
    facts = (
        ("service", span.service),
        ("route", span.route),
        ("provider", span.provider),
        ("model", span.model),
        ("HTTP status", span.http_status),
        ("attempts", span.attempts),
        ("streamed", None if span.streamed is None else ("yes" if span.streamed else "no")),
        ("first token", None if span.ttft_ms is None else format_ms(span.ttft_ms)),
        ("gateway overhead", None if span.overhead_ms is None else format_ms(span.overhead_ms)),
        ("key", f"{key_name} ({span.key_id})" if key_name else span.key_id),
        ("user", span.user_id),
        ("session", span.session_id),
        ("span id", span.span_id),
    )
    return tuple((label, str(value)) for label, value in facts if value is not None)


def build_detail(span: Span, payload: Payload, key_name: str | None) -> SpanDetail:
    """Return everything the panel shows of one span."""
    is_talk = span.kind in {"llm", "app", "chain", "embedding", "retrieval"}
    return SpanDetail(
        span=span,
        turns=read_turns(payload.input, payload.output) if is_talk else (),
        citations=read_citations(payload.output),
        passages=read_passages(payload.output) if span.kind == "retrieval" else (),
        tokens=list_tokens(span.usage),
        facts=list_facts(span, key_name),
        attributes=tuple((name, _plain(value)) for name, value in sorted(span.attributes.items())),
        input_json=show_json(payload.input),
        output_json=show_json(payload.output),
        is_dropped=payload.dropped or span.payload_dropped,
        raw_href=f"/api/v1/traces/{span.trace_id}/spans/{span.span_id}/payload",
    )


def link_versions(versions: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    """Return each version with the page of the asset: `model:pocket` is at `/assets/model/pocket`."""
    found = []
    for asset, told in versions.items():
        stamp = told.removeprefix(f"{asset}@")
        number = stamp.partition("@")[0].partition(" ")[0]
        tail = f"/{number}" if number.isdigit() else ""
        found.append((asset, stamp, f"/assets/{asset.replace(':', '/', 1)}{tail}"))
    return tuple(found)


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/traces/{trace_id}` and the panel of one span."""
    router = APIRouter(include_in_schema=False)

    def detail_of(view: TraceView, span_id: str | None) -> SpanDetail:
        spans = view.spans
        wanted = next((each for each in spans if each.span_id == span_id), None)
        if wanted is None and span_id is not None:
            raise NotFound(f"This trace has no span {span_id!r}.")
        span = wanted or spans[0]
        key_name = next((key.name for key in services.keys.list() if key.id == span.key_id), None)
        return build_detail(span, services.traces.get_payload(view.trace_id, span.span_id), key_name)

    @router.get("/traces/{trace_id}")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def show_trace(request: Request, trace_id: str, span: str | None = None) -> Response:
        view = services.traces.show_trace(trace_id)
        rows = view.waterfall.rows
        page = TracePage(
            frame=renderer.frame(request, view.summary.name, "/traces"),
            view=view,
            rows=tuple(rows[:MAX_ROWS]),
            n_hidden=max(0, len(rows) - MAX_ROWS),
            axis=tuple(
                format_ms(view.waterfall.duration_ms * part / 4) if part else "0" for part in range(5)
            ),
            versions=link_versions(view.versions),
            selected=detail_of(view, span),
            question=view.summary.preview,
        )
        return renderer.show(page)

    @router.get("/traces/{trace_id}/spans/{span_id}")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def show_span(request: Request, trace_id: str, span_id: str) -> Response:
        view = services.traces.show_trace(trace_id)
        page = SpanPage(frame=renderer.frame(request, "Span", "/traces"), selected=detail_of(view, span_id))
        return renderer.show(page)

    return router


def _plain(value: object) -> str:
    return value if isinstance(value, str) else (show_json(value) or "null")
