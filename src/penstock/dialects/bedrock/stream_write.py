"""From events to a ConverseStream that AWS's own clients read: frames in the order and with the headers they expect."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from penstock.dialects.arguments import read_arguments
from penstock.dialects.bedrock.errors import exception_of
from penstock.dialects.bedrock.finish import MALFORMED, write_finish
from penstock.dialects.bedrock.frames import write_frame
from penstock.dialects.bedrock.parts import is_known_here, write_media
from penstock.dialects.bedrock.reply import stop_fields
from penstock.dialects.bedrock.usage import write_usage
from penstock.spec.hub import (
    End,
    Event,
    Failed,
    FinishSeen,
    HubError,
    Media,
    Part,
    PartDelta,
    PartEnd,
    PartStart,
    Refusal,
    Start,
    Text,
    Thinking,
    ToolCall,
    UsageSeen,
)
from penstock.spec.usage import Usage


class BedrockWriter:
    """Writes one stream. Bedrock knows one choice; events of others are left out."""

    def __init__(self) -> None:
        self._has_begun = False
        self._has_ended = False
        self._index = -1
        self._open: Part | None = None
        self._has_said = False
        self._arguments: list[str] = []
        self._is_malformed = False
        self._usage: Usage | None = None

    def write(self, events: Sequence[Event]) -> bytes:
        """Return the frames for `events`."""
        return b"".join(self._event(event) for event in events if getattr(event, "choice", 0) == 0)

    def fail(self, error: HubError) -> bytes:
        """Return the exception that ends the stream."""
        if self._has_ended:
            return b""
        self._has_ended = True
        name, payload = exception_of(error)
        headers = {
            ":exception-type": name,
            ":content-type": "application/json",
            ":message-type": "exception",
        }
        return write_frame(headers, payload)

    def _event(self, event: Event) -> bytes:
        if self._has_ended:
            return b""
        if isinstance(event, Start):
            self._usage = event.usage
            return self._begin()
        if isinstance(event, PartStart):
            return self._begin() + self._start(event.part)
        if isinstance(event, PartDelta):
            return self._delta(event)
        if isinstance(event, PartEnd):
            return self._stop()
        if isinstance(event, FinishSeen):
            return self._begin() + self._finish(event)
        if isinstance(event, UsageSeen):
            self._usage = event.usage
        elif isinstance(event, Failed):
            return self.fail(event.error)
        elif isinstance(event, End):
            self._has_ended = True
            if self._usage is not None:
                return _frame("metadata", {"usage": write_usage(self._usage)})
        return b""

    def _begin(self) -> bytes:
        if self._has_begun:
            return b""
        self._has_begun = True
        return _frame("messageStart", {"role": "assistant"})

    def _start(self, part: Part) -> bytes:
        if isinstance(part, Thinking) and not is_known_here(part):
            part = msgspec.structs.replace(part, signature=None, sealed=None)
        self._open, self._has_said, self._arguments = part, False, []
        if isinstance(part, ToolCall):
            self._index += 1
            self._has_said = True
            start = {"toolUse": {"toolUseId": part.id, "name": part.name}}
            written = self._frame("contentBlockStart", start=start)
            return written + self._call(part.arguments) if part.arguments else written
        if isinstance(part, Text | Refusal):
            return self._say({"text": part.text}) if part.text else b""
        if isinstance(part, Thinking):
            written = b""
            if part.text:
                written = self._say({"reasoningContent": {"text": part.text}})
            if part.signature:
                written += self._say({"reasoningContent": {"signature": part.signature}})
            return written
        return self._media(part) if isinstance(part, Media) else b""

    def _media(self, part: Media) -> bytes:
        block = write_media(part, {})
        inner = block.get("image") if block is not None else None
        if not isinstance(inner, dict):
            return b""
        self._index += 1
        self._has_said = True
        start = self._frame("contentBlockStart", start={"image": {"format": inner["format"]}})
        return start + self._frame("contentBlockDelta", delta={"image": {"source": inner["source"]}})

    def _delta(self, event: PartDelta) -> bytes:
        part = self._open
        if isinstance(part, ToolCall):
            return self._call(event.text) if event.text else b""
        if isinstance(part, Thinking):
            is_known = is_known_here(part)
            if event.sealed is not None and is_known:
                self._open = msgspec.structs.replace(part, sealed=event.sealed)
            written = self._say({"reasoningContent": {"text": event.text}}) if event.text else b""
            if event.signature and is_known:
                written += self._say({"reasoningContent": {"signature": event.signature}})
            return written
        return self._say({"text": event.text}) if event.text and part is not None else b""

    def _call(self, text: str) -> bytes:
        self._arguments.append(text)
        return self._frame("contentBlockDelta", delta={"toolUse": {"input": text}})

    def _say(self, delta: dict[str, Any]) -> bytes:
        if not self._has_said:
            self._index += 1
            self._has_said = True
        return self._frame("contentBlockDelta", delta=delta)

    def _stop(self) -> bytes:
        part, self._open = self._open, None
        written = b""
        if isinstance(part, Thinking) and part.sealed is not None and not self._has_said:
            written = self._say({"reasoningContent": {"redactedContent": part.sealed}})
        if isinstance(part, ToolCall) and read_arguments("".join(self._arguments)) is None:
            self._is_malformed = True
        return written + self._frame("contentBlockStop") if self._has_said else b""

    def _finish(self, event: FinishSeen) -> bytes:
        finish = write_finish(event.finish, event.finish_raw, event.stop_sequence)
        if self._is_malformed:
            finish = MALFORMED
        said = {} if finish is None else {"stopReason": finish}
        return _frame("messageStop", said | stop_fields(event.stop_sequence))

    def _frame(self, name: str, **members: Any) -> bytes:
        return _frame(name, {"contentBlockIndex": self._index, **members})


def _frame(name: str, value: Mapping[str, Any]) -> bytes:
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return write_frame(headers, msgspec.json.encode(value))
