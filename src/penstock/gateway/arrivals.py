"""Reads what a request says of itself: its key, its labels and wishes, and the little of its body that decides."""

from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

import msgspec

from penstock.dialects.bodies import decode_head
from penstock.dialects.port import Envelope
from penstock.dialects.registry import DIALECTS
from penstock.gateway.cache import read_wish
from penstock.gateway.calls import Call, label
from penstock.gateway.multipart import peek_form
from penstock.gateway.outgoing import IDEMPOTENCY_KEY, PASSED_HEADERS, own_idempotency_key
from penstock.gateway.prompt_calls import read_prompt_object
from penstock.spec.callers import GROUPS_HEADER

MAX_GROUPS = 200
MAX_GROUP_CHARS = 200
_GROUPS = GROUPS_HEADER.encode()


def find_secret(headers: Mapping[bytes, bytes], query_key: bytes | None) -> bytes | None:
    """Return the key a client sent in whichever place its library puts it, None if there is none."""
    authorization = headers.get(b"authorization")
    if authorization is not None:
        scheme, _, secret = authorization.partition(b" ")
        if scheme.lower() == b"bearer" and secret.strip():
            return secret
    return headers.get(b"x-api-key") or headers.get(b"api-key") or headers.get(b"x-goog-api-key") or query_key


def note_headers(call: Call, headers: Mapping[bytes, bytes]) -> None:
    """Take what headers say of a call: session, user, wishes, and what a provider of its dialect may see.

    A key that is somebody's counts as that user whatever the client says: naming another would step out of one's own
    budget, or use up a colleague's.
    """
    session, user = headers.get(b"x-penstock-session"), headers.get(b"x-penstock-user")
    if session is not None:
        call.session = label(session)
    if call.key is not None and call.key.user:
        call.user = call.key.user
    elif user is not None:
        call.user = label(user)
    groups = headers.get(_GROUPS)
    if groups is not None:
        note_groups(call, groups)
    if b"cache-control" in headers or b"x-penstock-cache" in headers:
        call.cache_wish = read_wish(headers)
    call.content_type = headers.get(b"content-type")
    for name in PASSED_HEADERS[call.dialect]:
        value = headers.get(name)
        if value is not None:
            if name == IDEMPOTENCY_KEY and call.key is not None:
                value = own_idempotency_key(call.key.id, value)
            call.passed_headers += ((name, value),)


def note_groups(call: Call, told: bytes) -> None:
    """Take the groups that a client names for its user. A key that is somebody's may not: it would let itself in anywhere."""
    if call.key is not None and call.key.user:
        call.warnings.append(f"{GROUPS_HEADER} is not taken from a key that is somebody's own.")
        return
    parts = [each.strip() for each in told.split(b",")]
    named = [unquote_to_bytes(each).decode("utf-8", "replace") for each in parts if each]
    fit = [each for each in named if each.isprintable() and len(each) <= MAX_GROUP_CHARS]
    if len(fit) < len(named):  # made to fit, one could become the name of another
        call.warnings.append(
            f"{GROUPS_HEADER} names groups that are over-long or hold what cannot be printed."
        )
    call.groups = tuple(dict.fromkeys(fit))[:MAX_GROUPS]


def peek_call(call: Call, max_depth: int) -> None:
    """Read what the body says of the call; raise `InvalidInput` for a body that is none."""
    endpoint = call.endpoint
    if endpoint.dialect == "responses" and b'"prompt"' in call.body:
        call.body = read_prompt_object(call.body)
    if endpoint.is_form:
        call.envelope = peek_form(call.body, call.content_type or b"")
    elif endpoint.operation == "search":
        call.envelope = peek_search(call.body, model=endpoint.model or "", max_depth=max_depth)
    else:
        call.envelope = DIALECTS[endpoint.dialect].peek(
            call.body, model=endpoint.model, stream=endpoint.stream, max_depth=max_depth
        )


class _Search(msgspec.Struct):
    """Of a search nothing decides here; it has to be an object that can be read."""


_searches = msgspec.json.Decoder(_Search)


def peek_search(body: bytes, *, model: str, max_depth: int) -> Envelope:
    """Return the envelope of a search in the knowledge base that the path names."""
    decode_head(_searches, body, max_depth=max_depth, deciding=())
    return Envelope(model=model)
