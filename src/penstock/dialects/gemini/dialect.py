"""Google's generateContent as a dialect. Base URLs end before `/models/MODEL:method`.

What a request loses on its way to Google: `user`, `metadata`, `parallel_tool_calls: false`, `strict` of tools, builtin
tools and opaque parts of others, thoughts of others, files known by another provider's id, `detail` of images, names of
messages. JSON Schema is lowered where Google's `Schema` can hold it, else sent as JSON Schema with references resolved.
What its replies lose on their way to others: safety ratings, grounding and citation metadata.
"""

import msgspec

from penstock.dialects.bodies import decode_head, need_model
from penstock.dialects.gemini.errors import read_error, write_error
from penstock.dialects.gemini.reply import read_reply, write_reply
from penstock.dialects.gemini.request_read import read_request
from penstock.dialects.gemini.request_write import write_request
from penstock.dialects.gemini.stream_read import GeminiReader, GeminiScanner
from penstock.dialects.gemini.stream_write import GeminiWriter
from penstock.dialects.gemini.usage import read_usage
from penstock.dialects.openai.json_scan import scan_members
from penstock.dialects.port import Envelope, Scanner, StreamReader, StreamWriter, WrittenRequest
from penstock.spec.hub import HubError, HubReply, HubRequest
from penstock.spec.routes import DialectName
from penstock.spec.usage import Usage

_Raw = msgspec.Raw


class _Config(msgspec.Struct):
    max_output_tokens: int | None = msgspec.field(default=None, name="maxOutputTokens")
    max_output_tokens_snake: int | None = msgspec.field(default=None, name="max_output_tokens")
    candidate_count: int | None = msgspec.field(default=None, name="candidateCount")
    candidate_count_snake: int | None = msgspec.field(default=None, name="candidate_count")


class _Head(msgspec.Struct):
    contents: list[_Raw] | _Raw | None = None
    tools: list[_Raw] | _Raw | None = None
    config: _Config | None = msgspec.field(default=None, name="generationConfig")
    config_snake: _Config | None = msgspec.field(default=None, name="generation_config")


class _ReplyHead(msgspec.Struct):
    usage: object = msgspec.field(default=None, name="usageMetadata")
    model: object = msgspec.field(default=None, name="modelVersion")


_reply_head = msgspec.json.Decoder(_ReplyHead)
_DECIDING = ("model", "contents", "generationConfig", "generation_config")


class GeminiDialect:
    """See `dialects.port.Dialect`. With `as_array` streams to clients are one JSON array (no `alt=sse`)."""

    def __init__(self, *, as_array: bool = False) -> None:
        self._as_array = as_array

    @property
    def name(self) -> DialectName:
        """`gemini`."""
        return "gemini"

    def peek(self, body: bytes, *, model: str | None, stream: bool | None, max_depth: int) -> Envelope:
        """Read the envelope; model and stream are what the path says."""
        head = decode_head(_head, body, max_depth=max_depth, deciding=_DECIDING)
        config = head.config or head.config_snake or _Config()
        return Envelope(
            model=need_model(model),
            stream=bool(stream),
            wants_usage=True,
            max_tokens=config.max_output_tokens or config.max_output_tokens_snake,
            n=config.candidate_count or config.candidate_count_snake,
            n_messages=len(head.contents) if isinstance(head.contents, list) else None,
            has_tools=bool(head.tools),
        )

    def replace_model(self, body: bytes, model: str) -> bytes:
        """Return the body; one that repeats the model's name (`models/…`) gets the new one."""
        if b'"model"' not in body:
            return body
        found = next((member for member in scan_members(body) if member.name == "model"), None)
        if found is None:
            return body
        return b"".join((body[: found.start], msgspec.json.encode(f"models/{model}"), body[found.end :]))

    def read_request(self, body: bytes, *, model: str | None, stream: bool | None) -> HubRequest:
        """Decode a client's request."""
        return read_request(body, model=need_model(model), stream=bool(stream))

    def write_request(self, request: HubRequest, *, model: str, quirks: frozenset[str]) -> WrittenRequest:  # noqa: ARG002
        """Encode a request. Google's servers have no quirks."""
        return write_request(request, model=model)

    def read_reply(self, body: bytes) -> HubReply:
        """Decode a reply."""
        return read_reply(body)

    def write_reply(self, reply: HubReply, *, model: str, request: HubRequest) -> bytes:  # noqa: ARG002
        """Encode a reply."""
        return write_reply(reply, model=model)

    def read_usage(self, body: bytes) -> tuple[Usage | None, str | None]:
        """Return usage and model of a reply."""
        try:
            head = _reply_head.decode(body)
        except RecursionError as error:
            raise ValueError("nested too deep") from error
        return read_usage(head.usage), head.model if isinstance(head.model, str) else None

    def stream_reader(self) -> StreamReader:
        """Return a reader of server-sent events or of an array."""
        return GeminiReader()

    def stream_writer(self, *, model: str, request: HubRequest) -> StreamWriter:  # noqa: ARG002
        """Return a writer."""
        return GeminiWriter(model=model, as_array=self._as_array)

    def scanner(self) -> Scanner:
        """Return a scanner of server-sent events or of an array."""
        return GeminiScanner()

    def read_error(self, status: int, body: bytes) -> HubError | None:
        """Decode an error reply."""
        return read_error(status, body)

    def write_error(self, error: HubError) -> bytes:
        """Encode an error reply."""
        return write_error(error)

    @property
    def stream_content_type(self) -> bytes:
        """Server-sent events, or JSON for an array."""
        return b"application/json" if self._as_array else b"text/event-stream"


_head = msgspec.json.Decoder(_Head)
GEMINI = GeminiDialect()
GEMINI_ARRAY = GeminiDialect(as_array=True)
"""For clients that call `:streamGenerateContent` without `alt=sse`."""
