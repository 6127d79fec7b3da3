"""Reads a chat request for an app, and refuses clearly what an app does not do."""

from typing import Any, Literal

import msgspec

from penstock.apps.errors import UnsupportedRequest
from penstock.apps.types import ChatRequest, Turn
from penstock.base.errors import InvalidInput

MAX_QUESTION_CHARS = 4000
MAX_TURNS = 40
"""Earlier messages that are kept; what an app shows of them it declares."""
_SAMPLING = ("temperature", "top_p", "seed", "max_tokens", "max_completion_tokens")


class _Message(msgspec.Struct, frozen=True):
    role: str
    content: str | list[dict[str, Any]] | None = None


class _StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class _Body(msgspec.Struct, frozen=True):
    model: str
    messages: list[_Message]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: int | None = None
    tools: list[Any] | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


_decoder = msgspec.json.Decoder(_Body)


def read_chat(data: bytes) -> ChatRequest:
    """Return the request; raise `InvalidInput` that names the wrong member, or `UnsupportedRequest`."""
    try:
        body = _decoder.decode(data)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"The request body is wrong: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"The request body is not valid JSON: {error}.") from None
    if body.n not in (None, 1):
        raise UnsupportedRequest("An app gives one answer.", hint="Leave `n` out or set it to 1.", param="n")
    if body.tools:
        raise UnsupportedRequest("This app takes no tools.", hint="Leave `tools` out.", param="tools")
    return ChatRequest(
        model=body.model,
        question=_find_question(body.messages),
        history=_find_history(body.messages),
        messages=msgspec.to_builtins(body.messages),
        stream=bool(body.stream),
        include_usage=body.stream_options is not None and bool(body.stream_options.include_usage),
        overrides={name: value for name in _SAMPLING if (value := getattr(body, name)) is not None},
    )


def _find_question(messages: list[_Message]) -> str:
    for message in reversed(messages):
        if message.role == "user":
            question = _text_of(message).strip()
            if not question:
                raise InvalidInput("The last user message is empty.", param="messages")
            if len(question) > MAX_QUESTION_CHARS:
                raise InvalidInput(
                    f"The question has {len(question):,} characters; this app takes {MAX_QUESTION_CHARS:,}.",
                    hint="Ask a shorter question; documents belong in the knowledge base.",
                    param="messages",
                )
            return question
    raise InvalidInput("There is no user message.", hint="The last one is the question.", param="messages")


def _find_history(messages: list[_Message]) -> tuple[Turn, ...]:
    """Return what was said before the question. Parts that are no text are passed over: the question alone must be one."""
    last = max(place for place, message in enumerate(messages) if message.role == "user")
    turns: list[Turn] = []
    for message in messages[:last]:
        if message.role not in ("user", "assistant"):
            continue
        content = message.content
        if not isinstance(content, str):
            texts = (part.get("text") for part in content or () if part.get("type") == "text")
            content = "\n".join(text for text in texts if isinstance(text, str))
        if text := content.strip():
            role: Literal["user", "assistant"] = "user" if message.role == "user" else "assistant"
            turns.append(Turn(role=role, text=text[:MAX_QUESTION_CHARS]))
    return tuple(turns[-MAX_TURNS:])


def _text_of(message: _Message) -> str:
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    texts = []
    for part in message.content:
        if part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise UnsupportedRequest(
                f"This app reads text only, not {str(part.get('type'))[:40]!r}.", param="messages"
            )
        texts.append(part["text"])
    return "\n".join(texts)
