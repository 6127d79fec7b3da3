"""A stream of `/v2/chat`, read into events; and the scanner that looks at a copy of one on its way.

Its one surprise: citations come after `content-end` as well, so a text stays open until something else begins.
"""

from typing import Any

from penstock.dialects.cohere.content import PLAN
from penstock.dialects.cohere.finish import read_finish
from penstock.dialects.cohere.logprobs import read_logprobs
from penstock.dialects.cohere.usage import read_usage_object
from penstock.dialects.event_reader import EventReader, decode_event, text_or_none
from penstock.dialects.sse_events import SseEvent, SseSplitter
from penstock.spec.hub import (
    End,
    Event,
    FinishSeen,
    HubError,
    Part,
    Start,
    Text,
    Thinking,
    ToolCall,
    UsageSeen,
)
from penstock.spec.usage import Usage


class StreamReader(EventReader):
    """See `dialects.port.StreamReader`."""

    def _read(self, event: SseEvent, value: dict[str, Any], events: list[Event]) -> None:
        kind = value.get("type", event.event)
        if kind is None and isinstance(value.get("message"), str):
            self._fail(events, value["message"], value)
            return
        if not isinstance(kind, str):
            return
        if not self._has_begun:
            self._has_begun = True
            events.append(Start(id=text_or_none(value.get("id"))))
        delta = value.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        if kind == "message-end":
            self._message_end(delta, events)
            return
        message = delta.get("message")
        message = message if isinstance(message, dict) else {}
        if kind in ("content-start", "content-delta"):
            self._content(kind, message.get("content"), value.get("logprobs"), events)
        elif kind == "tool-plan-delta":
            self._go_on(Thinking(origin="cohere", extra={PLAN: True}), message.get("tool_plan"), events)
        elif kind in ("tool-call-start", "tool-call-delta"):
            self._call(kind, message.get("tool_calls"), events)
        elif kind == "tool-call-end" and isinstance(self._line.open, ToolCall):
            events += self._line.end()
        elif kind == "citation-start" and isinstance(self._line.open, Text):
            events += self._line.delta(extra={"citations": [message.get("citations")]})

    def _content(self, kind: str, content: Any, logprobs: Any, events: list[Event]) -> None:
        if not isinstance(content, dict):
            return
        thought, text = content.get("thinking"), text_or_none(content.get("text"))
        is_thought = content.get("type") == "thinking" or (text is None and isinstance(thought, str))
        said = text_or_none(thought) if is_thought else text
        part: Part = Thinking(origin="cohere") if is_thought else Text(text="")
        if kind == "content-start":
            events += self._line.start(part)
        self._go_on(part, said, events, read_logprobs(logprobs))

    def _go_on(self, part: Part, said: Any, events: list[Event], logprobs: Any = None) -> None:
        """Add to the open part if it is of this kind, else begin `part`."""
        line = self._line
        if not isinstance(said, str) or (not said and logprobs is None):
            return
        if (
            line.open is None
            or type(line.open) is not type(part)
            or (PLAN in line.open.extra) != (PLAN in part.extra)
        ):
            events += line.start(part)
        events += line.delta(said, logprobs=logprobs)

    def _call(self, kind: str, call: Any, events: list[Event]) -> None:
        if not isinstance(call, dict):
            return
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        if kind == "tool-call-start":
            name = text_or_none(function.get("name")) or ""
            events += self._line.start(ToolCall(id=text_or_none(call.get("id")) or "", name=name))
        arguments = text_or_none(function.get("arguments"))
        if arguments and isinstance(self._line.open, ToolCall):
            events += self._line.delta(arguments)

    def _message_end(self, delta: dict[str, Any], events: list[Event]) -> None:
        if error := text_or_none(delta.get("error")):
            self._fail(events, error, delta)
            return
        events += self._line.end()
        reason = text_or_none(delta.get("finish_reason"))
        if reason is not None:
            events.append(FinishSeen(finish=read_finish(reason), finish_raw=reason))
        usage = read_usage_object(delta.get("usage"))
        if usage is not None:
            events.append(UsageSeen(usage=usage))
        self._has_ended = True
        events.append(End(complete=True))


class Scanner:
    """See `dialects.port.Scanner`. Decodes events until content has come, and the last."""

    def __init__(self) -> None:
        self._splitter = SseSplitter()
        self._usage: Usage | None = None
        self._has_content = False
        self._is_finished = False
        self._error: HubError | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        for event in self._splitter.feed(data):
            if self._has_content and b"message-end" not in event.data:
                continue
            value = decode_event(event.data)
            if value is not None:
                self._look(value.get("type", event.event), value)

    def _look(self, kind: Any, value: dict[str, Any]) -> None:
        delta = value.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        if kind == "message-end":
            self._usage = read_usage_object(delta.get("usage"))
            self._is_finished = True
            if error := text_or_none(delta.get("error")):
                self._error = HubError(kind="server_error", message=error, status=502, raw=delta)
        elif kind == "tool-call-start":
            self._has_content = True
        elif kind in ("content-start", "content-delta", "tool-plan-delta"):
            message = delta.get("message")
            said = message.get("content", message.get("tool_plan")) if isinstance(message, dict) else None
            text = (said.get("text") or said.get("thinking")) if isinstance(said, dict) else said
            self._has_content = self._has_content or bool(text)
        elif kind is None and isinstance(value.get("message"), str):
            self._error = HubError(kind="server_error", message=value["message"], status=502, raw=value)

    @property
    def has_content(self) -> bool:
        """Whether text, thoughts, a plan or a call have begun to come."""
        return self._has_content

    def usage(self) -> Usage | None:
        """Return the usage told so far."""
        return self._usage

    def model(self) -> str | None:
        """Return None: this dialect does not name the model."""
        return None

    def is_finished(self) -> bool:
        """Return whether the end of the message was told."""
        return self._is_finished

    def error(self) -> HubError | None:
        """Return the error that an event of the stream reported."""
        return self._error
