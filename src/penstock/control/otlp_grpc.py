"""OTLP over gRPC: the same requests as over HTTP, on a port of their own.

A caller shows its key in the metadata `authorization`. While too much waits to be stored the answer is
RESOURCE_EXHAUSTED with a `RetryInfo`, as OTLP 1.9 §"OTLP/gRPC Throttling" wants it; the official SDKs wait that long and
send again. Bodies are passed on as bytes and decoded in one place for both ways.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage  # type: ignore[import-untyped]  # ships no types
from google.protobuf.duration_pb2 import Duration  # type: ignore[import-untyped]  # ships no types
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from penstock.access.keys import KeyService
from penstock.base.errors import PenstockError, UpstreamError
from penstock.control.known_keys import KnownKeys
from penstock.telemetry.errors import IngestBusy
from penstock.telemetry.otlp import PROTOBUF, Signal, encode_otlp_reply
from penstock.traces.ingest import MAX_REQUEST_BYTES, IngestService

_log = logging.getLogger("penstock.control")
_PREFIX = "opentelemetry.proto.collector"
_SERVICES: Mapping[Signal, str] = {
    "traces": f"{_PREFIX}.trace.v1.TraceService",
    "logs": f"{_PREFIX}.logs.v1.LogsService",
    "metrics": f"{_PREFIX}.metrics.v1.MetricsService",
}
_THREADS = 8
_STATUS: Mapping[int, Any] = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    503: grpc.StatusCode.UNAVAILABLE,
}
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.so_reuseport", 0),  # a port that another program has is taken, not shared
    ("grpc.max_concurrent_streams", 64),
)


class PortUnusable(UpstreamError):
    """The port cannot be listened on."""

    code = "PS-4653"
    status = 503


class _ThisCall(threading.local):
    came_s: float | None = None


_this_call = _ThisCall()


class _Threads(ThreadPoolExecutor):
    """Threads that know since when the call that they serve has waited for one of them: gRPC does not tell."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        came_s = time.monotonic()

        def serve() -> Any:
            _this_call.came_s = came_s
            return fn(*args, **kwargs)

        return super().submit(serve)


class GrpcIngest:
    """A server for OTLP over gRPC in threads of its own."""

    def __init__(self, keys: KeyService, ingest: IngestService) -> None:
        self._keys = KnownKeys(keys)
        self._ingest = ingest
        self._server: Any = None

    def start(self, host: str, port: int) -> int:
        """Listen (0 takes a free port) and return the port; raise `PortUnusable`."""
        server = grpc.server(
            _Threads(_THREADS, thread_name_prefix="otlp-grpc"),
            options=_OPTIONS,
            maximum_concurrent_rpcs=256,
        )
        server.add_generic_rpc_handlers(
            tuple(
                grpc.method_handlers_generic_handler(
                    name, {"Export": grpc.unary_unary_rpc_method_handler(self._handler(signal))}
                )
                for signal, name in _SERVICES.items()
            )
        )
        shown = f"[{host}]" if ":" in host else host
        try:
            bound: int = server.add_insecure_port(f"{shown}:{port}")
        except RuntimeError as error:
            raise PortUnusable(f"Port {port} on {host} is taken or cannot be used.") from error
        if not bound:
            raise PortUnusable(f"Port {port} on {host} is taken or cannot be used.")
        server.start()
        self._server = server
        self._ingest.grpc_address = f"{shown}:{bound}"
        return bound

    def stop(self, *, grace_s: float = 2.0) -> None:
        """Let requests under way end, within bounds, and stop."""
        if self._server is not None:
            self._server.stop(grace_s).wait(grace_s + 1.0)
            self._server = None
            self._ingest.grpc_address = None

    def _handler(self, signal: Signal) -> Callable[[bytes, Any], bytes]:
        def export(body: bytes, context: Any) -> bytes:
            try:
                key = self._keys.find(str(dict(context.invocation_metadata()).get("authorization", "")))
                with self._ingest.reserve() as grow:
                    grow(len(body))
                    batch = self._ingest.take(
                        signal,
                        body,
                        PROTOBUF,
                        way="grpc",
                        key_id=key.id,
                        project=key.project,
                        came_s=_this_call.came_s,
                    )
                return encode_otlp_reply(batch, PROTOBUF)
            except PenstockError as error:
                self._refuse(context, error)
            except (
                Exception
            ):  # the edge of this server: grpc would tell the caller what the text of the fault is
                _log.exception("an OTLP request over gRPC broke")
                context.abort(
                    grpc.StatusCode.INTERNAL,
                    "Something broke here; the log of the control process says what.",
                )
            raise AssertionError("abort has raised")

        return export

    def _refuse(self, context: Any, error: PenstockError) -> None:
        code = (
            grpc.StatusCode.RESOURCE_EXHAUSTED if isinstance(error, IngestBusy) else _STATUS.get(error.status)
        )
        if isinstance(error, IngestBusy):
            context.set_trailing_metadata((("grpc-status-details-bin", retry_details(error)),))
        context.abort(code or grpc.StatusCode.INTERNAL, str(error))


def retry_details(error: IngestBusy) -> bytes:
    """Return what tells a gRPC sender when to come again."""
    details = AnyMessage()
    details.Pack(RetryInfo(retry_delay=Duration(seconds=int(error.fields.get("retry_after_s", 1)))))
    status = Status(
        code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], message=error.message, details=[details]
    )
    encoded: bytes = status.SerializeToString()
    return encoded
