"""Reads what a gateway needs of a reply: usage and the model that answered; and folds a stream into one reply."""

from typing import Any

import msgspec

from penstock.dialects.openai.sse import iter_data
from penstock.dialects.openai.usage import UsageObject


class ReplyHead(msgspec.Struct, frozen=True):
    """What is read of a reply body or of one stream chunk; the rest is only checked to be JSON."""

    model: str | None = None
    usage: UsageObject | None = None


class _LooseHead(msgspec.Struct, frozen=True):
    model: Any = None


_head = msgspec.json.Decoder(ReplyHead)
_loose = msgspec.json.Decoder(_LooseHead)


def read_reply(body: bytes) -> ReplyHead | None:
    """Return model and usage of a reply, or None if `body` is not a JSON object.

    A `usage` that is not as documented counts as not given: the reply itself is still good.
    """
    try:
        return _head.decode(body)
    except msgspec.ValidationError:
        pass
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    try:
        model = _loose.decode(body).model
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return ReplyHead(model=model if isinstance(model, str) else None)


def fold_stream(stream: bytes) -> dict[str, Any]:
    """Return the reply that the events of `stream` add up to, in the shape of a non-streamed one.

    Tolerant: events that are not JSON objects are skipped; members beside `choices` are kept, the last value
    counts. Deltas of text are joined, tool calls are merged by index.
    """
    reply: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for data in iter_data(stream):
        try:
            chunk = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            continue
        if not isinstance(chunk, dict):
            continue
        reply.update({key: value for key, value in chunk.items() if key != "choices" and value is not None})
        listed = chunk.get("choices")
        for choice in listed if isinstance(listed, list) else ():
            if isinstance(choice, dict):
                _fold_choice(choices, choice)
    if "chat.completion.chunk" in str(reply.get("object")):
        reply["object"] = "chat.completion"
    if choices:
        reply["choices"] = [_finish(choices[index]) for index in sorted(choices)]
    return reply


_JOINED = ("content", "reasoning_content", "reasoning", "refusal", "text", "arguments")


def _fold_choice(choices: dict[int, dict[str, Any]], choice: dict[str, Any]) -> None:
    index = choice.get("index")
    known = choices.setdefault(index if isinstance(index, int) else 0, {"index": index})
    for key, value in choice.items():
        if key == "delta" and isinstance(value, dict):
            _merge(known.setdefault("message", {}), value)
        elif key in _JOINED and isinstance(value, str):
            known.setdefault(key, []).append(value)
        elif value is not None:
            known[key] = value


def _merge(into: dict[str, Any], delta: dict[str, Any]) -> None:
    """Fold one delta in. Texts are gathered as lists and joined at the end: joining each time is quadratic."""
    for key, value in delta.items():
        if key in _JOINED and isinstance(value, str):
            pieces = into.setdefault(key, [])
            if isinstance(pieces, list):
                pieces.append(value)
        elif key == "tool_calls" and isinstance(value, list):
            calls = into.setdefault("tool_calls", {})
            for call in value:
                if isinstance(call, dict) and isinstance(calls, dict):
                    _merge(calls.setdefault(call.get("index", len(calls)), {}), call)
        elif key == "function" and isinstance(value, dict):
            _merge(into.setdefault("function", {}), value)
        elif value is not None:
            into[key] = value


def _finish(part: dict[str, Any]) -> dict[str, Any]:
    done: dict[str, Any] = {}
    for key, value in part.items():
        if key in _JOINED and isinstance(value, list):
            done[key] = "".join(value)
        elif key == "tool_calls" and isinstance(value, dict):
            done[key] = [_finish(call) for call in value.values()]
        elif key in ("message", "function") and isinstance(value, dict):
            done[key] = _finish(value)
        else:
            done[key] = value
    return done
