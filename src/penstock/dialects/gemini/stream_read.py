"""From a streamed generateContent reply to events, and the scanner of one that passes as it is.

Google's streams number no parts and have no end of their own: text goes on until something else comes, and finish
reason and usage may come several times. So the last of both are told when the connection has ended; the reply is
complete if a finish reason (or a block of the prompt) was among them.
"""

from typing import Any

import msgspec

from penstock.dialects.gemini.chunks import ChunkSplitter
from penstock.dialects.gemini.errors import read_error_object
from penstock.dialects.gemini.finish import read_finish
from penstock.dialects.gemini.parts import SIGNATURE, CallIds
from penstock.dialects.gemini.reply import block_reason, read_candidate_parts, read_logprobs
from penstock.dialects.gemini.usage import read_usage
from penstock.dialects.part_line import PartLine
from penstock.spec.hub import (
    End,
    Event,
    Failed,
    FinishSeen,
    HubError,
    Part,
    Start,
    Text,
    Thinking,
    ToolCall,
    UsageSeen,
)
from penstock.spec.usage import Usage


class _Candidate:
    """One answer on its way."""

    def __init__(self, choice: int, ids: CallIds) -> None:
        self.line = PartLine(choice)
        self._ids = ids
        self.has_calls = False
        self.finish_raw: str | None = None

    def take(self, candidate: dict[str, Any]) -> list[Event]:
        events: list[Event] = []
        logprobs = read_logprobs(candidate.get("logprobsResult"))
        for part in read_candidate_parts(candidate, self._ids):
            if isinstance(part, Text | Thinking):
                events += self._text(part, logprobs if isinstance(part, Text) else None)
                logprobs = None if isinstance(part, Text) else logprobs
            else:
                events += self._whole(part)
        raw = candidate.get("finishReason")
        if isinstance(raw, str) and raw != "FINISH_REASON_UNSPECIFIED":
            self.finish_raw = raw
        return events

    def _text(self, part: Text | Thinking, logprobs: Any) -> list[Event]:
        if type(self.line.open) is not type(part):
            if not part.text and not part.extra and not logprobs and not isinstance(part, Thinking):
                return []
            if not part.text and isinstance(part, Thinking) and part.signature is None:
                return []
            begun: Part = (
                Thinking(origin="gemini", extra=part.extra)
                if isinstance(part, Thinking)
                else Text(text="", extra=part.extra)
            )
            events = self.line.start(begun)
            extra = None
        else:
            events = []
            extra = part.extra or None
        signature = part.signature if isinstance(part, Thinking) else None
        if part.text or signature or extra or logprobs:
            events += self.line.delta(part.text or "", signature=signature, logprobs=logprobs, extra=extra)
        return events

    def _whole(self, part: Part) -> list[Event]:
        if not isinstance(part, ToolCall):
            return [*self.line.start(part), *self.line.end()]
        self.has_calls = True
        events = self.line.start(msgspec.structs.replace(part, arguments=""))
        if part.arguments:
            events += self.line.delta(part.arguments)
        return [*events, *self.line.end()]

    def end(self) -> list[Event]:
        events = self.line.end()
        if self.finish_raw is not None:
            finish = read_finish(self.finish_raw, has_calls=self.has_calls)
            events.append(FinishSeen(finish=finish, finish_raw=self.finish_raw, choice=self.line.choice))
        return events


class GeminiReader:
    """Reads one stream."""

    def __init__(self) -> None:
        self._splitter = ChunkSplitter()
        self._ids = CallIds()
        self._candidates: dict[int, _Candidate] = {}
        self._has_begun = False
        self._has_failed = False
        self._has_ended = False
        self._blocked: str | None = None
        self._usage: Usage | None = None

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes; return the events that are complete."""
        if self._has_failed or self._has_ended:
            return []
        return self._take(self._splitter.feed(data))

    def finish(self) -> list[Event]:
        """Say that the connection has ended."""
        if self._has_ended:
            return []
        events: list[Event] = []
        if not self._has_failed:
            events += self._take(self._splitter.finish(), is_cut=True)
        self._has_ended = True
        if self._has_failed:
            return [*events, End(complete=False)]
        for number in sorted(self._candidates):
            events += self._candidates[number].end()
        if self._blocked is not None and not self._candidates:
            events += self._begin({})
            events.append(FinishSeen(finish="content_filter", finish_raw=self._blocked))
        if self._usage is not None:
            events.append(UsageSeen(usage=self._usage))
        told = [candidate.finish_raw for candidate in self._candidates.values()]
        is_complete = self._blocked is not None or (bool(told) and None not in told)
        return [*events, End(complete=is_complete)]

    def _take(self, chunks: list[bytes], *, is_cut: bool = False) -> list[Event]:
        events: list[Event] = []
        for chunk in chunks:
            try:
                value = msgspec.json.decode(chunk)
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                if not is_cut:
                    events += self._fail("The provider sent an event that is not JSON.")
                break
            if isinstance(value, list) and value:
                value = value[0]
            if not isinstance(value, dict):
                continue
            error = read_error_object(None, value)
            if error is not None:
                self._has_failed = True
                events.append(Failed(error=error))
                break
            events += self._chunk(value)
        if self._splitter.is_broken and not self._has_failed:
            events += self._fail("The provider sent an event that is too large.")
        return events

    def _fail(self, message: str) -> list[Event]:
        self._has_failed = True
        return [Failed(error=HubError(kind="server_error", message=message, status=502))]

    def _begin(self, value: dict[str, Any]) -> list[Event]:
        if self._has_begun:
            return []
        self._has_begun = True
        model, reply_id = value.get("modelVersion"), value.get("responseId")
        return [
            Start(
                id=reply_id if isinstance(reply_id, str) else None,
                model=model if isinstance(model, str) else None,
            )
        ]

    def _chunk(self, value: dict[str, Any]) -> list[Event]:
        events = self._begin(value)
        candidates = value.get("candidates")
        for item in candidates if isinstance(candidates, list) else ():
            if isinstance(item, dict):
                index = item.get("index")
                number = index if isinstance(index, int) and 0 <= index < 1024 else 0
                known = self._candidates.setdefault(number, _Candidate(number, self._ids))
                events += known.take(item)
        self._blocked = block_reason(value) or self._blocked
        self._usage = read_usage(value.get("usageMetadata")) or self._usage
        return events


class GeminiScanner:
    """Looks at a copy of a stream that passes as it is."""

    def __init__(self) -> None:
        self._splitter = ChunkSplitter()
        self._usage: Any = None
        self._model: str | None = None
        self._is_finished = False
        self._error: HubError | None = None
        self._has_content = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        for chunk in self._splitter.feed(data):
            try:
                value = msgspec.json.decode(chunk)
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                continue
            if isinstance(value, list) and value:
                value = value[0]
            if isinstance(value, dict):
                self._look(value)

    def _look(self, value: dict[str, Any]) -> None:
        if isinstance(model := value.get("modelVersion"), str):
            self._model = model
        if value.get("usageMetadata"):
            self._usage = value["usageMetadata"]
        if "error" in value:
            self._error = read_error_object(None, value) or self._error
        if block_reason(value) is not None:
            self._is_finished = True
        candidates = value.get("candidates")
        for item in candidates if isinstance(candidates, list) else ():
            if not isinstance(item, dict):
                continue
            self._is_finished = self._is_finished or isinstance(item.get("finishReason"), str)
            content = item.get("content")
            parts = content.get("parts") if isinstance(content, dict) else None
            for part in parts if isinstance(parts, list) else ():
                if isinstance(part, dict) and (
                    part.get("text") or part.keys() - {"text", "thought", SIGNATURE}
                ):
                    self._has_content = True

    @property
    def has_content(self) -> bool:
        """Whether text, a thought, a call or media have come."""
        return self._has_content

    def usage(self) -> Usage | None:
        """Return the usage told last."""
        return read_usage(self._usage)

    def model(self) -> str | None:
        """Return the model that answers."""
        return self._model

    def is_finished(self) -> bool:
        """Return whether a finish reason has come."""
        return self._is_finished

    def error(self) -> HubError | None:
        """Return the error inside the stream, if there was one."""
        return self._error
