"""Makes a chat request that goes on as bytes fit a server with quirks. All bytes that are not in the way stay.

For the path where client and server both speak this dialect, and nothing is converted: only the members that the server
is known to refuse are renamed, rewritten or left out.
"""

import msgspec

from penstock.dialects.openai.json_scan import Member, scan_members

_LEFT_OUT = {
    "no_parallel_tools": ("parallel_tool_calls",),
    "no_reasoning_effort": ("reasoning_effort",),
    "no_seed": ("seed",),
    "no_penalties": ("frequency_penalty", "presence_penalty"),
    "no_logprobs": ("logprobs", "top_logprobs"),
    "no_n": ("n",),
    "no_user": ("user",),
    "no_metadata": ("metadata", "store"),
    "no_stream_usage": ("stream_options",),
}
_RENAMED = {
    "max_tokens": ("max_completion_tokens", "max_tokens"),
    "max_completion_tokens": ("max_tokens", "max_completion_tokens"),
    "random_seed": ("seed", "random_seed"),
}
_SILENT = ("stream_options", "store")
"""Left out without being listed: they change no answer."""


def fit_body(body: bytes, quirks: frozenset[str]) -> tuple[bytes, tuple[str, ...]]:
    """Return the body that a server with `quirks` takes, and the members that it cannot be told.

    `body` must be a JSON object that `parse_envelope` accepted. It comes back as the same object if nothing is in
    the way, which a search for the names decides.
    """
    if "no_developer_role" in quirks and b'"developer"' in body:
        body = _fit_roles(body)
    left_out = {name for quirk in quirks if quirk in _LEFT_OUT for name in _LEFT_OUT[quirk]}
    renamed = dict(_RENAMED[quirk] for quirk in quirks if quirk in _RENAMED)
    named = [name for name in (*left_out, *renamed) if f'"{name}"'.encode() in body]
    says_required = "tool_choice_any" in quirks and b'"required"' in body
    if not named and not says_required:
        return body, ()
    return _rewrite(body, left_out, renamed, says_required=says_required)


def _rewrite(
    body: bytes, left_out: set[str], renamed: dict[str, str], *, says_required: bool
) -> tuple[bytes, tuple[str, ...]]:
    members = scan_members(body)
    present = {member.name for member in members}
    pieces: list[bytes] = []
    dropped: list[str] = []
    for member in members:
        value = body[member.start : member.end]
        if member.name in left_out:
            if member.name not in _SILENT and _says_something(member, value):
                dropped.append(member.name)
            continue
        name = renamed.get(member.name, member.name)
        if present >= {"max_tokens", "max_completion_tokens"} and member.name == "max_tokens":
            continue  # limits were reserved by the other
        if name != member.name and name in present and member.name != "max_completion_tokens":
            continue  # both were said; the server's own word counts
        if says_required and name == "tool_choice" and value == b'"required"':
            value = b'"any"'
        pieces.append(msgspec.json.encode(name) + b":" + value)
    return b"{" + b",".join(pieces) + b"}", tuple(dropped)


def _says_something(member: Member, value: bytes) -> bool:
    usual = {"n": (b"1",), "frequency_penalty": (b"0", b"0.0"), "presence_penalty": (b"0", b"0.0")}
    return value not in (b"null", b"false") and value not in usual.get(member.name, ())


def _fit_roles(body: bytes) -> bytes:
    """Say `system` for `developer` in messages. Other messages keep their bytes."""
    place = next((member for member in scan_members(body) if member.name == "messages"), None)
    if place is None:
        return body
    try:
        messages = msgspec.json.decode(body[place.start : place.end], type=list[msgspec.Raw])
    except msgspec.ValidationError:
        return body  # no list: the server will say so
    fitted = [_fit_message(bytes(message)) for message in messages]
    return b"".join((body[: place.start], b"[", b",".join(fitted), b"]", body[place.end :]))


def _fit_message(message: bytes) -> bytes:
    if b'"developer"' not in message:
        return message
    member = next((member for member in scan_members(message) if member.name == "role"), None)
    if member is None or message[member.start : member.end] != b'"developer"':
        return message
    return b"".join((message[: member.start], b'"system"', message[member.end :]))
