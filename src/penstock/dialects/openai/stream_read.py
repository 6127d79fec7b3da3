"""A chat completion stream, read into events of the hub. State of one stream; nothing it is fed makes it raise."""

from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.dialects.members import Members
from penstock.dialects.openai.call_line import CallLine
from penstock.dialects.openai.errors import read_stream_error
from penstock.dialects.openai.finish import read_finish
from penstock.dialects.openai.parts import read_content
from penstock.dialects.openai.reply import read_usage
from penstock.dialects.part_line import PartLine
from penstock.dialects.sse_events import SseSplitter
from penstock.spec.hub import (
    End,
    Event,
    Failed,
    FinishSeen,
    HubError,
    Media,
    Opaque,
    Part,
    Refusal,
    Start,
    Text,
    Thinking,
    UsageSeen,
)


class _ChoiceState:
    def __init__(self, number: int) -> None:
        self.line = PartLine(number)
        self.calls = CallLine(self.line)
        self.is_finished = False

    def end(self) -> list[Event]:
        """End all parts."""
        return [*self.calls.flush(), *self.line.end()]


class ChatStreamReader:
    """Reads one stream. Tool calls whose deltas are mixed come one after the other; a delta for a call that text has
    followed is a failure."""

    def __init__(self) -> None:
        self._splitter = SseSplitter()
        self._choices: dict[int, _ChoiceState] = {}
        self._has_begun = False
        self._has_ended = False

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes; return the events that are complete."""
        events: list[Event] = []
        for event in self._splitter.feed(data):
            if self._has_ended:
                return events
            events += self._take(event.data, is_last=False)
        if self._splitter.is_broken and not self._has_ended:
            events += self._fail("One event of the stream is larger than any reply may be.")
        return events

    def finish(self) -> list[Event]:
        """Say that the connection has ended. A stream is complete if every choice that began has finished."""
        events: list[Event] = []
        for event in self._splitter.finish():
            if not self._has_ended:
                events += self._take(event.data, is_last=True)
        if self._has_ended:
            return events
        self._has_ended = True
        states = self._choices.values()
        complete = bool(states) and all(state.is_finished for state in states)
        events += [event for state in states for event in state.calls.flush()]
        return [*events, End(complete=complete)]

    def _take(self, data: bytes, *, is_last: bool) -> list[Event]:
        if data.strip() == b"[DONE]":
            self._has_ended = True
            closed = [event for state in self._choices.values() for event in state.end()]
            return [*closed, End(complete=True)]
        try:
            chunk = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return [] if is_last else self._fail("The stream holds an event that is not JSON.")
        if not isinstance(chunk, dict):
            return []
        error = read_stream_error(chunk)
        if error is not None:
            return self._fail_with(error)
        try:
            return self._read_chunk(Members(chunk))
        except InvalidInput as wrong:
            return self._fail(f"The stream holds an event that is no chat completion chunk: {wrong.message}")

    def _fail(self, message: str) -> list[Event]:
        return self._fail_with(HubError(kind="server_error", message=message, status=502))

    def _fail_with(self, error: HubError) -> list[Event]:
        self._has_ended = True
        return [Failed(error=error), End(complete=False)]

    def _read_chunk(self, chunk: Members) -> list[Event]:
        choices = chunk.inners("choices")
        groq = chunk.peek("x_groq")
        usage = read_usage(chunk.take("usage") or (groq.get("usage") if isinstance(groq, dict) else None))
        events: list[Event] = []
        if not self._has_begun and (choices or usage is not None):
            self._has_begun = True
            created = chunk.number("created")
            events.append(
                Start(
                    id=chunk.text("id") or None,
                    model=chunk.text("model") or None,
                    created_s=None if created is None else int(created),
                )
            )
        for choice in choices:
            events += self._read_choice(choice)
        if usage is not None:
            events.append(UsageSeen(usage=usage))
        return events

    def _read_choice(self, choice: Members) -> list[Event]:
        number = choice.integer("index") or 0
        state = self._choices.get(number)
        if state is None:
            state = self._choices[number] = _ChoiceState(number)
        if state.is_finished:
            return []
        events: list[Event] = []
        logprobs = choice.take("logprobs")
        delta = choice.inner("delta")
        if delta is not None:
            events += self._read_delta(state, delta, logprobs)
        word = choice.take("finish_reason")
        if isinstance(word, str) and word:
            events += state.end()
            finish, raw = read_finish(word, has_calls=state.calls.has_any)
            events.append(FinishSeen(finish=finish, finish_raw=raw, choice=number))
            state.is_finished = True
        return events

    def _read_delta(self, state: _ChoiceState, delta: Members, logprobs: Any) -> list[Event]:
        line = state.line
        events: list[Event] = []
        for name in ("reasoning_content", "reasoning"):
            thought = delta.take(name)
            if isinstance(thought, str) and thought:
                events += _go_on(line, Thinking(origin="openai"), thought)
                break
        content = read_content(delta.take("content"), "delta.content")
        refusal = delta.text("refusal")
        for part in [*content, *([Refusal(text=refusal)] if refusal else [])]:
            events += _add_part(line, part, logprobs)
            logprobs = None
        if (annotations := delta.listed("annotations")) and isinstance(line.open, Text):
            events += line.delta(extra={"annotations": annotations})
        for image in read_content(delta.listed("images"), "delta.images"):
            events += line.start(image)
        if (audio := delta.take("audio")) is not None:
            if not (isinstance(line.open, Opaque) and line.open.raw.get("type") == "audio"):
                events += line.start(Opaque(dialect="openai", raw={"type": "audio"}))
            events += line.delta(extra={"audio": [audio]})
        for index, raw in enumerate(delta.listed("tool_calls")):
            events += state.calls.read(Members(raw, f"delta.tool_calls[{index}]"), index)
        return events


def _add_part(line: PartLine, part: Part, logprobs: Any) -> list[Event]:
    if isinstance(part, Text):
        return _go_on(line, Text(text="", extra=part.extra), part.text, logprobs)
    if isinstance(part, Refusal):
        return _go_on(line, Refusal(text=""), part.text, logprobs)
    if isinstance(part, Thinking):
        return _go_on(line, Thinking(origin="openai"), part.text or "")
    return line.start(part) if isinstance(part, Media | Opaque) else []


def _go_on(line: PartLine, part: Part, text: str, logprobs: Any = None) -> list[Event]:
    """Add text to the open part if it is of the same kind, else begin `part` with it."""
    events = [] if type(line.open) is type(part) else line.start(part)
    return [*events, *line.delta(text, logprobs=logprobs)]
