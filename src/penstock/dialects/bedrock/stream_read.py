"""From a ConverseStream to events, and the scanner of one that passes as it is."""

from typing import Any

import msgspec

from penstock.dialects.bedrock.errors import read_exception
from penstock.dialects.bedrock.finish import read_finish
from penstock.dialects.bedrock.frames import Frame, FrameSplitter
from penstock.dialects.bedrock.parts import FORMATS
from penstock.dialects.bedrock.reply import read_stop_sequence
from penstock.dialects.bedrock.usage import read_usage
from penstock.dialects.part_line import PartLine
from penstock.spec.hub import (
    End,
    Event,
    Failed,
    FinishSeen,
    HubError,
    Media,
    Start,
    Text,
    Thinking,
    ToolCall,
    UsageSeen,
)
from penstock.spec.usage import Usage

_BROKEN = HubError(kind="server_error", message="The provider sent a damaged event stream.", status=502)


def frame_error(frame: Frame) -> HubError | None:
    """Return the error that a message reports, or None if it is an event."""
    kind = frame.headers.get(":message-type")
    if kind == "error":
        name, message = frame.headers.get(":error-code"), frame.headers.get(":error-message")
        return read_exception(str(name), str(message or name), None)
    if kind != "exception":
        return None
    value = frame_value(frame)
    message = value.get("message", value.get("Message"))
    name = str(frame.headers.get(":exception-type"))
    return read_exception(name, message if isinstance(message, str) else name, value)


def frame_value(frame: Frame) -> dict[str, Any]:
    """Return the object of a payload, empty if there is none."""
    try:
        value = msgspec.json.decode(frame.payload)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


class BedrockReader:
    """Reads one stream."""

    def __init__(self) -> None:
        self._splitter = FrameSplitter()
        self._line = PartLine()
        self._block: object = None
        self._pending: Media | None = None
        self._has_begun = False
        self._has_stopped = False
        self._has_failed = False
        self._has_ended = False

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes; return the events that are complete."""
        events: list[Event] = []
        if self._has_failed or self._has_ended:
            return events
        for frame in self._splitter.feed(data):
            error = frame_error(frame)
            if error is not None:
                return [*events, *self._fail(error)]
            events += self._take(str(frame.headers.get(":event-type")), frame_value(frame))
        if self._splitter.is_broken:
            events += self._fail(_BROKEN)
        return events

    def finish(self) -> list[Event]:
        """Say that the connection has ended."""
        if self._has_ended:
            return []
        self._has_ended = True
        is_complete = self._has_stopped and not self._has_failed and self._splitter.is_between_frames
        return [End(complete=is_complete)]

    def _fail(self, error: HubError) -> list[Event]:
        self._has_failed = True
        return [Failed(error=error)]

    def _take(self, name: str, value: dict[str, Any]) -> list[Event]:
        if name == "messageStart":
            return self._begin()
        if name == "metadata":
            usage = read_usage(value.get("usage"))
            return [] if usage is None else [*self._begin(), UsageSeen(usage=usage)]
        if self._has_stopped:
            return []
        if name == "contentBlockStart":
            return [*self._begin(), *self._start(value)]
        if name == "contentBlockDelta":
            return [*self._begin(), *self._delta(value)]
        if name == "contentBlockStop":
            return self._stop()
        if name == "messageStop":
            events = [*self._begin(), *self._stop()]
            self._has_stopped = True
            raw = value.get("stopReason")
            events.append(
                FinishSeen(
                    finish=read_finish(raw),
                    finish_raw=raw if isinstance(raw, str) else None,
                    stop_sequence=read_stop_sequence(value),
                )
            )
            return events
        return []

    def _begin(self) -> list[Event]:
        if self._has_begun:
            return []
        self._has_begun = True
        return [Start()]

    def _start(self, value: dict[str, Any]) -> list[Event]:
        events = self._stop()
        self._block = value.get("contentBlockIndex")
        start = value.get("start")
        call = start.get("toolUse") if isinstance(start, dict) else None
        image = start.get("image") if isinstance(start, dict) else None
        if isinstance(call, dict) and isinstance(name := call.get("name"), str):
            call_id = call.get("toolUseId")
            events += self._line.start(ToolCall(id=call_id if isinstance(call_id, str) else "", name=name))
        elif isinstance(image, dict):
            form = str(image.get("format"))
            self._pending = Media(kind="image", media_type=FORMATS.get(form, f"image/{form}"), data="")
        return events

    def _delta(self, value: dict[str, Any]) -> list[Event]:
        delta = value.get("delta")
        if not isinstance(delta, dict):
            return []
        events: list[Event] = []
        if value.get("contentBlockIndex") != self._block:
            events += self._stop()
            self._block = value.get("contentBlockIndex")
        text, call, thought = delta.get("text"), delta.get("toolUse"), delta.get("reasoningContent")
        if isinstance(text, str):
            if text and not isinstance(self._line.open, Text):
                events += self._line.start(Text(text=""))
            if text:
                events += self._line.delta(text)
        elif isinstance(call, dict):
            piece = call.get("input")
            if isinstance(piece, str) and piece and isinstance(self._line.open, ToolCall):
                events += self._line.delta(piece)
        elif isinstance(thought, dict):
            events += self._thought(thought)
        elif isinstance(image := delta.get("image"), dict) and self._pending is not None:
            source = image.get("source")
            data = source.get("bytes") if isinstance(source, dict) else None
            if isinstance(data, str):
                self._pending.data = (self._pending.data or "") + data
        elif "citation" in delta and isinstance(self._line.open, Text):
            events += self._line.delta(extra={"citation": delta["citation"]})
        return events

    def _thought(self, thought: dict[str, Any]) -> list[Event]:
        text, signature, sealed = (
            value if isinstance(value := thought.get(name), str) and value else None
            for name in ("text", "signature", "redactedContent")
        )
        if sealed is not None:
            return [*self._line.start(Thinking(sealed=sealed, origin="bedrock")), *self._line.end()]
        if text is None and signature is None:
            return []
        is_open = isinstance(self._line.open, Thinking)
        events = [] if is_open else self._line.start(Thinking(origin="bedrock"))
        return [*events, *self._line.delta(text or "", signature=signature)]

    def _stop(self) -> list[Event]:
        self._block = None
        if self._pending is not None:
            part, self._pending = self._pending, None
            return [*self._line.start(part), *self._line.end()]
        return self._line.end()


class BedrockScanner:
    """Looks at a copy of a stream that passes as it is."""

    def __init__(self) -> None:
        self._splitter = FrameSplitter()
        self._usage: Any = None
        self._error: HubError | None = None
        self._has_content = False
        self._has_stopped = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        for frame in self._splitter.feed(data):
            name = frame.headers.get(":event-type")
            if name == "contentBlockDelta":
                self._has_content = self._has_content or _says_something(frame_value(frame).get("delta"))
            elif name == "contentBlockStart":
                self._has_content = True  # only tool calls and media begin so
            elif name == "messageStop":
                self._has_stopped = True
            elif name == "metadata":
                self._usage = frame_value(frame).get("usage") or self._usage
            else:
                self._error = frame_error(frame) or self._error
        if self._splitter.is_broken and self._error is None:
            self._error = _BROKEN

    @property
    def has_content(self) -> bool:
        """Whether text, a thought or a call have come."""
        return self._has_content

    def usage(self) -> Usage | None:
        """Return the usage, which comes last."""
        return read_usage(self._usage)

    def model(self) -> str | None:
        """Return None: Bedrock does not name the model."""
        return None

    def is_finished(self) -> bool:
        """Return whether the message has ended."""
        return self._has_stopped

    def error(self) -> HubError | None:
        """Return the exception inside the stream, if there was one."""
        return self._error


def _says_something(delta: Any) -> bool:
    return isinstance(delta, dict) and any(bool(value) for value in delta.values())
