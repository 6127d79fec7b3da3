"""Traces, spans' payloads and the overview over REST."""

import gzip
import zlib

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.clock import now_ns
from penstock.control.api.parameters import StoredNumber
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.traces.comparison import compare_traces, read_reference

MIN_GZIP_BYTES = 64 * 1024
DAY_NS = 86_400 * 1_000_000_000


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1` that read traces."""
    router = APIRouter(prefix="/api/v1", tags=["traces"])

    @router.get("/overview")
    @needs(Permission.TRACES_READ)
    def show_overview(since_ns: StoredNumber | None = None, until_ns: StoredNumber | None = None) -> Response:
        """Counts, money, latency of a window; the last 24 hours unless told."""
        until = until_ns if until_ns is not None else now_ns()
        since = since_ns if since_ns is not None else until - DAY_NS
        return json_reply(services.traces.overview(since, until))

    @router.get("/traces/diff")
    @needs(Permission.TRACES_READ)
    def diff_traces(a: str, b: str) -> Response:
        """Two traces side by side: aligned steps with time, tokens and money, and versions. `a` and `b` are TRACE, or
        TRACE/SPAN for a span and what is below it."""
        return json_reply(compare_traces(services.traces, read_reference(a), read_reference(b)))

    @router.get("/traces/{trace_id}")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def show_trace(trace_id: str) -> Response:
        """One trace: summary, versions, and its spans laid out as a waterfall."""
        return json_reply(services.traces.show_trace(trace_id))

    @router.get("/traces/{trace_id}/skeleton")
    @needs(Permission.TRACES_READ)
    def show_skeleton(request: Request, trace_id: str) -> Response:
        """The tree of a trace of any size, as columns: about 85 bytes a span, without facts and payloads.

        With `If-None-Match` of the answer before, a trace that did not change is answered 304.
        """
        body = msgspec.json.encode(services.traces.read_columns(trace_id))
        tag = f'"{zlib.crc32(body):08x}-{len(body)}"'
        headers = {"etag": tag, "cache-control": "private, no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        if len(body) > MIN_GZIP_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
            body = gzip.compress(body, 1)
            headers |= {"content-encoding": "gzip", "vary": "accept-encoding"}
        return Response(body, media_type="application/json", headers=headers)

    @router.get("/traces/{trace_id}/spans")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def list_spans(trace_id: str, ids: str) -> Response:
        """Facts of some spans of a trace, without payloads: `ids` are span ids with commas between them, at most 500."""
        wanted = [each for each in ids.split(",") if each.strip()]
        return json_reply({"spans": services.traces.list_spans(trace_id, wanted)})

    @router.get("/traces/{trace_id}/spans/{span_id}/payload")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def show_payload(trace_id: str, span_id: str, *, download: bool = False) -> Response:
        """What went in and out of one span; with `download=true` as a file."""
        reply = json_reply(services.traces.get_payload(trace_id, span_id))
        if download:
            name = "".join(each for each in f"{trace_id}-{span_id}" if each.isalnum() or each == "-")
            reply.headers["content-disposition"] = f'attachment; filename="{name}.json"'
        return reply

    return router
