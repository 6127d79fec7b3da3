"""The responses dialect as one object.

What is lost on the way into the hub: ids and states of messages and calls, the word `developer` (read as `system`),
whether a thought's text is the thought itself or a summary. What this dialect cannot say is listed per request under
`dropped`: `stop`, `seed`, `n`, `top_k`, penalties, names of messages, thoughts of other providers, the error mark of
tool results. `previous_response_id`, `conversation` and `item_reference` mean something only to the provider that
holds the state: other dialects list them.
"""

from typing import Any

import msgspec

from penstock.dialects import port
from penstock.dialects.bodies import decode_head, need_model
from penstock.dialects.openai.errors import hub_error_body, read_error
from penstock.dialects.openai.splice import replace_model
from penstock.dialects.responses import request_read, request_write
from penstock.dialects.responses.reply import read_reply, write_reply
from penstock.dialects.responses.scan import ResponsesScanner
from penstock.dialects.responses.stream_read import ResponsesStreamReader
from penstock.dialects.responses.stream_write import ResponsesStreamWriter
from penstock.dialects.responses.usage import read_usage
from penstock.spec.hub import HubError, HubReply, HubRequest
from penstock.spec.routes import DialectName
from penstock.spec.usage import Usage


class _Head(msgspec.Struct, frozen=True):
    model: str | None = None
    stream: bool | None = None
    max_output_tokens: int | None = None
    previous_response_id: str | None = None
    prompt_cache_key: Any = None
    user: Any = None
    tools: msgspec.Raw = msgspec.Raw(b"null")


class _ReplyHead(msgspec.Struct, frozen=True):
    model: Any = None
    usage: Any = None


_head = msgspec.json.Decoder(_Head)
_reply_head = msgspec.json.Decoder(_ReplyHead)
_DECIDING = ("model", "stream", "previous_response_id")


class ResponsesDialect:
    """`POST /responses`."""

    @property
    def name(self) -> DialectName:
        """`responses`."""
        return "responses"

    @property
    def stream_content_type(self) -> bytes:
        """Server-sent events."""
        return b"text/event-stream"

    def peek(self, body: bytes, *, model: str | None, stream: bool | None, max_depth: int) -> port.Envelope:
        """Read what decides about a request; see `decode_head` for what is refused."""
        found = decode_head(_head, body, max_depth=max_depth, deciding=_DECIDING)
        return port.Envelope(
            model=model or need_model(found.model),
            stream=bool(found.stream if stream is None else stream),
            wants_usage=True,
            max_tokens=found.max_output_tokens,
            user=found.user if isinstance(found.user, str) else None,
            has_tools=bytes(memoryview(found.tools)[:8]).replace(b" ", b"") not in (b"null", b"[]"),
            previous=found.previous_response_id,
            cache_key=found.prompt_cache_key if isinstance(found.prompt_cache_key, str) else None,
        )

    def replace_model(self, body: bytes, model: str) -> bytes:
        """Return the body with its `model` replaced."""
        return replace_model(body, model)

    def read_request(self, body: bytes, *, model: str | None, stream: bool | None) -> HubRequest:
        """Decode a request; raises `InvalidInput` naming the member that is wrong."""
        return request_read.read_request(body, model=model, stream=stream)

    def write_request(
        self, request: HubRequest, *, model: str, quirks: frozenset[str]
    ) -> port.WrittenRequest:
        """Encode a request; replies to clients of other dialects are not stored (`store: false`)."""
        return request_write.write_request(request, model=model, quirks=quirks)

    def read_reply(self, body: bytes) -> HubReply:
        """Decode a response; raises `ValueError` if it is none or one that failed."""
        return read_reply(body)

    def write_reply(self, reply: HubReply, *, model: str, request: HubRequest) -> bytes:
        """Encode a response."""
        return write_reply(reply, model=model, request=request)

    def read_usage(self, body: bytes) -> tuple[Usage | None, str | None]:
        """Return usage and model of a response."""
        try:
            head = _reply_head.decode(body)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise ValueError("the body is not a JSON object") from None
        return read_usage(head.usage), head.model if isinstance(head.model, str) else None

    def stream_reader(self) -> port.StreamReader:
        """Return a reader for one stream."""
        return ResponsesStreamReader()

    def stream_writer(self, *, model: str, request: HubRequest) -> port.StreamWriter:
        """Return a writer for one stream."""
        return ResponsesStreamWriter(model=model, request=request)

    def scanner(self) -> port.Scanner:
        """Return a scanner for one stream."""
        return ResponsesScanner()

    def read_error(self, status: int, body: bytes) -> HubError | None:
        """Decode an error reply."""
        return read_error(status, body)

    def write_error(self, error: HubError) -> bytes:
        """Encode an error body."""
        return hub_error_body(error)


RESPONSES = ResponsesDialect()
