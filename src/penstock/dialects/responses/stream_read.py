"""The stream of a response, read into events of the hub. State of one stream; nothing it is fed makes it raise."""

from collections.abc import Callable
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.dialects.members import Members
from penstock.dialects.openai.errors import read_stream_error
from penstock.dialects.part_line import PartLine
from penstock.dialects.responses.items_read import read_call, read_content, read_thought
from penstock.dialects.responses.reply import read_finish
from penstock.dialects.responses.turns import Turns
from penstock.dialects.responses.usage import read_usage
from penstock.dialects.sse_events import SseEvent, SseSplitter
from penstock.spec.hub import (
    End,
    Event,
    Failed,
    FinishSeen,
    HubError,
    Opaque,
    Part,
    Refusal,
    Start,
    Text,
    Thinking,
    ToolCall,
    UsageSeen,
)

_LAST = ("response.completed", "response.incomplete", "response.cancelled")
Key = tuple[int, int]


class ResponsesStreamReader:
    """Reads one stream. What only a `done` event tells (a server may send no deltas) is taken from there."""

    def __init__(self) -> None:
        self._splitter = SseSplitter()
        self._line = PartLine()
        self._turns = Turns()
        self._keys: dict[Key, int] = {}
        """Number of the part for each (output index, content index); items without content have index -1."""
        self._filled: set[int] = set()
        self._annotated: set[int] = set()
        self._thought_kind = ""
        self._has_calls = False
        self._has_begun = False
        self._has_ended = False
        self._takers: dict[str, Callable[[Members], list[Event]]] = {
            "response.output_item.added": self._item_added,
            "response.output_item.done": self._item_done,
            "response.content_part.added": self._piece_added,
            "response.content_part.done": self._piece_done,
            "response.output_text.delta": self._text_delta,
            "response.output_text.annotation.added": self._annotation,
            "response.refusal.delta": self._refusal_delta,
            "response.function_call_arguments.delta": self._arguments_delta,
            "response.function_call_arguments.done": self._arguments_done,
            "response.reasoning_text.delta": self._thought_delta,
            "response.reasoning_summary_text.delta": self._thought_delta,
            "response.reasoning_summary_part.added": self._summary_added,
        }

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes; return the events that are complete."""
        events: list[Event] = []
        for event in self._splitter.feed(data):
            if self._has_ended:
                return events
            events += self._take(event, is_last=False)
        if self._splitter.is_broken and not self._has_ended:
            events += self._fail("One event of the stream is larger than any reply may be.")
        return events

    def finish(self) -> list[Event]:
        """Say that the connection has ended. Only an event that closes the response makes it complete."""
        events: list[Event] = []
        for event in self._splitter.finish():
            if not self._has_ended:
                events += self._take(event, is_last=True)
        if self._has_ended:
            return events
        self._has_ended = True
        return [*events, End(complete=False)]

    def _take(self, event: SseEvent, *, is_last: bool) -> list[Event]:
        if event.data.strip() == b"[DONE]":
            return []
        try:
            value = msgspec.json.decode(event.data)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return [] if is_last else self._fail("The stream holds an event that is not JSON.")
        if not isinstance(value, dict):
            return []
        kind = value.get("type")
        kind = kind if isinstance(kind, str) else event.event or ""
        try:
            return self._read(kind, value)
        except InvalidInput as wrong:
            return self._fail(f"The stream holds an event that is none of a response: {wrong.message}")

    def _read(self, kind: str, value: dict[str, Any]) -> list[Event]:
        if kind == "error" or (not kind and "error" in value):
            inner = value.get("error")
            said = inner if isinstance(inner, dict) else {k: v for k, v in value.items() if k != "type"}
            return self._fail_with(read_stream_error({"error": said}))
        response = value.get("response")
        held = Members(response, "response") if isinstance(response, dict) else None
        if kind == "response.failed":
            error = held.take("error") if held is not None else None
            return self._fail_with(read_stream_error({"error": error or "The response failed."}))
        events = self._begin(held, kind)
        if kind in _LAST:
            for waiting in self._turns.rest():
                events += self._tell(*waiting)
            return [*events, *self._end(held or Members({}), kind)]
        if kind in self._takers:
            for each in self._turns.take(kind, value):
                events += self._tell(*each)
        return events

    def _tell(self, kind: str, value: dict[str, Any]) -> list[Event]:
        return self._takers[kind](Members(value, kind))

    def _fail(self, message: str) -> list[Event]:
        return self._fail_with(HubError(kind="server_error", message=message, status=502))

    def _fail_with(self, error: HubError | None) -> list[Event]:
        self._has_ended = True
        failure = error or HubError(kind="unknown", message="The provider reported an error.", status=502)
        return [Failed(error=failure), End(complete=False)]

    def _begin(self, response: Members | None, kind: str) -> list[Event]:
        if self._has_begun or not kind.startswith("response."):
            return []
        self._has_begun = True
        if response is None:
            return [Start()]
        created = response.number("created_at")
        return [
            Start(
                id=response.text("id") or None,
                model=response.text("model") or None,
                created_s=None if created is None else int(created),
            )
        ]

    def _end(self, response: Members, kind: str) -> list[Event]:
        self._has_ended = True
        if response.peek("status") is None:
            response.put("status", kind.removeprefix("response."))
        finish, raw = read_finish(response, has_calls=self._has_calls)
        usage = read_usage(response.take("usage"))
        events = [*self._line.end(), FinishSeen(finish=finish, finish_raw=raw)]
        if usage is not None:
            events.append(UsageSeen(usage=usage))
        return [*events, End(complete=True)]

    # -- parts

    def _start(self, key: Key, part: Part) -> list[Event]:
        events = self._line.start(part)
        self._keys[key] = self._line.index
        return events

    def _delta(self, key: Key, text: str, part: Part, logprobs: Any = None) -> list[Event]:
        """Add to the part of `key`; begin it as `part` if it is new."""
        events = [] if key in self._keys else self._start(key, part)
        if not text and not logprobs:
            return events
        if self._keys[key] != self._line.index or self._line.open is None:
            raise InvalidInput("a part goes on after another has begun.")
        self._filled.add(self._line.index)
        return [*events, *self._line.delta(text, logprobs=logprobs)]

    def _key(self, event: Members) -> Key:
        return event.integer("output_index") or 0, event.integer("content_index") or 0

    def _is_open(self, key: Key) -> bool:
        return self._line.open is not None and self._keys.get(key) == self._line.index

    def _text_delta(self, event: Members) -> list[Event]:
        listed = event.listed("logprobs")
        logprobs = {"content": listed} if listed else None
        return self._delta(self._key(event), event.text("delta") or "", Text(text=""), logprobs)

    def _refusal_delta(self, event: Members) -> list[Event]:
        return self._delta(self._key(event), event.text("delta") or "", Refusal(text=""))

    def _arguments_delta(self, event: Members) -> list[Event]:
        key = (event.integer("output_index") or 0, -1)
        if key not in self._keys:
            raise InvalidInput("arguments come before their call.")
        return self._delta(key, event.text("delta") or "", Text(text=""))

    def _arguments_done(self, event: Members) -> list[Event]:
        key = (event.integer("output_index") or 0, -1)
        text = event.text("arguments") or ""
        return self._fill(key, text) if self._is_open(key) else []

    def _fill(self, key: Key, text: str) -> list[Event]:
        """Add the whole text of a part that had no deltas."""
        if not text or self._keys[key] in self._filled:
            return []
        return self._delta(key, text, Text(text=""))

    def _thought_delta(self, event: Members) -> list[Event]:
        """A thought has a text or a summary of it; the one that comes first is told."""
        kind = event.path
        self._thought_kind = self._thought_kind or kind
        if kind != self._thought_kind:
            return []
        key = (event.integer("output_index") or 0, -1)
        return self._delta(key, event.text("delta") or "", Thinking(origin="responses"))

    def _summary_added(self, event: Members) -> list[Event]:
        key = (event.integer("output_index") or 0, -1)
        if self._is_open(key) and self._line.index in self._filled and "summary" in self._thought_kind:
            return self._line.delta("\n\n")
        return []

    def _annotation(self, event: Members) -> list[Event]:
        key = self._key(event)
        annotation = event.take("annotation")
        if annotation is None or not self._is_open(key):
            return []
        self._annotated.add(self._line.index)
        return self._line.delta(extra={"annotations": [annotation]})

    def _piece_added(self, event: Members) -> list[Event]:
        kind = self._piece_kind(event.peek("part"))
        if kind is None:
            return []
        return self._start(self._key(event), kind)

    def _piece_kind(self, piece: Any) -> Part | None:
        kind = piece.get("type") if isinstance(piece, dict) else None
        return Text(text="") if kind == "output_text" else Refusal(text="") if kind == "refusal" else None

    def _piece_done(self, event: Members) -> list[Event]:
        key = self._key(event)
        piece = event.take("part")
        kind = self._piece_kind(piece)
        if kind is None or not isinstance(piece, dict) or (key in self._keys and not self._is_open(key)):
            return []
        events = [] if key in self._keys else self._start(key, kind)
        text = piece.get("text") if isinstance(kind, Text) else piece.get("refusal")
        if isinstance(text, str):
            events += self._fill(key, text)
        listed = piece.get("annotations")
        if isinstance(listed, list) and listed and self._line.index not in self._annotated:
            events += self._line.delta(extra={"annotations": listed})
        return [*events, *self._line.end()]

    # -- items

    def _item_added(self, event: Members) -> list[Event]:
        key = (event.integer("output_index") or 0, -1)
        item = event.inner("item")
        kind = item.peek("type") if item is not None else None
        if item is None or key in self._keys:
            return []
        if kind == "function_call":
            self._has_calls = True
            call = read_call(item)
            text, call.arguments = call.arguments, ""
            return [*self._start(key, call), *(self._delta(key, text, call) if text else [])]
        if kind == "reasoning":
            self._thought_kind = ""
            ident = item.text("id")
            return self._start(key, Thinking(id=ident, origin="responses"))
        return []

    def _item_done(self, event: Members) -> list[Event]:
        index = event.integer("output_index") or 0
        key = (index, -1)
        raw = event.take("item")
        item = Members(raw, "item")
        kind = item.peek("type")
        if kind == "message":
            return self._message_done(index, item)
        if kind == "function_call":
            self._has_calls = True
            call = read_call(item)
            text, call.arguments = call.arguments, ""
            return self._close(key, call, text)
        if kind == "reasoning":
            return self._thought_done(key, read_thought(item))
        if key in self._keys:
            return []
        return [*self._start(key, Opaque(dialect="responses", raw=raw)), *self._line.end()]

    def _close(self, key: Key, part: Part, text: str) -> list[Event]:
        if key in self._keys and not self._is_open(key):
            return []
        events = [] if key in self._keys else self._start(key, part)
        return [*events, *self._fill(key, text), *self._line.end()]

    def _thought_done(self, key: Key, thought: Thinking) -> list[Event]:
        if key in self._keys and not self._is_open(key):
            return []
        begun = Thinking(id=thought.id, origin="responses")
        events = [] if key in self._keys else self._start(key, begun)
        events += self._fill(key, thought.text or "")
        if thought.sealed is not None and isinstance(self._line.open, ToolCall | Thinking):
            events += self._line.delta(sealed=thought.sealed)
        return [*events, *self._line.end()]

    def _message_done(self, index: int, item: Members) -> list[Event]:
        """A message whose pieces were not announced one by one is told now."""
        events: list[Event] = []
        for place, part in enumerate(read_content(item.take("content"), "item.content")):
            key = (index, place)
            if isinstance(part, Text | Refusal) and key not in self._keys:
                events += self._start(key, Text(text="") if isinstance(part, Text) else Refusal(text=""))
                events += self._fill(key, part.text)
        return [*events, *self._line.end()]
