"""One turn of a session as it reads: what was new in its request, and what came back.

Clients send the whole talk again with every call, so only what follows the last answer was asked now. Nothing is
executed or trusted: the template escapes every text.
"""

from dataclasses import dataclass
from typing import Any

from penstock.console.messages import Turn, read_turns, show_json

MAX_RAW = 2000
_SAID_BEFORE = "assistant"
_STANDING = frozenset({"system", "developer"})


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """What is new in one call."""

    asked: tuple[Turn, ...]
    answered: tuple[Turn, ...]
    standing: tuple[Turn, ...]
    """Instructions that go along with every call."""
    n_before: int
    """Messages that were sent again."""
    raw_input: str | None = None
    raw_output: str | None = None
    """JSON of what is not a conversation, cut."""


def read_exchange(sent: Any, received: Any) -> Exchange:
    """Return what one call added to the talk."""
    turns = read_turns(sent, received)
    answered = tuple(turn for turn in turns if turn.is_reply)
    given = [turn for turn in turns if not turn.is_reply]
    standing = tuple(turn for turn in given if turn.role in _STANDING)
    talk = [turn for turn in given if turn.role not in _STANDING]
    last_answer = max((at for at, turn in enumerate(talk) if turn.role == _SAID_BEFORE), default=-1)
    asked = tuple(talk[last_answer + 1 :])
    return Exchange(
        asked=asked,
        answered=answered,
        standing=standing,
        n_before=last_answer + 1,
        raw_input=None if asked or standing else _raw(sent),
        raw_output=None if answered else _raw(received),
    )


def _raw(value: Any) -> str | None:
    text = show_json(value)
    return text if text is None or len(text) <= MAX_RAW else f"{text[:MAX_RAW]}\n…"
