"""Requests with text that is not UTF-8: read all the same, with the broken characters replaced.

Clients that cut attributes at a length cut through characters; protobuf then refuses the whole request, and a hundred good
spans would be lost for one broken letter. Here the same messages are read with bytes in the place of strings, mended,
and written again. Slow, and only done when the ordinary way has failed.
"""

import re
from functools import cache
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto  # type: ignore[import-untyped]
from google.protobuf.descriptor_pool import DescriptorPool  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # ships no types
from google.protobuf.message_factory import GetMessageClass  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

_FILES = (common_pb2, resource_pb2, trace_pb2, logs_pb2, trace_service_pb2, logs_service_pb2)

_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
"""Every escape of a JSON text; the group is half of a pair that stands alone."""


def mend_protobuf(body: bytes, message_name: str) -> bytes | None:
    """Return the request with its texts made UTF-8; None when it is no such message or all texts were right.

    `message_name` is the full name of the message.
    """
    message_class, texts = _lenient(message_name)
    try:
        message = message_class.FromString(body)
    except DecodeError:
        return None
    if not _mend(message, texts):
        return None
    mended: bytes = message.SerializeToString()
    return mended


def mend_json(body: bytes) -> bytes | None:
    """Return a JSON body made UTF-8, without halves of surrogate pairs; None when it was right.

    JavaScript cuts text between the halves, and writes the one that is left as an escape.
    """
    mended = body.decode("utf-8", "replace").encode()
    mended = _ESCAPES.sub(lambda found: found[0] if found[1] is None else b"\\ufffd", mended)
    return None if mended == body else mended


def _mend(message: Any, texts: frozenset[str]) -> bool:
    """Make every text of a message UTF-8, below it too; return whether one was not. Without recursion."""
    is_changed = False
    todo = [message]
    while todo:
        current = todo.pop()
        for field, value in current.ListFields():
            if field.message_type is not None:
                todo.extend(value if field.is_repeated else [value])
            elif field.full_name in texts:
                is_changed |= _mend_field(current, field, value)
    return is_changed


def _mend_field(message: Any, field: Any, value: Any) -> bool:
    if field.is_repeated:
        mended = [_text(item) for item in value]
        if mended == list(value):
            return False
        del value[:]
        value.extend(mended)
        return True
    text = _text(value)
    if text == value:
        return False
    setattr(message, field.name, text)
    return True


def _text(value: bytes) -> bytes:
    return value.decode("utf-8", "replace").encode()


@cache
def _lenient(message_name: str) -> tuple[Any, frozenset[str]]:
    """Return the class of the message with bytes for strings, and the full names of the fields that were strings."""
    pool = DescriptorPool()
    texts: set[str] = set()
    for module in _FILES:
        file = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        for message in file.message_type:
            _loosen(message, f"{file.package}.{message.name}", texts)
        del file.service[:]
        pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(message_name)), frozenset(texts)


def _loosen(message: Any, name: str, texts: set[str]) -> None:
    for field in message.field:
        if field.type == FieldDescriptorProto.TYPE_STRING:
            field.type = FieldDescriptorProto.TYPE_BYTES
            texts.add(f"{name}.{field.name}")
    for nested in message.nested_type:
        _loosen(nested, f"{name}.{nested.name}", texts)
