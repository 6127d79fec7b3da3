"""OTLP metrics in: not kept. A sender is told how many points that were, rather than trying for ever.

Numbers about calls come from their spans, exactly; nothing that clients add up themselves is needed for them.
"""

from typing import Any

import msgspec
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # ships no types
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from penstock.telemetry.errors import MalformedTelemetry
from penstock.telemetry.otlp import OtlpBatch
from penstock.telemetry.otlp_wire import is_json_type

_KINDS = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")
_WIRE_KINDS = ("gauge", "sum", "histogram", "exponential_histogram", "summary")


def decode_otlp_metrics(
    body: bytes, content_type: str, *, project: str = "default", key_id: str | None = None
) -> OtlpBatch:
    """Return a batch without spans that says how many points were left out; raise `MalformedTelemetry`."""
    try:
        n_points = _count_json(body) if is_json_type(content_type) else _count_protobuf(body)
    except (
        msgspec.MsgspecError,
        DecodeError,
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise MalformedTelemetry(
            "The body is not an OTLP metrics request.",
            hint="Send an ExportMetricsServiceRequest and name its encoding in Content-Type.",
            reason=str(error)[:200],
        ) from error
    del project, key_id  # nothing is kept, so it belongs to nobody
    reason = "metrics are not kept here: send traces, numbers are made from spans" if n_points else None
    return OtlpBatch(spans=[], n_rejected=n_points, reason=reason, signal="metrics")


def _count_protobuf(body: bytes) -> int:
    request = ExportMetricsServiceRequest.FromString(body)
    return sum(
        len(getattr(metric, kind).data_points)
        for group in request.resource_metrics
        for scoped in group.scope_metrics
        for metric in scoped.metrics
        for kind in _WIRE_KINDS
        if metric.HasField(kind)
    )


def _count_json(body: bytes) -> int:
    request: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
    return sum(
        len((metric.get(kind) or {}).get("dataPoints") or ())
        for group in request.get("resourceMetrics") or ()
        for scoped in group.get("scopeMetrics") or ()
        for metric in scoped.get("metrics") or ()
        for kind in _KINDS
    )
