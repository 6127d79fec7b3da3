"""OTLP over HTTP: spans and events from anybody's OpenTelemetry SDK, acknowledged once they are on disk.

OTLP 1.9 §"OTLP/HTTP": protobuf or JSON, optionally gzip; the answer is in the request's encoding, with
`partial_success` where something had to be left out. A body is inflated piece by piece and given up over the limit, so
a small body that inflates to gigabytes costs no more than the limit; while too much waits to be stored the answer is 503
with the seconds after which to come again.
"""

import zlib
from collections.abc import Callable

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.errors import InvalidInput
from penstock.control.services import ControlServices
from penstock.telemetry.otlp import JSON, PROTOBUF, OtlpBatch, Signal, encode_otlp_reply

_PIECE_BYTES = 1024 * 1024
_MAX_LOST = 2**40


class UnsupportedEncoding(InvalidInput):
    """The body's encoding or content type is none that OTLP/HTTP knows."""

    code = "PS-1651"
    status = 415


async def read_body(request: Request, grow: Callable[[int], None]) -> bytes:
    """Return the inflated body; `grow` is told of each piece and may refuse it.

    Raises `InvalidInput` and `UnsupportedEncoding`.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip", ""}:
        raise UnsupportedEncoding(
            f"content-encoding {encoding!r} is not known here.", hint="Use gzip or none."
        )
    inflater = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
    pieces: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        rest = chunk
        while rest:
            try:
                piece = inflater.decompress(rest, _PIECE_BYTES) if inflater else rest
            except zlib.error as error:
                raise InvalidInput("The body is not valid gzip.") from error
            rest = inflater.unconsumed_tail if inflater else b""
            grow(len(piece))
            pieces.append(piece)
    if inflater is not None and size and not inflater.eof:
        raise InvalidInput("The gzip body ends too early.")
    return b"".join(pieces)


def create_router(services: ControlServices) -> APIRouter:
    """Return `POST /v1/traces`, `/v1/logs` and `/v1/metrics`."""
    router = APIRouter(tags=["otlp"])

    async def take(request: Request, signal: Signal) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in {PROTOBUF, JSON}:
            raise UnsupportedEncoding(
                f"content type {kind!r} is not OTLP.", hint=f"Send {PROTOBUF} or {JSON}."
            )
        with services.ingest.reserve() as grow:
            body = await read_body(request, grow)
            batch = await run_in_threadpool(_take, services, signal, body, kind, request)
        return Response(encode_otlp_reply(batch, kind), media_type=kind)

    @router.post("/v1/traces")
    @needs(Permission.TRACES_WRITE)
    async def export_traces(request: Request) -> Response:
        """Take spans; they are on disk when this answers 200, and searchable within two seconds."""
        return await take(request, "traces")

    @router.post("/v1/logs")
    @needs(Permission.TRACES_WRITE)
    async def export_logs(request: Request) -> Response:
        """Take GenAI events and join them to their spans; other log records are counted and left out."""
        return await take(request, "logs")

    @router.post("/v1/metrics")
    @needs(Permission.TRACES_WRITE)
    async def export_metrics(request: Request) -> Response:
        """Keep nothing and say so: numbers are made from spans."""
        return await take(request, "metrics")

    return router


def _take(services: ControlServices, signal: Signal, body: bytes, kind: str, request: Request) -> OtlpBatch:
    key = request.state.caller.key
    lost = request.headers.get("x-penstock-dropped", "")
    if lost.isascii() and lost.isdigit() and int(lost) < _MAX_LOST:
        services.ingest.counters.add("dropped", "spans lost by their sender", int(lost))
    return services.ingest.take(signal, body, kind, way="http", key_id=key.id, project=key.project)
