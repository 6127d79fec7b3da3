"""OTLP over HTTP: spans from anybody's OpenTelemetry SDK, acknowledged once they are on disk.

OTLP 1.9 §"OTLP/HTTP": protobuf or JSON, optionally gzip; the answer is an `ExportTraceServiceResponse` in the
request's encoding, with `partial_success` where spans had to be left out. A body is inflated piece by piece and given up over the limit, so a small body that
inflates to gigabytes costs no more than the limit.
"""

import zlib

import msgspec
from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.errors import InvalidInput, TooLarge
from penstock.control.services import ControlServices
from penstock.telemetry.otlp import JSON, PROTOBUF, OtlpBatch, encode_otlp_reply

MAX_OTLP_BYTES = 32 * 1024 * 1024


class UnsupportedEncoding(InvalidInput):
    """The body's encoding or content type is none that OTLP/HTTP knows."""

    code = "PS-1651"
    status = 415


async def read_body(request: Request) -> bytes:
    """Return the inflated body; raise `TooLarge`, `InvalidInput` or `UnsupportedEncoding`."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip", ""}:
        raise UnsupportedEncoding(
            f"content-encoding {encoding!r} is not known here.", hint="Use gzip or none."
        )
    inflater = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
    pieces: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        try:
            piece = inflater.decompress(chunk, MAX_OTLP_BYTES - size + 1) if inflater else chunk
        except zlib.error as error:
            raise InvalidInput("The body is not valid gzip.") from error
        size += len(piece)
        if size > MAX_OTLP_BYTES:
            raise TooLarge(
                f"An export may have at most {MAX_OTLP_BYTES >> 20} MiB, inflated.",
                hint="Send smaller batches.",
            )
        pieces.append(piece)
    if inflater is not None and size and not inflater.eof:
        raise InvalidInput("The gzip body ends too early.")
    return b"".join(pieces)


def create_router(services: ControlServices) -> APIRouter:
    """Return `POST /v1/traces`."""
    router = APIRouter(tags=["otlp"])

    @router.post("/v1/traces")
    @needs(Permission.TRACES_WRITE)
    async def export_traces(request: Request) -> Response:
        """Take spans; they are on disk when this answers 200, and searchable within two seconds."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in {PROTOBUF, JSON}:
            raise UnsupportedEncoding(
                f"content type {kind!r} is not OTLP.", hint=f"Send {PROTOBUF} or {JSON}."
            )
        body = await read_body(request)
        batch = await run_in_threadpool(_store, services, body, kind, request.state.caller.key.id)
        return Response(encode_otlp_reply(batch, kind), media_type=kind)

    return router


def _store(services: ControlServices, body: bytes, kind: str, key_id: str) -> OtlpBatch:
    batch = services.decode_otlp(body, kind)
    services.store_spans(
        [each if each.key_id else msgspec.structs.replace(each, key_id=key_id) for each in batch.spans]
    )
    return batch
