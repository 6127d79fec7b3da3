"""Pieces of a chat message's content, between OpenAI's shapes and parts of the hub. Media are never decoded."""

from typing import Any

from penstock.dialects.data_urls import join_data_url, split_data_url
from penstock.dialects.members import Members, wrong
from penstock.spec.hub import Media, MediaKind, Opaque, Part, Refusal, Text, Thinking

_AUDIO_FORMATS = {"audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/wav": "wav", "audio/x-wav": "wav"}


def read_content(value: Any, path: str) -> list[Part]:
    """Return the parts of a message's `content`: nothing, one string, or a list of pieces."""
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [Text(text=value)]
    if not isinstance(value, list):
        raise wrong(path, "a string or a list of parts", value)
    return [_read_piece(piece, f"{path}[{index}]") for index, piece in enumerate(value)]


def _read_piece(piece: Any, path: str) -> Part:
    if isinstance(piece, str):
        return Text(text=piece)
    members = Members(piece, path)
    kind = members.required("type")
    if kind == "text":
        return Text(text=members.required("text"), extra=members.rest())
    if kind == "refusal":
        return Refusal(text=members.required("refusal"), extra=members.rest())
    if kind in ("image_url", "video_url"):
        return _read_url(members, kind)
    if kind == "input_audio" and (audio := members.inner("input_audio")):
        name = audio.text("format")
        return Media(
            kind="audio",
            media_type=None if name is None else "audio/mpeg" if name == "mp3" else f"audio/{name}",
            data=audio.required("data"),
            extra=members.rest(),
        )
    if kind == "file" and (file := members.inner("file")):
        return _read_file(file, members)
    if kind == "thinking":  # Mistral's reasoning models
        return Thinking(text=_thinking_text(members.take("thinking")), origin="openai", extra=members.rest())
    return Opaque(dialect="openai", raw=piece)


def _read_url(members: Members, kind: str) -> Media:
    holder = members.peek(kind)
    if isinstance(holder, str):  # Mistral allows the bare URL
        members.take(kind)
        url, detail = holder, None
    else:
        inner = members.inner(kind)
        if inner is None:
            raise wrong(members.at(kind), "an object", None)
        url, detail = inner.required("url"), inner.text("detail")
    media_kind: MediaKind = "image" if kind == "image_url" else "video"
    found = split_data_url(url)
    if found is None:
        return Media(kind=media_kind, url=url, detail=detail, extra=members.rest())
    return Media(kind=media_kind, media_type=found[0], data=found[1], detail=detail, extra=members.rest())


def _read_file(file: Members, members: Members) -> Media:
    name, file_id, data = file.text("filename"), file.text("file_id"), file.text("file_data")
    media_type, url = None, None
    if data is not None:
        found = split_data_url(data)
        if found is not None:
            media_type, data = found
        elif data[:8].lower().startswith(("http://", "https://")):
            data, url = None, data
    if data is None and url is None and file_id is None:
        raise wrong(members.at("file"), "an object with `file_data` or `file_id`", None)
    extra = members.rest()
    return Media(
        kind="document", media_type=media_type, data=data, url=url, file_id=file_id, name=name, extra=extra
    )


def _thinking_text(value: Any) -> str:
    pieces = value if isinstance(value, list) else [value]
    texts = [piece.get("text") if isinstance(piece, dict) else piece for piece in pieces]
    return "".join(text for text in texts if isinstance(text, str))


def write_media(part: Media, *, can_video: bool) -> dict[str, Any] | None:
    """Return the content piece for `part`, or None if a chat message cannot hold it."""
    if part.kind == "image" and part.file_id is None:
        place: dict[str, Any] = {"url": part.url or join_data_url(part.media_type, part.data or "")}
        if part.detail is not None:
            place["detail"] = part.detail
        return {"type": "image_url", "image_url": place}
    if part.kind == "video" and can_video and part.file_id is None:
        return {
            "type": "video_url",
            "video_url": {"url": part.url or join_data_url(part.media_type, part.data or "")},
        }
    if part.kind == "audio" and part.data is not None:
        media_type = (part.media_type or "").lower()
        name = _AUDIO_FORMATS.get(media_type) or media_type.partition("/")[2] or "wav"
        return {"type": "input_audio", "input_audio": {"data": part.data, "format": name}}
    if part.kind == "document" and (part.data is not None or part.file_id is not None):
        file: dict[str, Any] = {}
        if part.file_id is not None:
            file["file_id"] = part.file_id
        elif part.data is not None:
            file["filename"] = part.name or f"document{_suffix(part.media_type)}"
            file["file_data"] = join_data_url(part.media_type, part.data) if part.media_type else part.data
        return {"type": "file", "file": file}
    return None


def _suffix(media_type: str | None) -> str:
    return ".pdf" if media_type in (None, "application/pdf") else ".txt" if media_type == "text/plain" else ""
