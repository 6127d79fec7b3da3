"""Events of the hub, written as a stream of `/v1/messages`.

The hub tells usage after the finish and this dialect tells both in one `message_delta`, which therefore waits for the
end. The first `message_start` must hold counts: what is not known yet is 0 there and right in `message_delta`.
"""

from typing import Any

import msgspec

from penstock.dialects.anthropic.blocks import write_thinking
from penstock.dialects.anthropic.errors import write_error
from penstock.dialects.anthropic.finish import write_finish
from penstock.dialects.anthropic.foreign import mark_call, mark_thinking
from penstock.dialects.anthropic.reply import is_citation, own_members
from penstock.dialects.anthropic.usage import wire_usage
from penstock.dialects.event_writer import EventWriter, write_typed
from penstock.dialects.sse_events import write_event
from penstock.spec.hub import (
    FinishSeen,
    HubError,
    Opaque,
    Part,
    PartDelta,
    Refusal,
    Start,
    Text,
    Thinking,
    ToolCall,
)
from penstock.spec.usage import Usage


class StreamWriter(EventWriter):
    """See `dialects.port.StreamWriter`. Of several choices the first is told."""

    def __init__(self, *, model: str) -> None:
        super().__init__()
        self._model = model
        self._n_blocks = 0
        self._signature = ""
        self._sealed: str | None = None

    def _write_error(self, error: HubError) -> bytes:
        return write_event(write_error(error), "error")

    def _write_start(self, start: Start) -> bytes:
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
        return write_typed("message_start", message=message)

    def _write_end(self, finish: FinishSeen, usage: Usage | None) -> list[bytes]:
        reason = write_finish(finish.finish, finish.finish_raw, finish.stop_sequence)
        delta = {"stop_reason": reason, "stop_sequence": finish.stop_sequence}
        return [
            write_typed("message_delta", delta=delta, usage=wire_usage(usage)),
            write_typed("message_stop"),
        ]

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
        return write_typed(kind, index=self._n_blocks - 1, **members)
