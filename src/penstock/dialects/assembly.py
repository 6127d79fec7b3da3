"""Between a reply and the events of its stream, both ways and in no dialect's words.

`assemble` of what a reader made of a stream is the reply that would have come unstreamed; `disassemble` makes the
shortest stream that says the same.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from penstock.spec.hub import (
    Choice,
    End,
    Event,
    FinishSeen,
    HubReply,
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


class _Growing:
    """A part whose text arrives in pieces. They are joined once, at the end: joining each time is quadratic."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.pieces: list[str] = []
        self.signature: list[str] = []
        self.sealed: str | None = None
        self.logprobs: list[object] = []

    def take(self, delta: PartDelta) -> None:
        if delta.text:
            self.pieces.append(delta.text)
        if delta.signature:
            self.signature.append(delta.signature)
        if isinstance(delta.logprobs, dict) and isinstance(found := delta.logprobs.get("content"), list):
            self.logprobs += found
        self.sealed = delta.sealed or self.sealed
        if isinstance(delta.extra, dict):
            self.part.extra = _merge(self.part.extra, delta.extra)

    def join(self) -> Part:
        part, more = self.part, "".join(self.pieces)
        signature = "".join(self.signature)
        if isinstance(part, Thinking):
            part.text = (part.text or "") + more if more else part.text
            part.signature = (part.signature or "") + signature or None
            part.sealed = self.sealed or part.sealed
        elif isinstance(part, Text | Refusal):
            part.text += more
        elif isinstance(part, ToolCall):
            part.arguments += more
            part.signature = (part.signature or "") + signature or None
        return part


def _merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Lists grow, everything else is replaced."""
    merged = {**old, **new}
    for name, value in new.items():
        if isinstance(value, list) and isinstance(before := old.get(name), list):
            merged[name] = before + value
    return merged


def assemble(events: Iterable[Event], *, source: DialectName) -> HubReply:
    """Return the reply that `events` add up to. A stream that failed gives what had come by then."""
    reply = HubReply(source=source)
    parts: dict[int, dict[int, _Growing]] = {}
    finishes: dict[int, FinishSeen] = {}
    for event in events:
        if isinstance(event, Start):
            reply.id, reply.model, reply.created_s = event.id, event.model, event.created_s
            reply.usage = event.usage
        elif isinstance(event, PartStart):
            parts.setdefault(event.choice, {})[event.index] = _Growing(_copy(event.part))
        elif isinstance(event, PartDelta):
            if growing := parts.get(event.choice, {}).get(event.index):
                growing.take(event)
        elif isinstance(event, FinishSeen):
            finishes[event.choice] = event
        elif isinstance(event, UsageSeen):
            reply.usage = event.usage
    for index in sorted({*parts, *finishes}):
        reply.choices.append(_choice(parts.get(index, {}), finishes.get(index)))
    return reply


def _choice(parts: dict[int, _Growing], finish: FinishSeen | None) -> Choice:
    growing = [parts[number] for number in sorted(parts)]
    choice = Choice(parts=[one.join() for one in growing])
    logprobs = [item for one in growing for item in one.logprobs]
    if logprobs:
        choice.logprobs = {"content": logprobs}
    if finish is not None:
        choice.finish, choice.finish_raw = finish.finish, finish.finish_raw
        choice.stop_sequence = finish.stop_sequence
    return choice


def disassemble(reply: HubReply) -> list[Event]:
    """Return the events of a stream that says `reply`, complete from `Start` to `End`."""
    events: list[Event] = [Start(id=reply.id, model=reply.model, created_s=reply.created_s)]
    for number, choice in enumerate(reply.choices):
        for index, part in enumerate(choice.parts):
            logprobs = choice.logprobs if index == _first_text(choice) else None
            events += _part_events(part, number, index, logprobs)
        events.append(
            FinishSeen(
                finish=choice.finish,
                finish_raw=choice.finish_raw,
                stop_sequence=choice.stop_sequence,
                choice=number,
            )
        )
    if reply.usage is not None:
        events.append(UsageSeen(usage=reply.usage))
    return [*events, End(complete=True)]


def _first_text(choice: Choice) -> int | None:
    return next((index for index, part in enumerate(choice.parts) if isinstance(part, Text)), None)


def _part_events(part: Part, choice: int, index: int, logprobs: object) -> list[Event]:
    begun = _copy(part)
    text, signature = "", None
    if isinstance(begun, Thinking):
        text, begun.text = begun.text or "", None
        signature, begun.signature = begun.signature, None
    elif isinstance(begun, Text | Refusal):
        text, begun.text = begun.text, ""
    elif isinstance(begun, ToolCall):
        text, begun.arguments = begun.arguments, ""
    events: list[Event] = [PartStart(index=index, part=begun, choice=choice)]
    if text or signature or logprobs:
        events.append(
            PartDelta(index=index, text=text, signature=signature, logprobs=logprobs, choice=choice)
        )
    return [*events, PartEnd(index=index, choice=choice)]


def _copy(part: Part) -> Part:
    return msgspec.structs.replace(part)
