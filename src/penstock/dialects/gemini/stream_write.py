"""From events to a streamed generateContent reply: server-sent events, or one JSON array for clients without `alt=sse`.

Calls are written whole, because Google's clients know no pieces of arguments; finish reason and usage go out together
at the end, as Google sends them.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.dialects.arguments import read_arguments
from penstock.dialects.gemini.errors import error_object
from penstock.dialects.gemini.finish import MALFORMED, write_finish
from penstock.dialects.gemini.parts import SIGNATURE
from penstock.dialects.gemini.reply import write_logprobs, write_part
from penstock.dialects.gemini.usage import write_usage
from penstock.dialects.sse_events import write_event
from penstock.spec.hub import (
    End,
    Event,
    Failed,
    FinishSeen,
    HubError,
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
from penstock.spec.routes import DialectName
from penstock.spec.usage import Usage


class GeminiWriter:
    """Writes one stream. With `as_array` the chunks are the items of one JSON array."""

    def __init__(self, *, model: str, as_array: bool = False) -> None:
        self._model = model
        self._as_array = as_array
        self._n_written = 0
        self._id: str | None = None
        self._open: dict[int, tuple[Part, list[str]]] = {}
        self._malformed: dict[int, str] = {}
        self._finishes: list[FinishSeen] = []
        self._usage: Usage | None = None
        self._has_ended = False

    def write(self, events: Sequence[Event]) -> bytes:
        """Return the bytes for `events`."""
        written: list[bytes] = []
        for event in events:
            if self._has_ended:
                break
            if isinstance(event, Start):
                self._id, self._usage = event.id, event.usage
            elif isinstance(event, PartStart):
                written += self._start(event)
            elif isinstance(event, PartDelta):
                written += self._delta(event)
            elif isinstance(event, PartEnd):
                written += self._end(event.choice)
            elif isinstance(event, FinishSeen):
                self._finishes.append(event)
            elif isinstance(event, UsageSeen):
                self._usage = event.usage
            elif isinstance(event, Failed):
                written.append(self.fail(event.error))
            elif isinstance(event, End):
                written += self._last()
        return b"".join(written)

    def fail(self, error: HubError) -> bytes:
        """Return the error as the last chunk."""
        if self._has_ended:
            return b""
        self._has_ended = True
        return self._frame(error_object(error)) + (b"]" if self._as_array else b"")

    def _start(self, event: PartStart) -> list[bytes]:
        part = event.part
        if isinstance(part, ToolCall):
            self._open[event.choice] = (part, [])
            return []
        if isinstance(part, Text | Thinking | Refusal):
            self._open[event.choice] = (part, [])
            extra = {name: item for name, item in part.extra.items() if name == SIGNATURE}
            if part.text or extra:
                return [self._parts(event.choice, [{**_text_part(part, part.text or ""), **extra}])]
            return []
        piece = write_part(part, _source_of(part))
        return [] if piece is None else [self._parts(event.choice, [piece])]

    def _delta(self, event: PartDelta) -> list[bytes]:
        opened = self._open.get(event.choice)
        if opened is None:
            return []
        part, pieces = opened
        if isinstance(part, ToolCall):
            pieces.append(event.text)
            if event.signature is not None:
                part = msgspec.structs.replace(part, signature=event.signature)
                self._open[event.choice] = (part, pieces)
            return []
        piece = _text_part(part, event.text)
        if event.signature is not None and isinstance(part, Thinking) and part.origin == "gemini":
            piece[SIGNATURE] = event.signature
        elif isinstance(event.extra, dict) and isinstance(event.extra.get(SIGNATURE), str):
            piece[SIGNATURE] = event.extra[SIGNATURE]
        logprobs = write_logprobs(event.logprobs)
        if not event.text and SIGNATURE not in piece and logprobs is None:
            return []
        return [self._parts(event.choice, [piece], logprobs)]

    def _end(self, choice: int) -> list[bytes]:
        part, pieces = self._open.pop(choice, (None, []))
        if not isinstance(part, ToolCall):
            return []
        arguments = part.arguments + "".join(pieces)
        if read_arguments(arguments) is None:
            self._malformed[choice] = f"Malformed function call: {part.name}({arguments})"
            return []
        piece = write_part(msgspec.structs.replace(part, arguments=arguments, extra={}), "gemini")
        return [] if piece is None else [self._parts(choice, [piece])]

    def _last(self) -> list[bytes]:
        self._has_ended = True
        chunk: dict[str, Any] = {}
        candidates = [self._finish(event) for event in self._finishes]
        if candidates:
            chunk["candidates"] = candidates
        if self._usage is not None:
            chunk["usageMetadata"] = write_usage(self._usage)
        written = [self._frame(self._dressed(chunk))] if chunk else []
        if self._as_array:
            written.append(b"]" if self._n_written else b"[]")
        return written

    def _finish(self, event: FinishSeen) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"parts": [], "role": "model"}}
        known = event.finish_raw if event.finish_raw in _WORDS else None
        finish = write_finish(event.finish, known, is_same=known is not None)
        if (message := self._malformed.get(event.choice)) is not None:
            candidate["finishReason"], candidate["finishMessage"] = MALFORMED, message
        elif finish is not None:
            candidate["finishReason"] = finish
        candidate["index"] = event.choice
        return candidate

    def _parts(self, choice: int, parts: list[dict[str, Any]], logprobs: Any = None) -> bytes:
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": choice}
        if logprobs is not None:
            candidate["logprobsResult"] = logprobs
        return self._frame(self._dressed({"candidates": [candidate]}))

    def _dressed(self, chunk: dict[str, Any]) -> dict[str, Any]:
        chunk["modelVersion"] = self._model
        if self._id is not None:
            chunk["responseId"] = self._id
        return chunk

    def _frame(self, chunk: dict[str, Any]) -> bytes:
        data = msgspec.json.encode(chunk)
        self._n_written += 1
        if not self._as_array:
            return write_event(data)
        return (b"[" if self._n_written == 1 else b",\r\n") + data


_WORDS = frozenset(
    {
        "RECITATION",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "MODEL_ARMOR",
        "LANGUAGE",
        "OTHER",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "IMAGE_OTHER",
        "NO_IMAGE",
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MISSING_THOUGHT_SIGNATURE",
        "MALFORMED_RESPONSE",
    }
)
"""Google's own finish reasons that say more than the hub's words: given back as they came."""


def _text_part(part: Part, text: str) -> dict[str, Any]:
    return {"text": text, "thought": True} if isinstance(part, Thinking) else {"text": text}


def _source_of(part: Part) -> DialectName:
    return getattr(part, "dialect", "openai")
