"""Content blocks of a message and parts of the hub, both ways. Media are never decoded, but for plain text."""

import base64
import binascii
from typing import Any

import msgspec

from penstock.dialects.anthropic.foreign import mark_call, mark_thinking, unmark_call, unmark_thinking
from penstock.dialects.arguments import read_arguments, write_arguments
from penstock.dialects.members import Members, wrong
from penstock.spec.hub import Media, MediaKind, Opaque, Part, Text, Thinking, ToolCall, ToolResult

_NO_ARGUMENTS = msgspec.Raw(b"{}")
_MAGIC = {"iVBOR": "image/png", "/9j/": "image/jpeg", "R0lGO": "image/gif", "UklGR": "image/webp"}


def read_content(value: Any, path: str) -> list[Part]:
    """Return the parts of `content`: a string or a list of blocks."""
    if isinstance(value, str):
        return [Text(text=value)] if value else []
    if value is None:
        return []
    if not isinstance(value, list):
        raise wrong(path, "a string or a list of blocks", value)
    return [read_block(block, f"{path}[{index}]") for index, block in enumerate(value)]


def read_block(value: Any, path: str) -> Part:
    """Return the part for one block; a kind that the hub has no word for is kept as it is."""
    block = Members(value, path)
    kind = block.required("type")
    if kind == "text":
        return Text(text=block.required("text"), extra=block.rest())
    if kind == "tool_use":
        return _read_call(block)
    if kind == "tool_result":
        parts = read_content(block.take("content"), block.at("content"))
        return ToolResult(
            call_id=block.required("tool_use_id"),
            parts=parts,
            is_error=block.flag("is_error") or False,
            extra=block.rest(),
        )
    if kind == "thinking":
        text, signature = block.text("thinking"), block.text("signature")
        foreign = unmark_thinking(text, signature)
        if foreign is not None:
            return foreign
        return Thinking(
            text=text or None, signature=signature or None, origin="anthropic", extra=block.rest()
        )
    if kind == "redacted_thinking":
        data = block.required("data")
        return unmark_thinking(None, data) or Thinking(sealed=data, origin="anthropic", extra=block.rest())
    if kind in ("image", "document"):
        media = _read_media(block, "image" if kind == "image" else "document")
        if media is not None:
            return media
    return Opaque(dialect="anthropic", raw=value)


def _read_call(block: Members) -> ToolCall:
    name, number = block.required("name"), block.required("id")
    given = block.take("input")
    if not isinstance(given, dict):
        raise wrong(block.at("input"), "an object", given)
    signature = unmark_call(block.text("signature"))
    arguments = write_arguments(given)
    return ToolCall(id=number, name=name, arguments=arguments, signature=signature, extra=block.rest())


def _read_media(block: Members, kind: MediaKind) -> Media | None:
    source = block.inner("source")
    if source is None:
        raise wrong(block.at("source"), "an object", None)
    form, name = source.required("type"), block.text("title")
    media: Media | None = None
    if form == "base64":
        media = Media(kind=kind, media_type=source.text("media_type"), data=source.required("data"))
    elif form == "url":
        media = Media(kind=kind, url=source.required("url"))
    elif form == "file":
        media = Media(kind=kind, file_id=source.required("file_id"))
    elif form == "text" and source.text("media_type") in (None, "text/plain"):
        data = base64.b64encode(source.required("data").encode()).decode()
        media = Media(kind=kind, media_type="text/plain", data=data)
    if media is None or source.rest():
        return None  # what is unknown of a source must not be lost
    media.name, media.extra = name, block.rest()
    return media


def write_media(part: Media, *, may_use_files: bool) -> dict[str, Any] | None:
    """Return the block for `part`, or None if this dialect cannot hold it: sounds, videos, other files, foreign URLs."""
    if part.kind not in ("image", "document"):
        return None
    source = _write_source(part, may_use_files)
    if source is None:
        return None
    block: dict[str, Any] = {"type": part.kind, "source": source}
    if part.kind == "document" and part.name is not None:
        block["title"] = part.name
    return block


def _write_source(part: Media, may_use_files: bool) -> dict[str, Any] | None:
    if part.url is not None:
        return (
            {"type": "url", "url": part.url}
            if part.url[:8].lower().startswith(("http://", "https://"))
            else None
        )
    if part.file_id is not None:
        return {"type": "file", "file_id": part.file_id} if may_use_files else None
    data = part.data or ""
    if part.kind == "image":
        media_type = part.media_type or next(
            (kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None
        )
        return None if media_type is None else {"type": "base64", "media_type": media_type, "data": data}
    media_type = (part.media_type or "application/pdf").partition(";")[0]
    if media_type == "application/pdf":
        return {"type": "base64", "media_type": media_type, "data": data}
    if media_type.startswith("text/") or media_type == "application/json":
        text = _decode_text(data)
        return None if text is None else {"type": "text", "media_type": "text/plain", "data": text}
    return None


def _decode_text(data: str) -> str | None:
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, ValueError):
        return None


def write_thinking(part: Thinking) -> dict[str, Any]:
    """Return the block for a client. What is not Anthropic's own is marked, see `foreign.py`."""
    if part.origin == "anthropic":
        if part.sealed is not None:
            return {"type": "redacted_thinking", "data": part.sealed, **part.extra}
        return {
            "type": "thinking",
            "thinking": part.text or "",
            "signature": part.signature or "",
            **part.extra,
        }
    marked = mark_thinking(part)
    if part.text is None and part.sealed is not None:
        return {"type": "redacted_thinking", "data": marked}
    return {"type": "thinking", "thinking": part.text or "", "signature": marked}


def write_call(part: ToolCall, arguments: msgspec.Raw) -> dict[str, Any]:
    """Return the block of a call for a client; `arguments` is the JSON text of an object."""
    block: dict[str, Any] = {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments}
    if part.signature is not None:
        block["signature"] = mark_call(part.signature)
    return block


def object_text(arguments: str) -> msgspec.Raw | None:
    """Return `arguments` to be put in where an object is needed, or None if they are none. `""` is an empty one.

    The text itself is kept: numbers come through with all their digits.
    """
    if not arguments.strip():
        return _NO_ARGUMENTS
    return msgspec.Raw(arguments.encode()) if read_arguments(arguments) is not None else None
