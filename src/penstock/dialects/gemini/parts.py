"""Parts of a Gemini content, both ways. Media stay base64 text; what only Google knows stays as it is."""

from typing import Any

import msgspec

from penstock.dialects.arguments import write_arguments
from penstock.dialects.gemini.members import proto, proto_inner
from penstock.dialects.media_types import type_of_url, usual_type
from penstock.dialects.members import Members
from penstock.dialects.minted_ids import is_minted, mint_id
from penstock.spec.hub import Media, MediaKind, Opaque, Part, Text, Thinking, ToolCall, ToolResult

SIGNATURE = "thoughtSignature"
_PLAIN = frozenset(
    {"text", "thought", SIGNATURE, "inlineData", "fileData", "functionCall", "functionResponse"}
)
_BESIDE = frozenset({"videoMetadata", "mediaResolution", "partMetadata"})
"""Members that say something about a part and are none themselves."""


class CallIds:
    """Gives ids to calls that have none, and finds them again for results, which come in the order of the calls."""

    def __init__(self) -> None:
        self._n_calls = 0
        self._open: dict[str, list[str]] = {}

    def of_call(self, given: str | None, name: str, arguments: str) -> str:
        """Return the id of the next call."""
        made = given or mint_id(self._n_calls, name, arguments)
        self._n_calls += 1
        self._open.setdefault(name, []).append(made)
        return made

    def of_result(self, given: str | None, name: str) -> str:
        """Return the id of the oldest call of `name` that has no result yet."""
        waiting = self._open.get(name, [])
        if given:
            if given in waiting:
                waiting.remove(given)
            return given
        return waiting.pop(0) if waiting else mint_id(self._n_calls, name, "")


def read_part(value: Any, path: str, ids: CallIds) -> Part | None:
    """Return one part, None for an empty one; raises `InvalidInput` naming what is wrong."""
    members = proto(value, path)
    if any(
        name not in _PLAIN and name not in _BESIDE
        for name, item in members.rest().items()
        if item is not None
    ):
        return Opaque(dialect="gemini", raw=value)
    is_thought = members.flag("thought") or False
    signature = members.text(SIGNATURE)
    if (call := proto_inner(members, "functionCall")) is not None:
        return _read_call(call, signature, members.rest(), ids)
    if (result := proto_inner(members, "functionResponse")) is not None:
        return _read_result(result, members.rest(), ids)
    text = members.text("text")
    for name in ("inlineData", "fileData"):
        if (media := proto_inner(members, name)) is not None:
            return _read_media(media, _signed(members.rest(), signature))
    if is_thought:
        return Thinking(text=text, signature=signature, origin="gemini", extra=members.rest())
    if text is None and signature is None:
        return Opaque(dialect="gemini", raw=value) if value else None
    return Text(text=text or "", extra=_signed(members.rest(), signature))


def _signed(extra: dict[str, Any], signature: str | None) -> dict[str, Any]:
    return {**extra, SIGNATURE: signature} if signature else extra


def _read_call(call: Members, signature: str | None, extra: dict[str, Any], ids: CallIds) -> ToolCall:
    name = call.required("name")
    arguments = write_arguments(call.table("args"))
    call_id = ids.of_call(call.text("id"), name, arguments)
    if rest := call.rest():
        extra = {**extra, "functionCall": rest}
    return ToolCall(id=call_id, name=name, arguments=arguments, signature=signature, extra=extra)


def _read_result(result: Members, extra: dict[str, Any], ids: CallIds) -> ToolResult:
    name = result.required("name")
    response = result.table("response") or {}
    is_error = response.keys() == {"error"} and isinstance(response["error"], str)
    if is_error or (response.keys() == {"result"} and isinstance(response["result"], str)):
        parts: list[Part] = [Text(text=response["error" if is_error else "result"])]
    else:
        parts = [Text(text=msgspec.json.encode(response).decode())]
    call_id = ids.of_result(result.text("id"), name)
    for index, piece in enumerate(result.listed("parts")):
        inner = read_part(piece, f"{result.at('parts')}[{index}]", ids)
        if inner is not None:
            parts.append(inner)
    if rest := result.rest():
        extra = {**extra, "functionResponse": rest}
    return ToolResult(call_id=call_id, name=name, parts=parts, is_error=is_error, extra=extra)


def _read_media(media: Members, extra: dict[str, Any]) -> Media:
    media_type = media.text("mimeType")
    url, data, name = media.text("fileUri"), media.text("data"), media.text("displayName")
    if rest := media.rest():
        extra = {**extra, "blob": rest}
    if url is None and data is None:
        data = ""
    seen = media_type or (type_of_url(url) if url is not None else None)
    return Media(kind=kind_of(seen), media_type=media_type, url=url, data=data, name=name, extra=extra)


def kind_of(media_type: str | None) -> MediaKind:
    """Return what a MIME type stands for; documents are everything that is neither seen nor heard."""
    family = (media_type or "").partition("/")[0].lower()
    if family == "image":
        return "image"
    if family == "audio":
        return "audio"
    return "video" if family == "video" else "document"


def write_media(part: Media) -> dict[str, Any] | None:
    """Return the part for an image, sound, video or document; None for one that only its provider can find."""
    extra = dict(part.extra)
    blob = extra.pop("blob", None)
    inner: dict[str, Any] = dict(blob) if isinstance(blob, dict) else {}
    if part.media_type is not None:
        inner["mimeType"] = part.media_type
    if part.name is not None and part.url is None:
        inner["displayName"] = part.name
    if part.data is not None:
        inner.setdefault("mimeType", "application/octet-stream")
        return {"inlineData": {**inner, "data": part.data}, **extra}
    if part.url is not None:
        told = type_of_url(part.url) or (usual_type(part.kind) if part.kind != "document" else None)
        if told is not None:
            inner.setdefault("mimeType", told)  # servers want it even where the address tells it
        return {"fileData": {**inner, "fileUri": part.url}, **extra}
    return None


def write_call(call: ToolCall, args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """Return the part for a tool call. Ids that were minted here are left out: Google never saw them."""
    more = dict(extra)
    inner = more.pop("functionCall", None)
    function: dict[str, Any] = {} if is_minted(call.id) else {"id": call.id}
    function |= {"name": call.name, "args": args}
    if isinstance(inner, dict):
        function |= inner
    part: dict[str, Any] = {"functionCall": function}
    if call.signature is not None:
        part[SIGNATURE] = call.signature
    return {**part, **more}


def write_response(text: str, *, is_error: bool, names: frozenset[str]) -> dict[str, Any]:
    """Return `functionResponse.response`, which must be an object: an object's own text, else `result` or `error`.

    An object with a `$ref` that names none of the media beside it (`names`) goes as text: Google would look for it.
    """
    if is_error:
        return {"error": text}
    try:
        value = msgspec.json.decode(text) if text.lstrip().startswith("{") else None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        value = None
    if isinstance(value, dict) and all(reference in names for reference in _references(value)):
        return value
    return {"result": text}


def _references(value: Any) -> list[Any]:
    found: list[Any] = []
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            found += [target for name, target in item.items() if name == "$ref"]
            left += item.values()
        elif isinstance(item, list):
            left += item
    return [target if isinstance(target, str) else "" for target in found]
