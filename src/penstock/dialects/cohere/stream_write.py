"""Events of the hub, written as a stream of `/v2/chat`.

Finish and usage are told in one `message-end`, which therefore waits for the end. Contents and tool calls are
numbered apart.
"""

from collections.abc import Sequence
from typing import Any

from penstock.dialects.cohere.content import is_citation, is_plan
from penstock.dialects.cohere.finish import write_finish
from penstock.dialects.cohere.logprobs import write_logprobs
from penstock.dialects.cohere.usage import wire_usage
from penstock.dialects.event_writer import EventWriter, write_typed
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

    def __init__(self, *, wants_logprobs: bool) -> None:
        super().__init__()
        self._wants_logprobs = wants_logprobs
        self._n_contents = 0
        self._n_calls = 0
        self._n_citations = 0
        self._has_arguments = False

    def _write_error(self, error: HubError) -> bytes:
        delta = {"error": error.message, "finish_reason": "ERROR"}
        return write_typed("message-end", delta=delta)

    def _write_start(self, start: Start) -> bytes:
        empty: dict[str, Any] = {"content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        delta = {"message": {"role": "assistant", **empty}}
        return write_typed("message-start", id=start.id or "reply", delta=delta)

    def _write_end(self, finish: FinishSeen, usage: Usage | None) -> list[bytes]:
        reason = write_finish(finish.finish, finish.finish_raw, finish.stop_sequence)
        delta: dict[str, Any] = {"finish_reason": reason}
        if usage is not None:
            delta["usage"] = wire_usage(usage)
        return [write_typed("message-end", delta=delta)]

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
            start = write_typed("content-start", index=index, delta={"message": {"content": part.raw}})
            return [start, write_typed("content-end", index=index)]
        return []

    def _start_content(self, kind: str, text: str) -> list[bytes]:
        index, self._n_contents = self._n_contents, self._n_contents + 1
        content = {"type": kind, kind: ""}
        start = write_typed("content-start", index=index, delta={"message": {"content": content}})
        assert self._open is not None
        pieces = [start, *self._say(self._open, text)]
        listed = self._open.extra.get("citations") if isinstance(self._open, Text) else None
        return [*pieces, *self._cite(listed)]

    def _start_call(self, part: ToolCall) -> list[bytes]:
        index, self._n_calls = self._n_calls, self._n_calls + 1
        self._has_arguments = bool(part.arguments)
        function = {"name": part.name, "arguments": part.arguments}
        call = {"id": part.id, "type": "function", "function": function}
        return [write_typed("tool-call-start", index=index, delta={"message": {"tool_calls": call}})]

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
                write_typed(
                    "tool-call-delta", index=self._n_calls - 1, delta={"message": {"tool_calls": call}}
                )
            ]
        if is_plan(part):
            return [write_typed("tool-plan-delta", delta={"message": {"tool_plan": text}})]
        kind = "thinking" if isinstance(part, Thinking) else "text"
        delta = {"message": {"content": {kind: text}}}
        index = self._n_contents - 1
        if not logprobs:
            return [write_typed("content-delta", index=index, delta=delta)]
        # An event holds one chunk's probabilities: the text goes with the first, the others follow with none.
        empty = {"message": {"content": {kind: ""}}}
        return [
            write_typed("content-delta", index=index, delta=empty if number else delta, logprobs=one)
            for number, one in enumerate(logprobs)
        ]

    def _cite(self, citations: Any) -> list[bytes]:
        pieces: list[bytes] = []
        for citation in citations if isinstance(citations, list) else ():
            if is_citation(citation):
                index, self._n_citations = self._n_citations, self._n_citations + 1
                delta = {"message": {"citations": citation}}
                pieces += [
                    write_typed("citation-start", index=index, delta=delta),
                    write_typed("citation-end", index=index),
                ]
        return pieces

    def _part_end(self) -> list[bytes]:
        part, self._open = self._open, None
        if isinstance(part, ToolCall):
            self._open, pieces = part, [] if self._has_arguments else self._say(part, "{}")
            self._open = None
            return [*pieces, write_typed("tool-call-end", index=self._n_calls - 1)]
        if part is None or is_plan(part):
            return []
        return [write_typed("content-end", index=self._n_contents - 1)]
