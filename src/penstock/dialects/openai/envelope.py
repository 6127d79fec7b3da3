"""The few members of a request that a gateway reads. Everything else stays bytes and passes untouched."""

from typing import Any

import msgspec

from penstock.dialects.bodies import decode_head, need_model

_DECIDING = ("model", "stream", "stream_options")


class StreamOptions(msgspec.Struct, frozen=True):
    """The part of `stream_options` that decides whether usage comes with a stream."""

    include_usage: bool | None = None


_NO_TOOLS = msgspec.Raw(b"null")


class Envelope(msgspec.Struct, frozen=True):
    """What is read of a request body; it has the attributes of `dialects.port.Envelope`."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    old_max_tokens: int | None = msgspec.field(name="max_tokens", default=None)
    any_user: Any = msgspec.field(name="user", default=None)
    any_tools: msgspec.Raw = msgspec.field(name="tools", default=_NO_TOOLS)
    any_cache_key: Any = msgspec.field(name="prompt_cache_key", default=None)

    @property
    def wants_usage(self) -> bool:
        """Whether the client asked for the usage event of a stream."""
        return self.stream_options is not None and self.stream_options.include_usage is True

    @property
    def max_tokens(self) -> int | None:
        """The most tokens the reply may have, by either of its two names."""
        return self.old_max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def user(self) -> str | None:
        """Who the client says is asking; anything but text counts as nobody."""
        return self.any_user if isinstance(self.any_user, str) else None

    @property
    def n_messages(self) -> int | None:
        """Not counted: messages stay raw."""
        return None

    @property
    def previous(self) -> str | None:
        """Chat completions do not go on from an earlier reply."""
        return None

    @property
    def cache_key(self) -> str | None:
        """What the client says of requests that begin alike; anything but text counts as nothing."""
        return self.any_cache_key if isinstance(self.any_cache_key, str) else None

    @property
    def has_tools(self) -> bool:
        """Whether tools are offered to the model."""
        tools = self.any_tools
        if tools is _NO_TOOLS:
            return False
        return bytes(memoryview(tools)[:8]).strip().replace(b" ", b"") not in (b"null", b"[]")


_decoder = msgspec.json.Decoder(Envelope)


def parse_envelope(body: bytes, *, max_depth: int) -> Envelope:
    """Return the envelope of a JSON request body.

    Raises `InvalidInput` that names the member for: not JSON, not UTF-8, nested deeper than `max_depth`, no or
    empty `model`, members of a wrong type, and members that decide about the call given twice.
    """
    envelope = decode_head(_decoder, body, max_depth=max_depth, deciding=_DECIDING)
    need_model(envelope.model)
    return envelope
