"""What every chat dialect offers: pure functions between its bytes and the hub format. No I/O, no settings.

A gateway reads the client's dialect and writes the target's for requests, and the other way round for replies. When
both are the same it moves bytes instead, and only a `Scanner` looks at a copy of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from penstock.spec.hub import Event, HubError, HubReply, HubRequest
from penstock.spec.routes import DialectName
from penstock.spec.usage import Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenRequest:
    """A request ready to be sent: `path` is appended to the provider's base URL."""

    path: str
    """Begins with `/`; may hold the model's name (percent-encoded) and a query."""
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Beside content-type and authorization, such as `anthropic-beta`."""
    dropped: tuple[str, ...] = ()
    """What the request said and this dialect cannot, as paths: `seed`, `tools[1].builtin`, `messages[0].audio`."""


class Envelope(msgspec.Struct, kw_only=True):
    """The little that a gateway must know of a request before it is sent on: cheap to read, leaves messages alone."""

    model: str
    stream: bool = False
    wants_usage: bool = False
    max_tokens: int | None = None
    n: int | None = None
    user: str | None = None
    n_messages: int | None = None
    has_tools: bool = False
    previous: str | None = None
    """The earlier reply this request goes on from (`previous_response_id`): only who made that can serve it."""
    cache_key: str | None = None
    """What the client says of requests that begin alike (`prompt_cache_key`): they are best served by one target."""


class StreamReader(Protocol):
    """Turns an upstream's bytes into events. Any split of the bytes gives the same events (joined deltas aside)."""

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes; return the events that are complete. Never raises on bad input: emits `Failed`."""
        ...

    def finish(self) -> list[Event]:
        """Say that the connection has ended; returns what is left, always with one `End` last (once over all)."""
        ...


class StreamWriter(Protocol):
    """Turns events into the client's bytes, each batch as whole SSE events (or frames) of its dialect."""

    def write(self, events: Sequence[Event]) -> bytes:
        """Return the bytes for `events`, b"" when there is nothing to say yet."""
        ...

    def fail(self, error: HubError) -> bytes:
        """Return the bytes that end a stream which has begun with an error, as this dialect tells errors."""
        ...


class Scanner(Protocol):
    """Looks at a copy of a same-dialect reply on its way: usage, model, whether it has ended, whether it has begun."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        ...

    @property
    def has_content(self) -> bool:
        """Whether a content byte has come: text, reasoning or a tool call, not only a role or a ping."""
        ...

    def usage(self) -> Usage | None:
        """Return the usage told so far."""
        ...

    def model(self) -> str | None:
        """Return the model that answers."""
        ...

    def is_finished(self) -> bool:
        """Return whether the provider said that the reply is complete."""
        ...

    def error(self) -> HubError | None:
        """Return the error that an event of the stream reported, if one did."""
        ...


class Dialect(Protocol):
    """One wire protocol. Instances are stateless and shared."""

    @property
    def name(self) -> DialectName:
        """Its name."""
        ...

    def peek(self, body: bytes, *, model: str | None, stream: bool | None, max_depth: int) -> Envelope:
        """Read what decides about a request (see `Envelope`); refuses what `dialects.openai.envelope` refuses.

        `model` and `stream` are given where the path says them.
        """
        ...

    def replace_model(self, body: bytes, model: str) -> bytes:
        """Return the body with its `model` replaced and every other byte untouched (or `body` if it holds none)."""
        ...

    def read_request(self, body: bytes, *, model: str | None, stream: bool | None) -> HubRequest:
        """Decode a client's request. `model` and `stream` are given where the path says them (Gemini, Bedrock).

        Raises `InvalidInput` naming the member that is wrong.
        """
        ...

    def write_request(self, request: HubRequest, *, model: str, quirks: frozenset[str]) -> WrittenRequest:
        """Encode for a target that calls its model `model`. Never raises for what cannot be said: see `dropped`."""
        ...

    def read_reply(self, body: bytes) -> HubReply:
        """Decode a successful non-streamed reply; raises `ValueError` if it is not one."""
        ...

    def write_reply(self, reply: HubReply, *, model: str, request: HubRequest) -> bytes:
        """Encode a reply for the client; `model` is the name the client asked for."""
        ...

    def read_usage(self, body: bytes) -> tuple[Usage | None, str | None]:
        """Return usage and model of a successful non-streamed reply without decoding the rest; `ValueError` if it
        is not a JSON object."""
        ...

    def stream_reader(self) -> StreamReader:
        """Return a reader for one stream."""
        ...

    def stream_writer(self, *, model: str, request: HubRequest) -> StreamWriter:
        """Return a writer for one stream to a client that asked for `model`."""
        ...

    def scanner(self) -> Scanner:
        """Return a scanner for one same-dialect stream."""
        ...

    def read_error(self, status: int, body: bytes) -> HubError | None:
        """Decode a provider's error reply; None if the body is not in this dialect's shape (HTML pages …)."""
        ...

    def write_error(self, error: HubError) -> bytes:
        """Encode an error body for the client."""
        ...

    @property
    def stream_content_type(self) -> bytes:
        """`text/event-stream`, or `application/vnd.amazon.eventstream`."""
        ...
