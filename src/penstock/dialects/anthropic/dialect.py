"""Anthropic's Messages protocol as one dialect.

What the hub loses, and what this dialect cannot say of what others can:

| said | here |
|---|---|
| unknown members of a request, message, block, tool | kept, and written back to Anthropic; else dropped |
| `cache_control` marks | kept; also taken from clients of other dialects |
| server tools, their results, other blocks without a word in the hub | kept whole (`Opaque`) |
| citations of a text | kept; those of other providers are left out of a client's reply |
| signatures and sealed thoughts of other providers | shown to clients marked, taken back, never sent to Anthropic |
| `n`, `seed`, penalties, logprobs, `metadata`, message `name` | dropped |
| `temperature` over 1 | dropped |
| plain JSON mode | dropped; a schema is `output_config.format` |
| sounds, videos, files of other providers, image `detail` | dropped |
| system messages between others | their text moves to `system`; the place is dropped |
| `max_tokens` left open | 4096, or the budget for thinking + 4096 |
| an effort, for models before Claude 4.6 | a budget of tokens |
"""

from penstock.dialects.anthropic.errors import read_error, write_error
from penstock.dialects.anthropic.reply import read_reply, read_usage, write_reply
from penstock.dialects.anthropic.request_read import peek, read_request
from penstock.dialects.anthropic.request_write import write_request
from penstock.dialects.anthropic.stream_read import Scanner, StreamReader
from penstock.dialects.anthropic.stream_write import StreamWriter
from penstock.dialects.openai.splice import replace_model
from penstock.dialects.port import Envelope, WrittenRequest
from penstock.spec.hub import HubError, HubReply, HubRequest
from penstock.spec.routes import DialectName
from penstock.spec.usage import Usage


class AnthropicDialect:
    """See `dialects.port.Dialect`."""

    name: DialectName = "anthropic"
    stream_content_type = b"text/event-stream; charset=utf-8"

    def peek(self, body: bytes, *, model: str | None, stream: bool | None, max_depth: int) -> Envelope:
        """Read what decides about a request."""
        return peek(body, model=model, stream=stream, max_depth=max_depth)

    def replace_model(self, body: bytes, model: str) -> bytes:
        """Return the body with its `model` replaced."""
        return replace_model(body, model)

    def read_request(self, body: bytes, *, model: str | None, stream: bool | None) -> HubRequest:
        """Decode a client's request, also one to count tokens."""
        return read_request(body, model=model, stream=stream)

    def write_request(self, request: HubRequest, *, model: str, quirks: frozenset[str]) -> WrittenRequest:
        """Encode for a target that calls its model `model`."""
        return write_request(request, model=model, quirks=quirks)

    def read_reply(self, body: bytes) -> HubReply:
        """Decode a successful message."""
        return read_reply(body)

    def write_reply(self, reply: HubReply, *, model: str, request: HubRequest) -> bytes:
        """Encode a message for the client."""
        return write_reply(reply, model=model, request=request)

    def read_usage(self, body: bytes) -> tuple[Usage | None, str | None]:
        """Return usage and model of a successful message."""
        return read_usage(body)

    def stream_reader(self) -> StreamReader:
        """Return a reader for one stream."""
        return StreamReader()

    def stream_writer(self, *, model: str, request: HubRequest) -> StreamWriter:
        """Return a writer for one stream."""
        del request
        return StreamWriter(model=model)

    def scanner(self) -> Scanner:
        """Return a scanner for one stream."""
        return Scanner()

    def read_error(self, status: int, body: bytes) -> HubError | None:
        """Decode an error reply."""
        return read_error(status, body)

    def write_error(self, error: HubError) -> bytes:
        """Encode an error body."""
        return write_error(error)


ANTHROPIC = AnthropicDialect()
