"""Events of the hub, written as a chat completion stream."""

from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.dialects.openai.annotations import nest_annotations
from penstock.dialects.openai.errors import hub_error_body
from penstock.dialects.openai.finish import write_finish
from penstock.dialects.openai.reply import created_s, mint_id, write_image
from penstock.dialects.openai.request_write import write_block
from penstock.dialects.openai.usage import write_usage
from penstock.dialects.sse_events import write_event
from penstock.spec.hub import (
    End,
    Event,
    Failed,
    FinishSeen,
    HubError,
    Media,
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


class _Open:
    """The part that is open in a choice."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.texts: list[str] = []
        self.signature = ""
        self.sealed: str | None = None


class ChatStreamWriter:
    """Writes one stream. Usage comes as its own chunk before `[DONE]`, if the client asked for it."""

    def __init__(self, *, model: str, wants_usage: bool) -> None:
        self._model = model
        self._wants_usage = wants_usage
        self._head: dict[str, Any] = {}
        self._usage: Usage | None = None
        self._open: dict[int, _Open] = {}
        self._n_calls: dict[int, int] = {}
        self._begun: set[int] = set()
        self._is_over = False

    def write(self, events: Sequence[Event]) -> bytes:
        """Return the bytes for `events`."""
        return b"".join([self._write(event) for event in events])

    def fail(self, error: HubError) -> bytes:
        """Return the event that ends the stream with an error; no `[DONE]` follows."""
        self._is_over = True
        return write_event(hub_error_body(error))

    def _write(self, event: Event) -> bytes:
        if self._is_over:
            return b""
        match event:
            case PartDelta():
                return self._delta(event)
            case PartStart(part=part, choice=choice):
                return self._begin_part(part, choice)
            case PartEnd(choice=choice):
                return self._end_part(choice)
            case Start():
                self._start(event)
                return self._role(0)
            case FinishSeen(finish=finish, choice=choice):
                return self._role(choice) + self._chunk(choice, {}, finish=write_finish(finish))
            case UsageSeen(usage=usage):
                self._usage = usage
                return b""
            case Failed(error=error):
                return self.fail(error)
            case End(complete=complete):
                return self._end() if complete else b""

    def _start(self, event: Start) -> None:
        self._usage = event.usage
        self._head = {
            "id": event.id or mint_id(),
            "object": "chat.completion.chunk",
            "created": created_s(event.created_s),
            "model": self._model,
        }

    def _end(self) -> bytes:
        self._is_over = True
        usage = b""
        if self._wants_usage and self._usage is not None and (wire := write_usage(self._usage)):
            usage = write_event(msgspec.json.encode({**self._head, "choices": [], "usage": wire}))
        return usage + write_event(b"[DONE]")

    def _chunk(
        self, choice: int, delta: dict[str, Any], *, finish: str | None = None, logprobs: Any = None
    ) -> bytes:
        if not self._head:
            self._start(Start())
        written: dict[str, Any] = {"index": choice, "delta": delta, "finish_reason": finish}
        if logprobs is not None:
            written["logprobs"] = logprobs
        return write_event(msgspec.json.encode({**self._head, "choices": [written]}))

    def _role(self, choice: int) -> bytes:
        """Only the first chunk of a choice names the role."""
        if choice in self._begun:
            return b""
        self._begun.add(choice)
        return self._chunk(choice, {"role": "assistant", "content": ""})

    def _begin_part(self, part: Part, choice: int) -> bytes:
        role = self._role(choice)
        begun = self._open[choice] = _Open(part)
        if isinstance(part, ToolCall):
            index = self._n_calls.get(choice, 0)
            self._n_calls[choice] = index + 1
            if part.arguments:
                begun.texts.append(part.arguments)
            call: dict[str, Any] = {"index": index, "id": part.id, "type": "function"}
            call["function"] = {"name": part.name, "arguments": part.arguments}
            if part.signature is not None:
                call["extra_content"] = {"google": {"thought_signature": part.signature}}
            return role + self._chunk(choice, {"tool_calls": [call]})
        if isinstance(part, Media):
            image = write_image(part)
            return role + (self._chunk(choice, {"images": [image]}) if image else b"")
        return role + self._texts(choice, begun, part)

    def _texts(self, choice: int, begun: _Open, part: Part) -> bytes:
        """Return what a part says already as it begins."""
        text = part.text if isinstance(part, Text | Thinking | Refusal) else None
        out = self._delta(PartDelta(index=0, text=text, choice=choice)) if text else b""
        if isinstance(part, Text) and (listed := part.extra.get("annotations")):
            out += self._chunk(choice, {"annotations": nest_annotations(listed)})
        if isinstance(part, Thinking):
            begun.signature, begun.sealed = part.signature or "", part.sealed
        return out

    def _delta(self, event: PartDelta) -> bytes:
        begun = self._open.get(event.choice)
        if begun is None:
            return b""
        part, delta = begun.part, dict[str, Any]()
        if isinstance(part, Text):
            delta = {"content": event.text} if event.text else {}
            if isinstance(event.extra, dict) and (listed := event.extra.get("annotations")):
                delta["annotations"] = nest_annotations(listed)
        elif isinstance(part, Thinking):
            begun.texts.append(event.text)
            begun.signature += event.signature or ""
            begun.sealed = event.sealed or begun.sealed
            delta = {"reasoning_content": event.text} if event.text else {}
        elif isinstance(part, Refusal):
            delta = {"refusal": event.text} if event.text else {}
        elif isinstance(part, ToolCall) and event.text:
            begun.texts.append(event.text)
            index = self._n_calls[event.choice] - 1
            delta = {"tool_calls": [{"index": index, "function": {"arguments": event.text}}]}
        elif isinstance(part, Opaque) and part.dialect == "openai" and isinstance(event.extra, dict):
            for audio in event.extra.get("audio") or []:
                delta = {"audio": audio}
        if not delta and event.logprobs is None:
            return b""
        return self._chunk(event.choice, delta, logprobs=event.logprobs)

    def _end_part(self, choice: int) -> bytes:
        begun = self._open.pop(choice, None)
        if begun is None:
            return b""
        if isinstance(begun.part, ToolCall) and not begun.texts:
            call = {"index": self._n_calls[choice] - 1, "function": {"arguments": "{}"}}
            return self._chunk(choice, {"tool_calls": [call]})
        if isinstance(begun.part, Thinking) and (begun.signature or begun.sealed):
            thought = msgspec.structs.replace(
                begun.part,
                text="".join(begun.texts) or None,
                signature=begun.signature or None,
                sealed=begun.sealed,
            )
            return self._chunk(choice, {"thinking_blocks": [write_block(thought)]})
        return b""
