"""Another provider's signed thoughts, packed into `encrypted_content`: the one member that clients of the responses API
send back unread. So a model that wants its signatures back gets them, whatever dialect the client speaks."""

import base64
import binascii

import msgspec

from penstock.spec.hub import Thinking
from penstock.spec.routes import DialectName

_PREFIX = "penstock.1."


class _Packed(msgspec.Struct, array_like=True):
    origin: DialectName
    signature: str | None
    sealed: str | None
    id: str | None


def pack_thought(thought: Thinking) -> str | None:
    """Return the `encrypted_content` for `thought`, or None if it has nothing that must come back."""
    if thought.origin in (None, "responses"):
        return thought.sealed
    if thought.signature is None and thought.sealed is None:
        return None
    packed = _Packed(thought.origin, thought.signature, thought.sealed, thought.id)
    return _PREFIX + base64.urlsafe_b64encode(msgspec.json.encode(packed)).decode()


def unpack_thought(text: str | None, content: str | None, thought_id: str | None) -> Thinking:
    """Return the thought of an item with this text, `encrypted_content` and id."""
    plain = Thinking(text=text, sealed=content, id=thought_id, origin="responses")
    if content is None or not content.startswith(_PREFIX):
        return plain
    try:
        packed = msgspec.json.decode(base64.urlsafe_b64decode(content[len(_PREFIX) :]), type=_Packed)
    except (msgspec.DecodeError, binascii.Error, ValueError):
        return plain
    return Thinking(
        text=text, signature=packed.signature, sealed=packed.sealed, id=packed.id, origin=packed.origin
    )
