"""Items of the responses API, as they stand in `input` and `output`, read into messages of the hub.

An item is a message, a call, its result or a thought; neighbours of one side make one message of the hub. Ids and
states of messages and calls say nothing to a model and are left behind.
"""

from typing import Any

from penstock.dialects.data_urls import split_data_url
from penstock.dialects.members import Members, wrong
from penstock.dialects.responses.sealed import unpack_thought
from penstock.spec.hub import (
    Media,
    Message,
    Opaque,
    Part,
    Refusal,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}


def read_items(items: list[Any], path: str) -> list[Message]:
    """Return the messages that `items` make."""
    messages: list[Message] = []
    last_kind = ""
    for index, raw in enumerate(items):
        kind, message = _read_item(raw, f"{path}[{index}]")
        joins = kind == last_kind and kind in ("assistant", "result")
        if joins:
            messages[-1].parts += message.parts
            messages[-1].extra = {**messages[-1].extra, **message.extra}
        else:
            messages.append(message)
        last_kind = kind
    return messages


def _read_item(raw: Any, path: str) -> tuple[str, Message]:
    item = Members(raw, path)
    kind = item.text("type") or "message"
    if kind == "message":
        return _read_message(item)
    if kind == "function_call_output":
        return "result", Message(role="user", parts=[_read_result(item)])
    if kind.endswith("_output") or kind == "mcp_approval_response":
        return "result", Message(role="user", parts=[Opaque(dialect="responses", raw=raw)])
    return "assistant", Message(role="assistant", parts=[read_answer_item(raw, path)])


def read_answer_item(raw: Any, path: str) -> Part:
    """Return the part of an item that a model made and that is no message."""
    item = Members(raw, path)
    kind = item.text("type")
    if kind == "function_call":
        return read_call(item)
    if kind == "reasoning":
        return read_thought(item)
    return Opaque(dialect="responses", raw=raw)


def _read_message(item: Members) -> tuple[str, Message]:
    said = item.required("role")
    role = _ROLES.get(said)
    if role is None:
        raise wrong(item.at("role"), "user, assistant, system or developer", said)
    parts = read_content(item.take("content"), item.at("content"))
    item.take("id"), item.take("status")
    return role, Message(role=role, parts=parts, extra=item.rest())


def _read_result(item: Members) -> ToolResult:
    item.take("id"), item.take("status")
    return ToolResult(
        call_id=item.required("call_id"),
        parts=read_content(item.take("output"), item.at("output")),
        extra=item.rest(),
    )


def read_call(item: Members) -> ToolCall:
    """Return the call of a `function_call` item."""
    item.take("id"), item.take("status"), item.take("type")
    return ToolCall(
        id=item.required("call_id"),
        name=item.required("name"),
        arguments=item.text("arguments") or "",
        extra=item.rest(),
    )


def read_thought(item: Members) -> Thinking:
    """Return the thought of a `reasoning` item: its text where the model shows it, else the summary of it."""
    item.take("status"), item.take("type")
    shown = [piece.text("text") or "" for piece in item.inners("content")]
    summary = [piece.text("text") or "" for piece in item.inners("summary")]
    text = "".join(shown) if shown else "\n\n".join(summary) if summary else None
    thought = unpack_thought(text or None, item.text("encrypted_content"), item.text("id"))
    thought.extra = item.rest()
    return thought


def read_content(value: Any, path: str) -> list[Part]:
    """Return the parts of a `content` or `output`: nothing, one string, or a list of pieces."""
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [Text(text=value)]
    if not isinstance(value, list):
        raise wrong(path, "a string or a list of parts", value)
    return [_read_piece(piece, f"{path}[{index}]") for index, piece in enumerate(value)]


def _read_piece(raw: Any, path: str) -> Part:
    piece = Members(raw, path)
    kind = piece.required("type")
    if kind in ("input_text", "output_text", "text"):
        for name in ("annotations", "logprobs"):
            if piece.peek(name) == []:
                piece.take(name)
        return Text(text=piece.required("text"), extra=piece.rest())
    if kind == "refusal":
        return Refusal(text=piece.required("refusal"), extra=piece.rest())
    if kind == "input_image":
        return _read_image(piece)
    if kind == "input_file":
        return _read_file(piece)
    if kind == "input_audio" and (audio := piece.inner("input_audio")):
        form = audio.text("format")
        media_type = None if form is None else "audio/mpeg" if form == "mp3" else f"audio/{form}"
        return Media(kind="audio", media_type=media_type, data=audio.required("data"), extra=piece.rest())
    return Opaque(dialect="responses", raw=raw)


def _read_image(piece: Members) -> Media:
    url, file_id, detail = piece.text("image_url"), piece.text("file_id"), piece.text("detail")
    if url is None and file_id is None:
        raise wrong(piece.at("image_url"), "a URL, or `file_id` given", None)
    found = None if url is None else split_data_url(url)
    image = Media(kind="image", url=url, file_id=file_id, detail=detail, extra=piece.rest())
    if found is not None:
        image.url, image.media_type, image.data = None, found[0], found[1]
    return image


def _read_file(piece: Members) -> Media:
    data, url, file_id = piece.text("file_data"), piece.text("file_url"), piece.text("file_id")
    if data is None and url is None and file_id is None:
        raise wrong(piece.at("file_data"), "a data URL, or `file_url` or `file_id` given", None)
    media_type = None
    if data is not None and (found := split_data_url(data)) is not None:
        media_type, data = found
    return Media(
        kind="document",
        media_type=media_type,
        data=data,
        url=url,
        file_id=file_id,
        name=piece.text("filename"),
        extra=piece.rest(),
    )
