"""One turn of a session as it reads: what was new in its request, and what came back.

Clients send the whole talk again with every call, so only what follows the last answer was asked now. Nothing is
executed or trusted: the template escapes every text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.console.messages import MAX_CHARS, show_json
from penstock.traces import conversation
from penstock.traces.conversation import Message, plain_text

MAX_RAW = 2000
_SAID_BEFORE = frozenset({"assistant", "model"})


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One message as text. `n_cut` characters were left out here; the raw payload has them."""

    role: str
    text: str
    n_cut: int = 0


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
    found = conversation.read_exchange(sent, received)
    given = found.asked if found else []
    if not given and (text := _only_text(sent)) is not None:
        given = [Message(role="user", parts=[conversation.Part(kind="text", text=text)])]
    answered = _turns(found.answered if found else [])
    standing = _turns([message for message in given if message.is_standing])
    talk = [message for message in given if not message.is_standing]
    last_answer = max((at for at, each in enumerate(talk) if each.role in _SAID_BEFORE), default=-1)
    asked = _turns(talk[last_answer + 1 :])
    return Exchange(
        asked=asked,
        answered=answered,
        standing=standing,
        n_before=last_answer + 1,
        raw_input=None if asked or standing else _raw(sent),
        raw_output=None if answered else _raw(received),
    )


def _turns(messages: list[Message]) -> tuple[Turn, ...]:
    turns = []
    for message in messages:
        text = plain_text(message)
        if text.strip():
            turns.append(Turn(role=message.role, text=text[:MAX_CHARS], n_cut=max(0, len(text) - MAX_CHARS)))
    return tuple(turns)


def _only_text(sent: Any) -> str | None:
    """Return the one argument of a function that was called with a text alone, which is what was asked."""
    if isinstance(sent, Mapping) and len(sent) == 1:
        (value,) = sent.values()
        return value if isinstance(value, str) and value.strip() else None
    return None


def _raw(value: Any) -> str | None:
    text = show_json(value)
    return text if text is None or len(text) <= MAX_RAW else f"{text[:MAX_RAW]}\n…"
