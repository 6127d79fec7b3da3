"""Reads a streamed chat reply as a load test needs it: when text came, how it ended, what usage was told. Pure.

Tokens are never counted by pieces: a piece may hold several, or none.
"""

from typing import Any

import msgspec


class _Delta(msgspec.Struct):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: Any = None

    @property
    def has_text(self) -> bool:
        return bool(
            self.content or self.reasoning_content or self.reasoning or self.refusal or self.tool_calls
        )


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None
    text: str | None = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Event).decode


class ReplyReader:
    """Takes the bytes of a reply as they come. `at` is any clock in seconds."""

    def __init__(self) -> None:
        self._rest = b""
        self.first_s: float | None = None
        """When the first piece with text came."""
        self.last_s: float | None = None
        self.gaps_ms: list[float] = []
        self.n_pieces = 0
        self.finish: str | None = None
        self.is_done = False
        """Whether the stream said that it is complete."""
        self.error: Any = None
        """What the stream told instead of going on."""
        self.usage: _Usage | None = None

    def feed(self, data: bytes, at: float) -> None:
        """Take bytes of a stream; several pieces in one read came at the same moment."""
        self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._take(line[5:].strip(), at)

    def read_whole(self, data: bytes) -> None:
        """Take the body of a reply that was not streamed."""
        try:
            event = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        self._note(event)
        for choice in event.choices or ():
            if choice.finish_reason is not None or choice.message is not None:
                self.is_done = True
            if choice.message is not None and choice.message.has_text:
                self.n_pieces += 1

    @property
    def prompt_tokens(self) -> int | None:
        """As the reply tells; None when it does not."""
        return None if self.usage is None else self.usage.prompt_tokens

    @property
    def completion_tokens(self) -> int | None:
        """As the reply tells; None when it does not."""
        return None if self.usage is None else self.usage.completion_tokens

    @property
    def cached_tokens(self) -> int | None:
        """Of the prompt, as the reply tells."""
        details = None if self.usage is None else self.usage.prompt_tokens_details
        return None if details is None else details.cached_tokens

    def _take(self, text: bytes, at: float) -> None:
        if text == b"[DONE]":
            self.is_done = True
            return
        try:
            event = _decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        self._note(event)
        if not any(
            choice.text or (choice.delta is not None and choice.delta.has_text)
            for choice in event.choices or ()
        ):
            return
        self.n_pieces += 1
        if self.first_s is None:
            self.first_s = at
        elif self.last_s is not None:
            self.gaps_ms.append((at - self.last_s) * 1000)
        self.last_s = at

    def _note(self, event: _Event) -> None:
        if event.error is not None:
            self.error = event.error
        if event.usage is not None:
            self.usage = event.usage
        for choice in event.choices or ():
            self.finish = choice.finish_reason or self.finish
