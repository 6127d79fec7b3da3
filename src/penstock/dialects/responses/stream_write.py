"""Events of the hub, written as the stream of a response: numbered events, items and pieces announced and closed."""

from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.dialects.assembly import assemble
from penstock.dialects.openai.annotations import flatten_annotations
from penstock.dialects.openai.errors import hub_error_detail
from penstock.dialects.openai.reply import created_s
from penstock.dialects.responses.items_write import (
    call_item,
    item_id,
    message_item,
    thought_id,
    thought_item,
    write_piece,
)
from penstock.dialects.responses.reply import mint_id, response_head, response_object
from penstock.dialects.sse_events import write_event
from penstock.spec.hub import (
    End,
    Event,
    Failed,
    HubError,
    HubRequest,
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
)


class ResponsesStreamWriter:
    """Writes one stream. The last event repeats the whole response, so all events are kept until then."""

    def __init__(self, *, model: str, request: HubRequest) -> None:
        self._model = model
        self._request = request
        self._events: list[Event] = []
        self._start: Start | None = None
        self._head: dict[str, Any] = {}
        self._sequence = 0
        self._n_items = 0
        self._message: list[dict[str, Any]] | None = None
        """Finished pieces of the message that is open."""
        self._part: Part | None = None
        self._texts: list[str] = []
        self._logprobs: list[Any] = []
        self._annotations: list[Any] = []
        self._has_summary = False
        self._is_over = False

    def write(self, events: Sequence[Event]) -> bytes:
        """Return the bytes for `events`."""
        return b"".join([self._write(event) for event in events])

    def fail(self, error: HubError) -> bytes:
        """Return the events that end the stream with an error."""
        self._is_over = True
        detail = hub_error_detail(error)
        said = {"code": detail.code, "message": detail.message}
        out = self._event("error", {**said, "param": detail.param})
        if self._head:
            failed = {**self._head, "status": "failed", "error": said}
            out += self._event("response.failed", {"response": failed})
        return out

    def _write(self, event: Event) -> bytes:
        if self._is_over or getattr(event, "choice", 0) != 0:
            return b""
        self._events.append(event)
        if isinstance(event, Start):
            return self._begin(event)
        if isinstance(event, Failed):
            return self._ensure_begun() + self.fail(event.error)
        if isinstance(event, PartStart):
            return self._ensure_begun() + self._begin_part(event.part)
        if isinstance(event, PartDelta):
            return self._delta(event)
        if isinstance(event, PartEnd):
            return self._end_part()
        if isinstance(event, End) and event.complete:
            return self._ensure_begun() + self._end()
        return b""

    def _event(self, kind: str, members: dict[str, Any]) -> bytes:
        data = {"type": kind, "sequence_number": self._sequence, **members}
        self._sequence += 1
        return write_event(msgspec.json.encode(data), kind)

    # -- the response

    def _ensure_begun(self) -> bytes:
        return b"" if self._head else self._begin(Start())

    def _begin(self, event: Start) -> bytes:
        self._start = Start(id=event.id or mint_id(), created_s=created_s(event.created_s), usage=event.usage)
        self._head = response_head(
            str(self._start.id), self._start.created_s or 0, model=self._model, request=self._request
        )
        created = self._event("response.created", {"response": self._head})
        return created + self._event("response.in_progress", {"response": self._head})

    def _end(self) -> bytes:
        self._is_over = True
        out = self._close_message()
        events = [event for event in self._events if not isinstance(event, Start)]
        reply = assemble([self._start or Start(), *events], source=self._request.source)
        reply.source = "openai"  # nothing of `extra` is to be written
        body = response_object(reply, model=self._model, request=self._request)
        return out + self._event(f"response.{body['status']}", {"response": body})

    # -- items

    def _place(self) -> dict[str, Any]:
        return {"output_index": self._n_items}

    def _id(self, prefix: str) -> str:
        return item_id(prefix, self._head["id"], self._n_items)

    def _content_place(self) -> dict[str, Any]:
        assert self._message is not None
        return {"item_id": self._id("msg"), **self._place(), "content_index": len(self._message)}

    def _begin_part(self, part: Part) -> bytes:
        self._part, self._texts, self._has_summary = part, [], False
        self._logprobs, self._annotations = [], []
        if isinstance(part, Text | Refusal):
            return self._begin_piece(part)
        out = self._close_message()
        if isinstance(part, ToolCall):
            item = call_item(self._id("fc"), part, "", "in_progress")
        elif isinstance(part, Thinking):
            item = {"id": thought_id(self._id("rs"), part), "type": "reasoning", "summary": []}
        elif isinstance(part, Opaque) and part.dialect == "responses":
            item = part.raw
        else:
            self._part = None
            return out
        out += self._event("response.output_item.added", {**self._place(), "item": item})
        text = part.arguments if isinstance(part, ToolCall) else getattr(part, "text", None)
        return out + (self._delta(PartDelta(index=0, text=text)) if text else b"")

    def _begin_piece(self, part: Text | Refusal) -> bytes:
        out = b""
        if self._message is None:
            self._message = []
            item = message_item(self._id("msg"), [], "in_progress")
            out = self._event("response.output_item.added", {**self._place(), "item": item})
        empty = write_piece(Text(text="") if isinstance(part, Text) else Refusal(text=""))
        out += self._event("response.content_part.added", {**self._content_place(), "part": empty})
        if isinstance(part, Text) and (listed := part.extra.get("annotations")):
            out += self._annotate(flatten_annotations(listed))
        return out + (self._delta(PartDelta(index=0, text=part.text)) if part.text else b"")

    def _annotate(self, annotations: list[Any]) -> bytes:
        out = b""
        for annotation in annotations:
            place = {**self._content_place(), "annotation_index": len(self._annotations)}
            out += self._event("response.output_text.annotation.added", {**place, "annotation": annotation})
            self._annotations.append(annotation)
        return out

    def _delta(self, event: PartDelta) -> bytes:
        part, text = self._part, event.text
        if part is None:
            return b""
        self._texts.append(text)
        out = b""
        if isinstance(part, Text):
            logprobs = event.logprobs.get("content") if isinstance(event.logprobs, dict) else None
            listed = logprobs if isinstance(logprobs, list) else []
            self._logprobs += listed
            if text or listed:
                said = {**self._content_place(), "delta": text, "logprobs": listed}
                out = self._event("response.output_text.delta", said)
            if isinstance(event.extra, dict) and (more := event.extra.get("annotations")):
                out += self._annotate(flatten_annotations(more))
        elif isinstance(part, Refusal) and text:
            out = self._event("response.refusal.delta", {**self._content_place(), "delta": text})
        elif isinstance(part, ToolCall) and text:
            said = {"item_id": self._id("fc"), **self._place(), "delta": text}
            out = self._event("response.function_call_arguments.delta", said)
        elif isinstance(part, Thinking):
            part = self._part = msgspec.structs.replace(part)
            part.signature = (part.signature or "") + (event.signature or "") or None
            part.sealed = event.sealed or part.sealed
            out = self._summary_delta(part, text) if text else b""
        return out

    def _summary_place(self, thought: Thinking) -> dict[str, Any]:
        return {"item_id": thought_id(self._id("rs"), thought), **self._place(), "summary_index": 0}

    def _summary_delta(self, thought: Thinking, text: str) -> bytes:
        place, out = self._summary_place(thought), b""
        if not self._has_summary:
            self._has_summary = True
            piece = {"type": "summary_text", "text": ""}
            out = self._event("response.reasoning_summary_part.added", {**place, "part": piece})
        return out + self._event("response.reasoning_summary_text.delta", {**place, "delta": text})

    def _end_part(self) -> bytes:
        part, self._part = self._part, None
        text = "".join(self._texts)
        if isinstance(part, Text | Refusal):
            return self._end_piece(part, text)
        if isinstance(part, ToolCall):
            ident = self._id("fc")
            place = {"item_id": ident, **self._place()}
            out = b""
            if not text:
                text = "{}"
                out = self._event("response.function_call_arguments.delta", {**place, "delta": text})
            said = {**place, "name": part.name, "arguments": text}
            out += self._event("response.function_call_arguments.done", said)
            return out + self._item_done(call_item(ident, part, text, "completed"))
        if isinstance(part, Thinking):
            return self._end_thought(msgspec.structs.replace(part, text=text or None))
        return self._item_done(part.raw) if isinstance(part, Opaque) else b""

    def _end_piece(self, part: Text | Refusal, text: str) -> bytes:
        place = self._content_place()
        if isinstance(part, Refusal):
            piece = write_piece(Refusal(text=text))
            out = self._event("response.refusal.done", {**place, "refusal": text})
        else:
            piece = write_piece(Text(text=text, extra={"annotations": self._annotations}), self._logprobs)
            out = self._event(
                "response.output_text.done", {**place, "text": text, "logprobs": self._logprobs}
            )
        out += self._event("response.content_part.done", {**place, "part": piece})
        assert self._message is not None
        self._message.append(piece)
        return out

    def _end_thought(self, thought: Thinking) -> bytes:
        out = b""
        if self._has_summary:
            place = self._summary_place(thought)
            out = self._event("response.reasoning_summary_text.done", {**place, "text": thought.text})
            piece = {"type": "summary_text", "text": thought.text}
            out += self._event("response.reasoning_summary_part.done", {**place, "part": piece})
        return out + self._item_done(thought_item(self._id("rs"), thought))

    def _item_done(self, item: dict[str, Any]) -> bytes:
        out = self._event("response.output_item.done", {**self._place(), "item": item})
        self._n_items += 1
        return out

    def _close_message(self) -> bytes:
        pieces, ident = self._message, self._id("msg") if self._head else ""
        self._message = None
        return b"" if pieces is None else self._item_done(message_item(ident, pieces, "completed"))
