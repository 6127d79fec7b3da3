"""A stream of `/v1/messages`, read into events; and the scanner that looks at a copy of one on its way.

Blocks come one after another, so they are parts as they are. A block that only this dialect knows is held until it is
whole. `message_stop` is the end; after an `error` event nothing counts.
"""

from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.dialects.anthropic.blocks import read_block
from penstock.dialects.anthropic.errors import read_error
from penstock.dialects.anthropic.finish import read_finish
from penstock.dialects.anthropic.usage import UsageObject, disjoint_usage, read_usage_object
from penstock.dialects.event_reader import EventReader, decode_event, text_or_none
from penstock.dialects.sse_events import SseEvent, SseSplitter
from penstock.spec.hub import (
    End,
    Event,
    FinishSeen,
    HubError,
    Opaque,
    Start,
    Text,
    Thinking,
    ToolCall,
    UsageSeen,
)
from penstock.spec.usage import Usage


class StreamReader(EventReader):
    """See `dialects.port.StreamReader`."""

    def __init__(self) -> None:
        super().__init__()
        self._usage = UsageObject()
        self._has_finished = False
        self._held: dict[str, Any] | None = None
        """A block of unknown kind, growing; its part begins and ends when it is complete."""
        self._held_input: list[str] = []

    def _read(self, event: SseEvent, value: dict[str, Any], events: list[Event]) -> None:
        kind = value.get("type", event.event)
        if kind == "error":
            self._fail_with(read_error(None, event.data) or _untold(value), events)
            return
        if kind == "ping" or not isinstance(kind, str):
            return
        if not self._has_begun:
            self._begin(value.get("message") if kind == "message_start" else None, events)
        if kind == "content_block_start":
            self._block_start(value.get("content_block"), events)
        elif kind == "content_block_delta":
            self._block_delta(value.get("delta"), events)
        elif kind == "content_block_stop":
            self._block_stop(events)
        elif kind == "message_delta":
            self._message_delta(value, events)
        elif kind == "message_stop":
            self._block_stop(events)
            self._has_ended = True
            events.append(End(complete=True))

    def _begin(self, message: Any, events: list[Event]) -> None:
        self._has_begun = True
        start = Start()
        if isinstance(message, dict):
            start.id, start.model = text_or_none(message.get("id")), text_or_none(message.get("model"))
            start.usage = self._count(message.get("usage"))
        events.append(start)

    def _count(self, value: Any) -> Usage | None:
        told = read_usage_object(value)
        if told is not None:
            self._usage = self._usage.updated(told)
        return disjoint_usage(self._usage)

    # -- blocks

    def _block_start(self, block: Any, events: list[Event]) -> None:
        self._block_stop(events)
        if not isinstance(block, dict) or self._has_finished:
            return
        try:
            part = read_block({"input": {}, **block} if block.get("type") == "tool_use" else block, "content")
        except InvalidInput:
            part = Opaque(dialect="anthropic", raw=block)
        if isinstance(part, Opaque):
            self._held, self._held_input = dict(block), []
        else:
            events += self._line.start(part)

    def _block_stop(self, events: list[Event]) -> None:
        if self._held is not None:
            raw, self._held = self._held, None
            if self._held_input and (given := decode_event("".join(self._held_input).encode())) is not None:
                raw["input"] = given
            events += self._line.start(Opaque(dialect="anthropic", raw=raw))
        events += self._line.end()

    def _block_delta(self, delta: Any, events: list[Event]) -> None:
        if not isinstance(delta, dict) or self._has_finished:
            return
        if self._held is not None:
            self._grow_held(delta)
            return
        kind, line = delta.get("type"), self._line
        if line.open is None and kind in ("text_delta", "thinking_delta"):
            # Some servers never announce the block.
            events += line.start(Text(text="") if kind == "text_delta" else Thinking(origin="anthropic"))
        if kind == "text_delta" and isinstance(line.open, Text):
            events += line.delta(text_or_none(delta.get("text")) or "")
        elif kind == "thinking_delta" and isinstance(line.open, Thinking):
            events += line.delta(text_or_none(delta.get("thinking")) or "")
        elif kind == "signature_delta" and isinstance(line.open, Thinking):
            events += line.delta(signature=text_or_none(delta.get("signature")))
        elif kind == "input_json_delta" and isinstance(line.open, ToolCall):
            events += line.delta(text_or_none(delta.get("partial_json")) or "")
        elif kind == "citations_delta" and isinstance(line.open, Text):
            events += line.delta(extra={"citations": [delta.get("citation")]})

    def _grow_held(self, delta: dict[str, Any]) -> None:
        """Add to a block of unknown kind: texts are joined, anything else is replaced."""
        assert self._held is not None
        if delta.get("type") == "input_json_delta":
            self._held_input.append(text_or_none(delta.get("partial_json")) or "")
            return
        for name, value in delta.items():
            if name != "type":
                known = self._held.get(name)
                both = isinstance(known, str) and isinstance(value, str)
                self._held[name] = known + value if both else value

    def _message_delta(self, value: dict[str, Any], events: list[Event]) -> None:
        delta = value.get("delta")
        reason = text_or_none(delta.get("stop_reason")) if isinstance(delta, dict) else None
        if reason is not None and not self._has_finished:
            assert isinstance(delta, dict)
            self._block_stop(events)
            self._has_finished = True
            stop_sequence = text_or_none(delta.get("stop_sequence"))
            events.append(
                FinishSeen(finish=read_finish(reason), finish_raw=reason, stop_sequence=stop_sequence)
            )
        if value.get("usage") is not None and (usage := self._count(value["usage"])) is not None:
            events.append(UsageSeen(usage=usage))


def _untold(raw: Any) -> HubError:
    return HubError(kind="unknown", message="The provider reported an error.", status=502, raw=raw)


class _Kind(msgspec.Struct):
    type: str = ""


_kind = msgspec.json.Decoder(_Kind)


class Scanner:
    """See `dialects.port.Scanner`. Decodes the first events and those that count, and only names the others."""

    def __init__(self) -> None:
        self._splitter = SseSplitter()
        self._wire = UsageObject()
        self._model: str | None = None
        self._has_content = False
        self._is_finished = False
        self._error: HubError | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        for event in self._splitter.feed(data):
            kind = event.event or _read_kind(event.data)
            if kind == "content_block_delta":
                if not self._has_content:
                    self._look_at_delta(decode_event(event.data))
            elif kind == "content_block_start":
                if not self._has_content:
                    self._look_at_block(decode_event(event.data))
            elif kind in ("message_start", "message_delta"):
                self._look_at_message(decode_event(event.data))
            elif kind == "message_stop":
                self._is_finished = True
            elif kind == "error":
                self._error = read_error(None, event.data) or _untold(decode_event(event.data))

    def _look_at_delta(self, value: dict[str, Any] | None) -> None:
        delta = value.get("delta") if value else None
        if isinstance(delta, dict):
            self._has_content = any(name != "type" and said not in ("", None) for name, said in delta.items())

    def _look_at_block(self, value: dict[str, Any] | None) -> None:
        block = value.get("content_block") if value else None
        if isinstance(block, dict):
            said = block.get("text") or block.get("thinking")
            self._has_content = bool(said) or block.get("type") not in ("text", "thinking")

    def _look_at_message(self, value: dict[str, Any] | None) -> None:
        if value is None:
            return
        message = value.get("message")
        if isinstance(message, dict):
            self._model = text_or_none(message.get("model"))
            value = message
        delta = value.get("delta")
        if isinstance(delta, dict) and delta.get("stop_reason") is not None:
            self._is_finished = True
        told = read_usage_object(value.get("usage"))
        if told is not None:
            self._wire = self._wire.updated(told)

    @property
    def has_content(self) -> bool:
        """Whether text, thoughts or a call have begun to come."""
        return self._has_content

    def usage(self) -> Usage | None:
        """Return the usage told so far."""
        return disjoint_usage(self._wire)

    def model(self) -> str | None:
        """Return the model that answers."""
        return self._model

    def is_finished(self) -> bool:
        """Return whether a stop reason or the end of the message was told."""
        return self._is_finished

    def error(self) -> HubError | None:
        """Return the error that an event of the stream reported."""
        return self._error


def _read_kind(data: bytes) -> str:
    try:
        return _kind.decode(data).type
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ""
