"""Replies of a prompt that thinks before it answers: the reasoning is taken out, of a whole reply or of a stream. Pure.

Whatever else a reply holds (tool calls, usage, members that nobody here knows) stays as it is.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from penstock.spec.prompts import ChainOfThought
from penstock.templating.answers import AnswerStream, split_reply

DONE = b"[DONE]"


def data_of(event: bytes) -> bytes:
    """Return what an event of a stream says."""
    lines = [line[5:].lstrip() for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines).strip()


def strip_reply(reply: Any, cot: ChainOfThought) -> list[str | None]:
    """Take the reasoning out of a reply in place, and return it for each choice (None where there was none)."""
    found: list[str | None] = []
    for choice in _choices(reply):
        message = choice.get("message")
        content = message.get("content") if isinstance(message, dict) else None
        if not isinstance(message, dict) or not isinstance(content, str):
            found.append(None)
            continue
        split = split_reply(content, cot)
        found.append(split.reasoning)
        if split.reasoning is not None:
            message["content"] = split.answer
            if isinstance(choice.get("logprobs"), dict):
                choice["logprobs"] = None  # they are of all tokens, and no longer of this text
    return found


class StrippedStream:
    """Takes the reasoning out of a stream's chunks. One per reply; choices are told apart."""

    def __init__(self, cot: ChainOfThought) -> None:
        self._cot = cot
        self._streams: dict[int, AnswerStream] = {}
        self._last: dict[str, Any] = {}

    def pass_on(self, chunk: Any) -> Any | None:
        """Return a chunk as the caller may see it, None when there is nothing left in it."""
        if not isinstance(chunk, dict):
            return chunk
        choices = _choices(chunk)
        if not choices:
            return chunk
        self._last = chunk
        kept = [choice for choice in choices if self._strip(choice)]
        if not kept and not chunk.get("usage"):
            return None
        return {**chunk, "choices": kept}

    def finish(self) -> Any | None:
        """Return a chunk with what is still held back when a stream is over, None when that is nothing.

        A provider that says why it ends has been told of before; some end without a word.
        """
        rests = {index: stream.finish() for index, stream in sorted(self._streams.items())}
        choices = [
            {"index": index, "delta": {"content": rest}, "finish_reason": None}
            for index, rest in rests.items()
            if rest
        ]
        if not choices:
            return None
        return {**{name: each for name, each in self._last.items() if name != "usage"}, "choices": choices}

    def reasonings(self) -> list[str | None]:
        """Return what was taken out, by choice."""
        return [self._streams[index].reasoning for index in sorted(self._streams)]

    def _strip(self, choice: dict[str, Any]) -> bool:
        index = choice.get("index") if isinstance(choice.get("index"), int) else 0
        assert isinstance(index, int)
        stream = self._streams.setdefault(index, AnswerStream(self._cot))
        raw = choice.get("delta")
        delta: dict[str, Any] = raw if isinstance(raw, dict) else {}
        held_back = False
        if isinstance(delta.get("content"), str) and delta["content"]:
            shown = stream.feed(delta["content"])
            held_back = not shown
            delta["content"] = shown
        if choice.get("finish_reason"):
            rest = stream.finish()
            if rest:
                delta["content"] = (delta.get("content") or "") + rest
            held_back = False
        if held_back:
            choice["logprobs"] = None
            delta.pop("content", None)
        choice["delta"] = delta
        return not held_back or bool(delta)


class TextOfStream:
    """Puts the text of a stream's first choice together, for the span."""

    def __init__(self) -> None:
        self._pieces: list[str] = []

    def note(self, chunk: Any) -> None:
        """Take a chunk."""
        for choice in _choices(chunk)[:1]:
            delta = choice.get("delta")
            if isinstance(delta, dict) and isinstance(delta.get("content"), str):
                self._pieces.append(delta["content"])

    def text(self) -> str:
        """Return what has come."""
        return "".join(self._pieces)


def event_of(chunk: Any) -> bytes:
    """Return a chunk as an event."""
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


def _choices(reply: Any) -> list[dict[str, Any]]:
    choices = reply.get("choices") if isinstance(reply, Mapping) else None
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
