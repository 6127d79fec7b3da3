"""Messages in OpenAI's shape → messages as renderers take them, by the very rules of the engine's own requests.

What an engine would refuse (a picture, an unknown role) is refused here too: nothing is trained that cannot be asked.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.spec.messages import Message, Role
from penstock.tuning.errors import RowNotUnderstood

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")


def read_messages(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Return the messages; raise `RowNotUnderstood` for what no engine here takes."""
    return [_read_message(number, message) for number, message in enumerate(messages)]


def find_unlearnt(messages: Sequence[Mapping[str, Any]]) -> frozenset[int]:
    """Return the places of messages that say `weight: 0`, as OpenAI's files have it."""
    return frozenset([place for place, message in enumerate(messages) if message.get("weight") == 0])


def text_of(content: Any, where: str = "content") -> str:
    """Return the text of a message's content: itself, or its text parts one after the other."""
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if not isinstance(content, list):
        raise RowNotUnderstood(f"{where} is neither text nor parts.")
    texts = []
    for part in content:
        if (
            not isinstance(part, Mapping)
            or part.get("type") != "text"
            or not isinstance(part.get("text"), str)
        ):
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            raise RowNotUnderstood(f"{where} has a part of type {kind!r}; texts alone can be trained on.")
        texts.append(part["text"])
    return "".join(texts)


def _read_message(number: int, message: Mapping[str, Any]) -> Message:
    content, said = message.get("content"), message.get("role")
    role = _ROLES.get(said) if isinstance(said, str) else None
    if role is None:
        raise RowNotUnderstood(f"messages[{number}] has the role {said!r}; known: {', '.join(_ROLES)}.")
    if len(message) == 2 and isinstance(content, str):
        return Message(role=role, content=content)
    calls = message.get("tool_calls") or ()
    if content is None and not calls:
        raise RowNotUnderstood(f"messages[{number}] has no content.")
    if message.get("function_call"):
        raise RowNotUnderstood(f"messages[{number}] has a function_call; write it as tool_calls.")
    thought = next((message[name] for name in _THOUGHTS if isinstance(message.get(name), str)), None)
    name, call_id = message.get("name"), message.get("tool_call_id")
    return Message(
        role=role,
        content=text_of(content, f"messages[{number}]"),
        reasoning=thought,
        tool_calls=tuple(dict(call) for call in calls),
        tool_call_id=call_id if isinstance(call_id, str) else None,
        name=name if isinstance(name, str) else None,
    )
