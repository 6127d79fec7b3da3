"""Content blocks of Converse, both ways. A block is an object with one member that says what it is."""

import re
from typing import Any

import msgspec

from penstock.dialects.arguments import write_arguments
from penstock.dialects.members import Members, wrong
from penstock.spec.hub import Media, MediaKind, Opaque, Part, Text, Thinking, ToolCall, ToolResult

FORMATS: dict[str, str] = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "pdf": "application/pdf",
    "csv": "text/csv",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "html": "text/html",
    "txt": "text/plain",
    "md": "text/markdown",
    "mkv": "video/x-matroska",
    "mov": "video/quicktime",
    "mp4": "video/mp4",
    "webm": "video/webm",
    "flv": "video/x-flv",
    "mpeg": "video/mpeg",
    "mpg": "video/mpg",
    "wmv": "video/x-ms-wmv",
    "three_gp": "video/3gpp",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "m4a": "audio/mp4",
}
"""Bedrock's name of a format → MIME type."""
_NAMES = {media_type: name for name, media_type in FORMATS.items()} | {
    "image/jpg": "jpeg",
    "audio/mp3": "mp3",
    "audio/x-wav": "wav",
    "video/quicktime": "mov",
}
_MEDIA: tuple[MediaKind, ...] = ("image", "document", "video", "audio")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9 ()\[\]-]+")


def read_block(value: Any, path: str) -> Part:
    """Return one block; one that only Bedrock understands stays as it is. Raises `InvalidInput` for a wrong one."""
    members = Members(value, path)
    for kind in _MEDIA:
        if members.peek(kind) is not None:
            return _read_media(Members(members.peek(kind), members.at(kind)), kind, value)
    if (call := members.inner("toolUse")) is not None:
        arguments = write_arguments(call.table("input"))
        call_id, name = call.required("toolUseId"), call.required("name")
        return ToolCall(id=call_id, name=name, arguments=arguments, extra=call.rest())
    if (result := members.inner("toolResult")) is not None:
        return _read_result(result)
    if (reasoning := members.inner("reasoningContent")) is not None:
        return _read_reasoning(reasoning, value)
    text = members.text("text")
    return Opaque(dialect="bedrock", raw=value) if text is None else Text(text=text, extra=members.rest())


def _read_media(media: Members, kind: MediaKind, whole: Any) -> Part:
    source = media.inner("source")
    form = media.text("format")
    name = media.text("name")
    data = source.text("bytes") if source is not None else None
    place = source.inner("s3Location") if source is not None else None
    if data is None and place is None:
        return Opaque(dialect="bedrock", raw=whole)  # a document of text, whose citations need it as it is
    extra = media.rest()
    if place is not None and place.peek("bucketOwner") is not None:
        extra["bucketOwner"] = place.take("bucketOwner")
    return Media(
        kind=kind,
        media_type=FORMATS.get(form, f"{kind}/{form}") if form is not None else None,
        data=data,
        url=place.required("uri") if place is not None else None,
        name=name,
        extra=extra,
    )


def _read_result(result: Members) -> ToolResult:
    call_id = result.required("toolUseId")
    parts: list[Part] = []
    for index, item in enumerate(result.listed("content")):
        path = f"{result.at('content')}[{index}]"
        if not isinstance(item, dict):
            raise wrong(path, "an object", item)
        if "json" in item:
            parts.append(Text(text=msgspec.json.encode(item["json"]).decode(), extra={"json": True}))
        else:
            parts.append(read_block(item, path))
    is_error = result.text("status") == "error"
    return ToolResult(call_id=call_id, parts=parts, is_error=is_error, extra=result.rest())


def _read_reasoning(reasoning: Members, whole: Any) -> Part:
    sealed = reasoning.text("redactedContent")
    text = reasoning.inner("reasoningText")
    if sealed is not None:
        return Thinking(sealed=sealed, origin="bedrock")
    if text is None:
        return Opaque(dialect="bedrock", raw=whole)
    return Thinking(text=text.text("text"), signature=text.text("signature"), origin="bedrock")


def write_media(part: Media, extra: dict[str, Any]) -> dict[str, Any] | None:
    """Return the block, or None for what Bedrock cannot fetch or has no format for."""
    form = _NAMES.get(part.media_type or "")
    more = dict(extra)
    owner = more.pop("bucketOwner", None)
    if part.data is not None:
        source: dict[str, Any] = {"bytes": part.data}
    elif part.url is not None and part.url.startswith("s3://"):
        source = {"s3Location": {"uri": part.url} | ({"bucketOwner": owner} if owner is not None else {})}
        form = form or _format_of_name(part.url)
    else:
        return None
    if form is None:
        return None
    inner: dict[str, Any] = {"format": form}
    if part.kind == "document":
        inner["name"] = _clean_name(part.name)
    return {part.kind: {**inner, "source": source, **more}}


def _format_of_name(url: str) -> str | None:
    ending = url.rpartition(".")[2].lower()
    return ending if ending in FORMATS else _NAMES.get(f"image/{ending}")


def _clean_name(name: str | None) -> str:
    """Return a document's name as Bedrock takes it: letters, digits, single spaces, hyphens and brackets."""
    return (
        " ".join(_NOT_IN_NAMES.sub(" ", (name or "").rpartition(".")[0] or name or "").split()) or "document"
    )


def is_known_here(part: Thinking) -> bool:
    """Return whether a signature means something to Bedrock's models: Claude's hold wherever Claude runs."""
    return part.origin in ("bedrock", "anthropic")


def write_thinking(part: Thinking) -> dict[str, Any] | None:
    """Return the block of reasoning, foreign signatures left out; None for one that then says nothing."""
    if not is_known_here(part):
        part = msgspec.structs.replace(part, signature=None, sealed=None)
    if part.sealed is not None and part.text is None and part.signature is None:
        return {"reasoningContent": {"redactedContent": part.sealed}}
    if not part.text and part.signature is None:
        return None
    inner: dict[str, Any] = {"text": part.text or ""}
    if part.signature is not None:
        inner["signature"] = part.signature
    return {"reasoningContent": {"reasoningText": inner}}
