"""Events of the hub, written as a stream of `/v2/chat`.

Finish and usage are told in one `message-end`, which therefore waits for the end. Contents and tool calls are
numbered apart.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.dialects.cohere.content import is_citation, is_plan
from penstock.dialects.cohere.finish import write_finish
from penstock.dialects.cohere.logprobs import write_logprobs
from penstock.dialects.cohere.usage import wire_usage
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

    def __init__(self, *, wants_logprobs: bool) -> None:
        self._wants_logprobs = wants_logprobs
        self._usage: Usage | None = None
        self._finish: FinishSeen | None = None
        self._open: Part | None = None
        self._n_contents = 0
        self._n_calls = 0
        self._n_citations = 0
        self._has_arguments = False
        self._has_begun = False
        self._has_ended = False

    def write(self, events: Sequence[Event]) -> bytes:
        """Return the bytes for `events`."""
        return b"".join([piece for event in events for piece in self._write(event)])

    def fail(self, error: HubError) -> bytes:
        """Return the `message-end` that tells the error."""
        if self._has_ended:
            return b""
        self._has_ended = True
        delta = {"error": error.message, "finish_reason": "ERROR"}
        return _event("message-end", delta=delta)

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
        empty: dict[str, Any] = {"content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        delta = {"message": {"role": "assistant", **empty}}
        return _event("message-start", id=start.id or "reply", delta=delta)

    def _end(self, is_complete: bool) -> list[bytes]:
        """A stream that broke off before its finish is left open: only `fail` may close it."""
        if not is_complete and self._finish is None:
            return []
        self._has_ended = True
        pieces = [] if self._has_begun else [self._begin(Start())]
        finish = self._finish or FinishSeen(finish="unknown")
        reason = write_finish(finish.finish, finish.finish_raw, finish.stop_sequence)
        delta: dict[str, Any] = {"finish_reason": reason}
        if self._usage is not None:
            delta["usage"] = wire_usage(self._usage)
        return [*pieces, _event("message-end", delta=delta)]

    def _part_start(self, part: Part) -> list[bytes]:
        self._open = part
        if isinstance(part, ToolCall):
            return self._start_call(part)
        if isinstance(part, Thinking) and is_plan(part):
            return self._say(part, part.text or "")
        if isinstance(part, Text | Refusal):
            return self._start_content("text", part.text)
        if isinstance(part, Thinking) and (part.text is not None or part.sealed is None):
            return self._start_content("thinking", part.text or "")
        self._open = None
        if isinstance(part, Opaque) and part.dialect == "cohere":
            index, self._n_contents = self._n_contents, self._n_contents + 1
            start = _event("content-start", index=index, delta={"message": {"content": part.raw}})
            return [start, _event("content-end", index=index)]
        return []

    def _start_content(self, kind: str, text: str) -> list[bytes]:
        index, self._n_contents = self._n_contents, self._n_contents + 1
        content = {"type": kind, kind: ""}
        start = _event("content-start", index=index, delta={"message": {"content": content}})
        assert self._open is not None
        pieces = [start, *self._say(self._open, text)]
        listed = self._open.extra.get("citations") if isinstance(self._open, Text) else None
        return [*pieces, *self._cite(listed)]

    def _start_call(self, part: ToolCall) -> list[bytes]:
        index, self._n_calls = self._n_calls, self._n_calls + 1
        self._has_arguments = bool(part.arguments)
        function = {"name": part.name, "arguments": part.arguments}
        call = {"id": part.id, "type": "function", "function": function}
        return [_event("tool-call-start", index=index, delta={"message": {"tool_calls": call}})]

    def _part_delta(self, delta: PartDelta) -> list[bytes]:
        if self._open is None:
            return []
        logprobs = write_logprobs(delta.logprobs) if self._wants_logprobs else []
        pieces = self._say(self._open, delta.text, logprobs)
        if isinstance(delta.extra, dict):
            pieces += self._cite(delta.extra.get("citations"))
        return pieces

    def _say(self, part: Part, text: str, logprobs: Sequence[dict[str, Any]] = ()) -> list[bytes]:
        if not text and not logprobs:
            return []
        if isinstance(part, ToolCall):
            self._has_arguments = True
            call = {"function": {"arguments": text}}
            return [
                _event("tool-call-delta", index=self._n_calls - 1, delta={"message": {"tool_calls": call}})
            ]
        if is_plan(part):
            return [_event("tool-plan-delta", delta={"message": {"tool_plan": text}})]
        kind = "thinking" if isinstance(part, Thinking) else "text"
        delta = {"message": {"content": {kind: text}}}
        index = self._n_contents - 1
        if not logprobs:
            return [_event("content-delta", index=index, delta=delta)]
        # An event holds one chunk's probabilities: the text goes with the first, the others follow with none.
        empty = {"message": {"content": {kind: ""}}}
        return [
            _event("content-delta", index=index, delta=empty if number else delta, logprobs=one)
            for number, one in enumerate(logprobs)
        ]

    def _cite(self, citations: Any) -> list[bytes]:
        pieces: list[bytes] = []
        for citation in citations if isinstance(citations, list) else ():
            if is_citation(citation):
                index, self._n_citations = self._n_citations, self._n_citations + 1
                delta = {"message": {"citations": citation}}
                pieces += [
                    _event("citation-start", index=index, delta=delta),
                    _event("citation-end", index=index),
                ]
        return pieces

    def _part_end(self) -> list[bytes]:
        part, self._open = self._open, None
        if isinstance(part, ToolCall):
            self._open, pieces = part, [] if self._has_arguments else self._say(part, "{}")
            self._open = None
            return [*pieces, _event("tool-call-end", index=self._n_calls - 1)]
        if part is None or is_plan(part):
            return []
        return [_event("content-end", index=self._n_contents - 1)]


def _event(kind: str, **members: Any) -> bytes:
    return write_event(msgspec.json.encode({"type": kind, **members}), kind)
