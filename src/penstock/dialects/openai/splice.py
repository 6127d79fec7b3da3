"""Changes single members of a request by bytes, so that everything else reaches the provider as it was sent."""

import re

import msgspec

from penstock.dialects.openai.envelope import Envelope
from penstock.dialects.openai.json_scan import Member, scan_members
from penstock.dialects.port import Envelope as AnyEnvelope

_MODEL = re.compile(rb'"model"[ \t\r\n]*+:[ \t\r\n]*+("[^"\\]*+(?:\\.[^"\\]*+)*+")', re.DOTALL)
_USAGE_ON = b'"stream_options":{"include_usage":true}'


def replace_model(body: bytes, model: str) -> bytes:
    """Return `body` with the value of its top-level `model` replaced; all other bytes are the same.

    `body` must be a JSON object that `parse_envelope` accepted.
    """
    start, end = _model_place(body)
    return b"".join((body[:start], msgspec.json.encode(model), body[end:]))


def _model_place(body: bytes) -> tuple[int, int]:
    # One literal `"model"` and no escape that could spell its letters: then it is the member that was parsed,
    # because a string value "model" would be a second occurrence and a quoted one has a backslash inside.
    if body.count(b'"model"') == 1 and b"\\u006" not in body:
        found = _MODEL.search(body)
        if found is not None:
            return found.span(1)
    member = _find_member(body, "model")
    assert member is not None, "parse_envelope accepted the body"
    return member.start, member.end


def ask_for_usage(body: bytes, envelope: Envelope | AnyEnvelope) -> bytes:
    """Return `body` asking for the usage event of a stream; other stream options are kept."""
    if envelope.wants_usage:
        return body
    if b'"stream_options"' not in body and b"\\u00" not in body:
        return _insert_first(body)
    member = _find_member(body, "stream_options")
    if member is None:
        return _insert_first(body)
    options = msgspec.json.decode(body[member.start : member.end])
    kept = options if isinstance(options, dict) else {}
    value = msgspec.json.encode({**kept, "include_usage": True})
    return b"".join((body[: member.start], value, body[member.end :]))


def _insert_first(body: bytes) -> bytes:
    # The object has at least `model`, so a comma always follows.
    at = body.index(b"{") + 1
    return b"".join((body[:at], _USAGE_ON, b",", body[at:]))


def _find_member(body: bytes, name: str) -> Member | None:
    return next((member for member in scan_members(body) if member.name == name), None)
