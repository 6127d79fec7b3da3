"""Payloads as a conversation: requests and replies of any dialect become messages with parts.

Read are OpenAI's chat and Responses, Anthropic's, Gemini's, and the parts of OpenTelemetry's and OpenInference's messages.
What has no such shape is no conversation; an unknown part stays as the JSON that it is. Nothing is executed, fetched or
trusted here. The surprise: clients send the whole talk again with every call, so `find_added` says what is new.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

PartKind = Literal["text", "reasoning", "tool_call", "tool_result", "image", "link", "data"]
_ASKED = ("prompt", "question", "query", "input")
_TOOL_RESULTS = frozenset(
    {"tool_result", "function_call_output", "tool_call_response", "server_tool_call_response"}
)
_TOOL_CALLS = frozenset(
    {"tool_use", "function_call", "tool_call", "server_tool_use", "server_tool_call", "function"}
)
_REASONING = frozenset({"reasoning", "thinking", "redacted_thinking"})
_STANDING = frozenset({"system", "developer"})
MAX_PARTS = 2000
"""Parts of one message; more are counted, not read."""
MAX_DEPTH = 20
"""Parts within parts; what lies deeper stays JSON."""


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One piece of a message."""

    kind: PartKind
    text: str = ""
    """The text; the arguments or result as they were written; the address of an image or link."""
    name: str | None = None
    """Of a tool, or what a part of unknown kind calls itself."""
    call_id: str | None = None
    data: Any = None
    """Arguments, result or unknown part as JSON value, where it is one."""
    is_broken: bool = False
    """The arguments should be JSON and are not."""


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message."""

    role: str
    parts: list[Part]
    name: str | None = None
    finish: str | None = None
    """Why the reply ended, where it says so."""

    @property
    def is_standing(self) -> bool:
        """Whether it is an instruction that goes along with every call."""
        return self.role in _STANDING


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """What one call was asked and what it answered."""

    asked: list[Message]
    answered: list[Message]
    tools: list[str] = []
    """Names of the tools that were offered."""


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """What a call added to the one before it."""

    messages: list[Message]
    n_before: int
    """Messages that were sent again."""
    n_gone: int
    """Messages of the call before that were not sent again."""


def read_exchange(sent: Any, received: Any) -> Exchange | None:
    """Return the conversation of one call, or None when neither payload is one. No JSON value makes it fail."""
    try:
        asked = _read_asked(sent)
        answered = _read_answered(received)
        if not asked and not answered:
            return None
        return Exchange(asked=asked, answered=answered, tools=_read_tools(sent))
    except RecursionError:  # lists in lists in lists, where a name or a text belongs
        return None


def find_added(now: Exchange, before: Exchange | None) -> Added:
    """Return which messages of `now` neither went into the call before nor came out of it.

    Order is kept; a message that stands in both several times counts as often. Reasoning is not compared: clients
    leave it out when they send an answer again.
    """
    if before is None:
        return Added(messages=now.asked, n_before=0, n_gone=0)
    sent = Counter(map(_likeness, before.asked))
    left = sent + Counter(map(_likeness, before.answered))
    added = []
    for message in now.asked:
        alike = _likeness(message)
        if left[alike] > 0:
            left[alike] -= 1
        else:
            added.append(message)
    again = Counter(map(_likeness, now.asked))
    n_gone = sum((sent - again).values())
    return Added(messages=added, n_before=len(now.asked) - len(added), n_gone=n_gone)


def plain_text(message: Message) -> str:
    """Return a message as text alone, for comparing and for search."""
    pieces = []
    for part in message.parts:
        if part.kind == "tool_call":
            pieces.append(f"{part.name or 'tool'}({part.text})")
        elif part.kind in {"text", "tool_result", "reasoning"}:
            pieces.append(part.text)
        else:
            pieces.append(f"[{part.name or part.kind}]")
    return "\n".join(pieces)


def _likeness(message: Message) -> tuple[Any, ...]:
    parts = tuple(
        (part.kind, part.text.strip(), part.name, part.call_id)
        for part in message.parts
        if part.kind != "reasoning" and (part.text.strip() or part.kind != "text")
    )
    return ("assistant" if message.role == "model" else message.role, parts)


def _read_asked(sent: Any) -> list[Message]:
    if isinstance(sent, str):
        return [_text_message("user", sent)] if sent.strip() else []
    if isinstance(sent, list):
        return _read_list(sent, "user")
    if not isinstance(sent, Mapping):
        return []
    found = [
        _message({"content": _content_of(sent[name])}, "system")
        for name in ("system", "systemInstruction", "system_instruction", "instructions")
        if sent.get(name)
    ]
    for name in ("messages", "contents"):
        if isinstance(sent.get(name), list):
            return found + _read_list(sent[name], "user")
    asked = next((sent[name] for name in _ASKED if sent.get(name)), None)
    if isinstance(asked, str):
        found.append(_text_message("user", asked))
    elif isinstance(asked, list):
        found += _read_list(asked, "user")
    return found if asked is not None else []


def _read_answered(received: Any) -> list[Message]:
    if isinstance(received, str):
        return [_text_message("assistant", received)] if received.strip() else []
    if isinstance(received, list):
        return _read_list(received, "assistant")
    if not isinstance(received, Mapping):
        return []
    for name, inner in (("choices", "message"), ("candidates", "content")):
        choices = received.get(name)
        if isinstance(choices, list):
            return [_choice(each, inner) for each in choices if isinstance(each, Mapping)]
    for name in ("output", "messages"):
        if isinstance(received.get(name), list):
            return _read_list(received[name], "assistant")
    if isinstance(received.get("message"), Mapping):
        return [_message(received["message"], "assistant")]
    if "content" in received or "parts" in received:
        return [_message(received, "assistant")]
    answer = next((received[name] for name in ("text", "answer", "completion") if received.get(name)), None)
    return [_text_message("assistant", answer)] if isinstance(answer, str) else []


def _choice(choice: Mapping[str, Any], inner: str) -> Message:
    message = choice.get(inner, choice.get("delta"))
    if not isinstance(message, Mapping):
        message = {"content": choice.get("text")}
    finish = choice.get("finish_reason", choice.get("finishReason"))
    return _message({"finish_reason": finish, **message}, "assistant")


def _read_list(items: list[Any], usual: str) -> list[Message]:
    """Return the messages of a list that holds messages, bare texts or single parts."""
    found: list[Message] = []
    for item in items:
        if isinstance(item, str):
            found.append(_text_message(usual, item))
        elif not isinstance(item, Mapping):
            continue
        elif "role" in item or "parts" in item or ("content" in item and "type" not in item):
            found.append(_message(item, usual))
        elif "type" in item:
            role = (
                "tool"
                if _kind_of(item) in _TOOL_RESULTS
                else str(item.get("role", usual if usual != "user" else "assistant"))
            )
            found.append(Message(role=role, parts=_parts_of(item)))
    return [message for message in found if message.parts]


def _message(message: Mapping[str, Any], usual: str) -> Message:
    role = str(message.get("role") or usual)
    parts: list[Part] = []
    for name in ("reasoning_content", "reasoning"):
        if isinstance(message.get(name), str) and message[name]:
            parts.append(Part(kind="reasoning", text=message[name]))
            break
    content = message.get("content", message.get("parts"))
    if role == "tool" and not _holds_parts(content):
        parts.append(_result(message.get("tool_call_id"), message.get("name"), content))
    else:
        parts += _read_content(content)
        if isinstance(message.get("refusal"), str):
            parts.append(Part(kind="text", text=message["refusal"]))
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        parts += [_call(each) for each in calls[:MAX_PARTS] if isinstance(each, Mapping)]
    if isinstance(message.get("function_call"), Mapping):
        parts.append(_call(message["function_call"]))
    return Message(
        role=role,
        parts=parts,
        name=_text_or_none(message.get("name")),
        finish=_text_or_none(message.get("finish_reason", message.get("stop_reason"))),
    )


def _holds_parts(content: Any) -> bool:
    return isinstance(content, list) and any(
        isinstance(each, Mapping) and (_kind_of(each) in _TOOL_RESULTS or "functionResponse" in each)
        for each in content
    )


def _kind_of(item: Mapping[str, Any]) -> str:
    """Return what a part calls itself; empty where that is no text, as in the schema of a tool."""
    kind = item.get("type")
    return kind if isinstance(kind, str) else ""


def _content_of(value: Any) -> Any:
    return value.get("parts", value.get("content", "")) if isinstance(value, Mapping) else value


def _read_content(content: Any, depth: int = 0) -> list[Part]:
    if content is None:
        return []
    if isinstance(content, str):
        return [Part(kind="text", text=content)] if content else []
    if isinstance(content, Mapping):
        return _parts_of(content, depth)
    if isinstance(content, list):
        return [part for each in content[:MAX_PARTS] for part in _parts_of(each, depth)]
    return [Part(kind="data", data=content)]


def _parts_of(item: Any, depth: int = 0) -> list[Part]:
    if isinstance(item, str):
        return [Part(kind="text", text=item)]
    if not isinstance(item, Mapping):
        return [Part(kind="data", data=item)]
    kind = _kind_of(item)
    if kind in _REASONING or item.get("thought") is True:
        return [Part(kind="reasoning", text="\n".join(_texts(item)))]
    called, answered = item.get("functionCall"), item.get("functionResponse")
    if kind in _TOOL_CALLS or isinstance(called, Mapping):
        return [_call(called if isinstance(called, Mapping) else item)]
    if kind in _TOOL_RESULTS or isinstance(answered, Mapping):
        inner = answered if isinstance(answered, Mapping) else item
        body = next(
            (inner[name] for name in ("response", "result", "output", "content") if name in inner), None
        )
        return [
            _result(inner.get("tool_use_id", inner.get("call_id", inner.get("id"))), inner.get("name"), body)
        ]
    media = _media(item, kind)
    if media is not None:
        return [media]
    if isinstance(item.get("text"), str):
        return [Part(kind="text", text=item["text"])]
    if (
        kind in {"text", "input_text", "output_text", "message", ""}
        and "content" in item
        and depth < MAX_DEPTH
    ):
        return _read_content(item["content"], depth + 1)
    return [Part(kind="data", name=kind or None, data=dict(item))]


def _texts(item: Mapping[str, Any]) -> Iterator[str]:
    for name in ("thinking", "text", "content", "summary", "reasoning"):
        value = item.get(name)
        if isinstance(value, str) and value:
            yield value
        elif isinstance(value, list):
            yield from (str(each["text"]) for each in value if isinstance(each, Mapping) and "text" in each)


def _media(item: Mapping[str, Any], kind: str) -> Part | None:
    """Return an image, file or sound, whichever way it is attached."""
    for name in (
        "image_url",
        "image",
        "inlineData",
        "inline_data",
        "source",
        "fileData",
        "file",
        "input_audio",
    ):
        value = item.get(name)
        if value is None:
            continue
        if isinstance(value, Mapping) and isinstance(value.get("image"), Mapping):
            value = value["image"]
        address = _address(value)
        if address is not None:
            is_image = "image" in (kind + name) or address.startswith("data:image/")
            return Part(kind="image" if is_image else "link", text=address, name=kind or name)
    if kind == "blob" or (kind in {"uri", "file"} and ("uri" in item or "file_id" in item)):
        address = _address(item)
        is_image = str(item.get("modality", item.get("mime_type", ""))).startswith("image")
        return (
            None if address is None else Part(kind="image" if is_image else "link", text=address, name=kind)
        )
    return None


def _address(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping):
        return None
    for name in ("url", "uri", "fileUri", "file_id", "file_data"):
        if isinstance(value.get(name), str):
            return str(value[name])
    data = value.get("data", value.get("content"))
    mime = value.get("mimeType", value.get("mime_type", value.get("media_type")))
    if isinstance(data, str) and isinstance(mime, str):
        return f"data:{mime};base64,{data}"
    return None


def _call(call: Mapping[str, Any]) -> Part:
    inner = call["function"] if isinstance(call.get("function"), Mapping) else call
    given = next(
        (inner[name] for name in ("arguments", "input", "args", "parameters") if name in inner), None
    )
    text, data, is_broken = _json_text(given)
    return Part(
        kind="tool_call",
        text=text,
        name=str(inner.get("name") or call.get("name") or "tool"),
        call_id=_text_or_none(call.get("call_id", call.get("id"))),
        data=data,
        is_broken=is_broken,
    )


def _result(call_id: Any, name: Any, body: Any) -> Part:
    if isinstance(body, list):
        texts = [part.text for part in _read_content(body) if part.kind == "text"]
        if texts:
            body = "\n".join(texts)
    text, data, _ = _json_text(body)
    return Part(
        kind="tool_result", text=text, name=_text_or_none(name), call_id=_text_or_none(call_id), data=data
    )


def _json_text(value: Any) -> tuple[str, Any, bool]:
    """Return a value as text and as JSON value, and whether text that should be JSON is not."""
    if isinstance(value, str):
        try:
            return value, msgspec.json.decode(value), False
        except (msgspec.DecodeError, RecursionError):
            return value, None, bool(value.strip())
    if value is None:
        return "", None, False
    return msgspec.json.encode(value, enc_hook=str).decode(), value, False


def _read_tools(sent: Any) -> list[str]:
    tools = sent.get("tools") if isinstance(sent, Mapping) else None
    if not isinstance(tools, list):
        return []
    names = []
    for tool in tools:
        if isinstance(tool, Mapping):
            inner = tool["function"] if isinstance(tool.get("function"), Mapping) else tool
            names.append(str(inner.get("name", "tool")))
    return names


def _text_message(role: str, text: str) -> Message:
    return Message(role=role, parts=[Part(kind="text", text=text)])


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None
