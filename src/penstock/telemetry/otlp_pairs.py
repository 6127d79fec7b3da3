"""Attributes of protobuf spans: read once, remembered where they come again.

Most attributes of a span are those of thousands of others: the operation, the model, the host. So requests are parsed by
a copy of OTLP's schema in which a span's attributes are left as bytes (on the wire a message within a message is
bytes), and only bytes that were not seen before are read as the message that they are. Opening each would take
three times as long.
"""

import base64
import sys
from collections.abc import Iterable
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

MAX_REMEMBERED = 10_000
"""Beyond it all are forgotten."""
MAX_REMEMBERED_BYTES = 120
"""Longer attributes are payload as a rule, and do not come again."""
_MAX_DEPTH = 32
_read_pair = common_pb2.KeyValue.FromString
_remembered: dict[bytes, tuple[str, Any]] = {}


@cache
def load_request_type() -> Any:
    """Return the message of a trace export request whose spans have their attributes as bytes, for `read_attributes`."""
    pool = descriptor_pool.DescriptorPool()
    for part in (common_pb2, resource_pb2, trace_pb2, trace_service_pb2):
        file = descriptor_pb2.FileDescriptorProto()
        part.DESCRIPTOR.CopyToProto(file)
        if part is trace_pb2:
            span = next(message for message in file.message_type if message.name == "Span")
            attributes = next(field for field in span.field if field.name == "attributes")
            attributes.type = attributes.TYPE_BYTES
            attributes.ClearField("type_name")
        pool.AddSerializedFile(file.SerializeToString())
    name = trace_service_pb2.ExportTraceServiceRequest.DESCRIPTOR.full_name
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def read_attributes(pairs: Iterable[bytes]) -> dict[str, Any]:
    """Return key-value pairs in their wire form as a dictionary; raise `DecodeError` for what is none."""
    found: dict[str, Any] = {}
    for encoded in pairs:
        if (
            len(encoded) > MAX_REMEMBERED_BYTES
        ):  # not even looked for: to hash a text takes as long as to read it
            name, value = _read(encoded)
        else:
            name, value = _remembered.get(encoded) or _remember(encoded)
        found[name] = value
    return found


def _read(encoded: bytes) -> tuple[str, Any]:
    pair = _read_pair(encoded)
    value = pair.value
    # the usual cases, found without asking which one is set
    return sys.intern(pair.key), value.string_value or value.int_value or read_value(value)


def _remember(encoded: bytes) -> tuple[str, Any]:
    read = _read(encoded)
    if not isinstance(read[1], list | dict):  # what may be changed by whoever has it is nobody else's
        if len(_remembered) >= MAX_REMEMBERED:
            _remembered.clear()
        _remembered[encoded] = read
    return read


def read_messages(pairs: Iterable[Any]) -> dict[str, Any]:
    """Return key-value pairs as a dictionary."""
    found: dict[str, Any] = {}
    for pair in pairs:
        value = pair.value
        found[pair.key] = value.string_value or value.int_value or read_value(value)
    return found


def read_value(value: Any, depth: int = 0) -> Any:
    """Return what an `AnyValue` holds; None for what is nested too deep."""
    which = value.WhichOneof("value")
    if which is None or depth > _MAX_DEPTH:
        return None
    if which == "array_value":
        return [read_value(item, depth + 1) for item in value.array_value.values]
    if which == "kvlist_value":
        return {pair.key: read_value(pair.value, depth + 1) for pair in value.kvlist_value.values}
    if which == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return getattr(value, which)
