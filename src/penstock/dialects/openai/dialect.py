"""The chat completions dialect as one object.

What is lost on the way into the hub: nothing that a request says, but the words `developer` (read as `system`),
`reasoning_content` and `reasoning` (both read as thoughts) and the ids of content. What this dialect cannot say is
listed per request under `dropped`: thoughts and their signatures (unless the server takes them), `top_k`, built-in
tools of others, the error mark of tool results, documents by URL, budgets of thinking tokens (an effort is said).
"""

from penstock.dialects import port
from penstock.dialects.openai import request_read, request_write
from penstock.dialects.openai.envelope import parse_envelope
from penstock.dialects.openai.errors import hub_error_body, read_error
from penstock.dialects.openai.replies import read_reply as read_head
from penstock.dialects.openai.reply import read_reply, write_reply
from penstock.dialects.openai.scan import ChatScanner
from penstock.dialects.openai.splice import replace_model
from penstock.dialects.openai.stream_read import ChatStreamReader
from penstock.dialects.openai.stream_write import ChatStreamWriter
from penstock.dialects.openai.usage import disjoint_usage
from penstock.spec.hub import HubError, HubReply, HubRequest
from penstock.spec.routes import DialectName
from penstock.spec.usage import Usage


class OpenAiDialect:
    """`POST /chat/completions`; completions and embeddings share its envelope, usage and errors."""

    @property
    def name(self) -> DialectName:
        """`openai`."""
        return "openai"

    @property
    def stream_content_type(self) -> bytes:
        """Server-sent events."""
        return b"text/event-stream"

    def peek(self, body: bytes, *, model: str | None, stream: bool | None, max_depth: int) -> port.Envelope:
        """Read what decides about a request; see `parse_envelope` for what is refused."""
        found = parse_envelope(body, max_depth=max_depth)
        return port.Envelope(
            model=model or found.model,
            stream=bool(found.stream if stream is None else stream),
            wants_usage=found.wants_usage,
            max_tokens=found.max_tokens,
            n=found.n,
            user=found.user,
            has_tools=found.has_tools,
            cache_key=found.cache_key,
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
        """Encode a request; a streamed one asks for usage unless the server refuses that."""
        return request_write.write_request(request, model=model, quirks=quirks)

    def read_reply(self, body: bytes) -> HubReply:
        """Decode a chat completion; raises `ValueError` if it is none."""
        return read_reply(body)

    def write_reply(self, reply: HubReply, *, model: str, request: HubRequest) -> bytes:  # noqa: ARG002 - the port's
        """Encode a chat completion."""
        return write_reply(reply, model=model)

    def read_usage(self, body: bytes) -> tuple[Usage | None, str | None]:
        """Return usage and model of a reply of any of OpenAI's endpoints."""
        head = read_head(body)
        if head is None:
            raise ValueError("the body is not a JSON object")
        return (None if head.usage is None else disjoint_usage(head.usage)), head.model

    def stream_reader(self) -> port.StreamReader:
        """Return a reader for one stream."""
        return ChatStreamReader()

    def stream_writer(self, *, model: str, request: HubRequest) -> port.StreamWriter:
        """Return a writer for one stream."""
        return ChatStreamWriter(model=model, wants_usage=request.stream_usage)

    def scanner(self) -> port.Scanner:
        """Return a scanner for one stream."""
        return ChatScanner()

    def read_error(self, status: int, body: bytes) -> HubError | None:
        """Decode an error reply of OpenAI or of a server that copies it."""
        return read_error(status, body)

    def write_error(self, error: HubError) -> bytes:
        """Encode an error body."""
        return hub_error_body(error)


OPENAI = OpenAiDialect()
