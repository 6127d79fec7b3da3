"""Bedrock's Converse as a dialect. Base URLs end before `/model/ID/converse`.

What a request loses on its way to Bedrock: `seed`, `n`, penalties, log probabilities, `user`, `parallel_tool_calls:
false`, `tool_choice: none` once tools have been called, builtin tools and opaque parts of others, thoughts of others
(Claude's hold for Claude), media by web address or file id, `detail` of images, names of messages, plain JSON mode;
`top_k` and reasoning where the model's family takes none. What its replies lose on their way to others: traces of
guardrails, latencies, citations.
"""

import msgspec

from penstock.dialects.bedrock.errors import error_type, read_error, write_error
from penstock.dialects.bedrock.reply import read_reply, write_reply
from penstock.dialects.bedrock.request_read import read_request
from penstock.dialects.bedrock.request_write import write_request
from penstock.dialects.bedrock.stream_read import BedrockReader, BedrockScanner
from penstock.dialects.bedrock.stream_write import BedrockWriter
from penstock.dialects.bedrock.usage import read_usage
from penstock.dialects.bodies import decode_head, need_model
from penstock.dialects.port import Envelope, Scanner, StreamReader, StreamWriter, WrittenRequest
from penstock.spec.hub import HubError, HubReply, HubRequest
from penstock.spec.routes import DialectName
from penstock.spec.usage import Usage


class _Config(msgspec.Struct):
    max_tokens: int | None = msgspec.field(default=None, name="maxTokens")


class _Tools(msgspec.Struct):
    tools: list[msgspec.Raw] | None = None


class _Head(msgspec.Struct):
    messages: list[msgspec.Raw] | None = None
    config: _Config | None = msgspec.field(default=None, name="inferenceConfig")
    tools: _Tools | None = msgspec.field(default=None, name="toolConfig")


class _ReplyHead(msgspec.Struct):
    usage: object = None


_head = msgspec.json.Decoder(_Head)
_reply_head = msgspec.json.Decoder(_ReplyHead)
_DECIDING = ("messages", "inferenceConfig")


class BedrockDialect:
    """See `dialects.port.Dialect`."""

    @property
    def name(self) -> DialectName:
        """`bedrock`."""
        return "bedrock"

    def peek(self, body: bytes, *, model: str | None, stream: bool | None, max_depth: int) -> Envelope:
        """Read the envelope; model and stream are what the path says."""
        head = decode_head(_head, body, max_depth=max_depth, deciding=_DECIDING)
        return Envelope(
            model=need_model(model),
            stream=bool(stream),
            wants_usage=True,
            max_tokens=head.config.max_tokens if head.config is not None else None,
            n_messages=len(head.messages) if head.messages is not None else None,
            has_tools=head.tools is not None and bool(head.tools.tools),
        )

    def replace_model(self, body: bytes, model: str) -> bytes:  # noqa: ARG002 - the path names it
        """Return the body, which never names a model."""
        return body

    def read_request(self, body: bytes, *, model: str | None, stream: bool | None) -> HubRequest:
        """Decode a client's request."""
        return read_request(body, model=need_model(model), stream=bool(stream))

    def write_request(self, request: HubRequest, *, model: str, quirks: frozenset[str]) -> WrittenRequest:  # noqa: ARG002
        """Encode a request. Bedrock has no quirks."""
        return write_request(request, model=model)

    def read_reply(self, body: bytes) -> HubReply:
        """Decode a reply."""
        return read_reply(body)

    def write_reply(self, reply: HubReply, *, model: str, request: HubRequest) -> bytes:  # noqa: ARG002
        """Encode a reply."""
        return write_reply(reply)

    def read_usage(self, body: bytes) -> tuple[Usage | None, str | None]:
        """Return the usage of a reply; Bedrock names no model."""
        try:
            return read_usage(_reply_head.decode(body).usage), None
        except RecursionError as error:
            raise ValueError("nested too deep") from error

    def stream_reader(self) -> StreamReader:
        """Return a reader."""
        return BedrockReader()

    def stream_writer(self, *, model: str, request: HubRequest) -> StreamWriter:  # noqa: ARG002
        """Return a writer."""
        return BedrockWriter()

    def scanner(self) -> Scanner:
        """Return a scanner."""
        return BedrockScanner()

    def read_error(self, status: int, body: bytes) -> HubError | None:
        """Decode an error reply."""
        return read_error(status, body)

    def write_error(self, error: HubError) -> bytes:
        """Encode an error reply; `error_headers` go with it."""
        return write_error(error)

    def error_headers(self, error: HubError) -> tuple[tuple[bytes, bytes], ...]:
        """Return the header by which AWS's clients know what to raise."""
        return ((b"x-amzn-errortype", error_type(error).encode()),)

    @property
    def stream_content_type(self) -> bytes:
        """AWS's binary event stream."""
        return b"application/vnd.amazon.eventstream"


BEDROCK = BedrockDialect()
