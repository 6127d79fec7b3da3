"""Events of the hub, written as a stream of `/v1/messages`.

The hub tells usage after the finish and this dialect tells both in one `message_delta`, which therefore waits for the
end. The first `message_start` must hold counts: what is not known yet is 0 there and right in `message_delta`.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.dialects.anthropic.blocks import write_thinking
from penstock.dialects.anthropic.errors import write_error
from penstock.dialects.anthropic.finish import write_finish
from penstock.dialects.anthropic.foreign import mark_call, mark_thinking
from penstock.dialects.anthropic.reply import is_citation, own_members
from penstock.dialects.anthropic.usage import wire_usage
from penstock.dialects.sse_events import write_event
from penstock.spec.hub import (
    End,
    Event,
    Failed,
    FinishSeen,
    HubError,
    Opaque,
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


class StreamWriter:
    """See `dialects.port.StreamWriter`. Of several choices the first is told."""

    def __init__(self, *, model: str) -> None:
        self._model = model
        self._usage: Usage | None = None
        self._finish: FinishSeen | None = None
        self._open: Part | None = None
        self._n_blocks = 0
        self._signature = ""
        self._sealed: str | None = None
        self._has_begun = False
        self._has_ended = False

    def write(self, events: Sequence[Event]) -> bytes:
        """Return the bytes for `events`."""
        return b"".join([piece for event in events for piece in self._write(event)])

    def fail(self, error: HubError) -> bytes:
        """Return the `error` event that ends the stream."""
        if self._has_ended:
            return b""
        self._has_ended = True
        return write_event(write_error(error), "error")

    def _write(self, event: Event) -> list[bytes]:
        if self._has_ended or getattr(event, "choice", 0) != 0:
            return []
        match event:
            case Start():
                return [self._begin(event)]
            case PartStart():
                return self._part_start(event.part)
            case PartDelta():
                return self._part_delta(event)
            case PartEnd():
                return self._part_end()
            case FinishSeen():
                self._finish = event
            case UsageSeen():
                self._usage = event.usage
            case Failed():
                return [self.fail(event.error)]
            case End():
                return self._end(event.complete)
        return []

    def _begin(self, start: Start) -> bytes:
        self._has_begun = True
        self._usage = start.usage
        message: dict[str, Any] = {
            "id": start.id or "msg",
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": wire_usage(start.usage),
        }
        return _event("message_start", message=message)

    def _end(self, is_complete: bool) -> list[bytes]:
        """A stream that broke off before its finish is left open: only `fail` may close it."""
        if not is_complete and self._finish is None:
            return []
        self._has_ended = True
        pieces = [] if self._has_begun else [self._begin(Start())]
        finish = self._finish or FinishSeen(finish="unknown")
        reason = write_finish(finish.finish, finish.finish_raw, finish.stop_sequence)
        delta = {"stop_reason": reason, "stop_sequence": finish.stop_sequence}
        pieces.append(_event("message_delta", delta=delta, usage=wire_usage(self._usage)))
        return [*pieces, _event("message_stop")]

    # -- blocks

    def _part_start(self, part: Part) -> list[bytes]:
        first = ""
        block: dict[str, Any]
        if isinstance(part, Text | Refusal):
            block, first = {"type": "text", "text": ""}, part.text
        elif isinstance(part, ToolCall):
            block, first = {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}, part.arguments
            if part.signature is not None:
                block["signature"] = mark_call(part.signature)
        elif isinstance(part, Thinking):
            if self._is_redacted(part):
                block = write_thinking(part)
            else:
                block, first = {"type": "thinking", "thinking": "", "signature": ""}, part.text or ""
        elif isinstance(part, Opaque) and part.dialect == "anthropic" and isinstance(part.raw, dict):
            block = part.raw
        else:
            self._open = None
            return []
        self._open, self._signature, self._sealed = part, "", None
        self._n_blocks += 1
        pieces = [self._block_event("content_block_start", content_block=block)]
        if first:
            pieces.append(self._delta(part, first))
        if isinstance(part, Text):
            pieces += self._citations(own_members(part.extra))
        return pieces

    @staticmethod
    def _is_redacted(part: Thinking) -> bool:
        """Whether this is a sealed thought of Anthropic's; those of others may still get a text."""
        return part.origin == "anthropic" and part.sealed is not None

    def _part_delta(self, delta: PartDelta) -> list[bytes]:
        part = self._open
        if part is None or isinstance(part, Opaque):
            return []
        self._signature += delta.signature or ""
        self._sealed = delta.sealed or self._sealed
        pieces = [self._delta(part, delta.text)] if delta.text else []
        if isinstance(part, Text):
            pieces += self._citations(delta.extra)
        return pieces

    def _delta(self, part: Part, text: str) -> bytes:
        if isinstance(part, ToolCall):
            delta = {"type": "input_json_delta", "partial_json": text}
        elif isinstance(part, Thinking):
            delta = {"type": "thinking_delta", "thinking": text}
        else:
            delta = {"type": "text_delta", "text": text}
        return self._block_event("content_block_delta", delta=delta)

    def _citations(self, extra: Any) -> list[bytes]:
        listed = extra.get("citations") if isinstance(extra, dict) else None
        return [
            self._block_event("content_block_delta", delta={"type": "citations_delta", "citation": one})
            for one in (listed if isinstance(listed, list) else ())
            if is_citation(one)
        ]

    def _part_end(self) -> list[bytes]:
        part, self._open = self._open, None
        if part is None:
            return []
        pieces: list[bytes] = []
        if isinstance(part, Thinking) and not self._is_redacted(part):
            joined = (part.signature or "") + self._signature or None
            sealed = self._sealed or part.sealed
            signature = joined
            if part.origin != "anthropic":
                signature = mark_thinking(msgspec.structs.replace(part, signature=joined, sealed=sealed))
            if signature:
                delta = {"type": "signature_delta", "signature": signature}
                pieces.append(self._block_event("content_block_delta", delta=delta))
        return [*pieces, self._block_event("content_block_stop")]

    def _block_event(self, kind: str, **members: Any) -> bytes:
        return _event(kind, index=self._n_blocks - 1, **members)


def _event(kind: str, **members: Any) -> bytes:
    return write_event(msgspec.json.encode({"type": kind, **members}), kind)
