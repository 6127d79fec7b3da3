"""Reads what a request says of itself: its key, its labels and wishes, and the little of its body that decides."""

from collections.abc import Mapping

from penstock.dialects.registry import DIALECTS
from penstock.gateway.cache import read_wish
from penstock.gateway.calls import Call, label
from penstock.gateway.multipart import peek_form
from penstock.gateway.outgoing import IDEMPOTENCY_KEY, PASSED_HEADERS, own_idempotency_key
from penstock.gateway.prompt_calls import read_prompt_object


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
    if b"cache-control" in headers or b"x-penstock-cache" in headers:
        call.cache_wish = read_wish(headers)
    call.content_type = headers.get(b"content-type")
    for name in PASSED_HEADERS[call.dialect]:
        value = headers.get(name)
        if value is not None:
            if name == IDEMPOTENCY_KEY and call.key is not None:
                value = own_idempotency_key(call.key.id, value)
            call.passed_headers += ((name, value),)


def peek_call(call: Call, max_depth: int) -> None:
    """Read what the body says of the call; raise `InvalidInput` for a body that is none."""
    endpoint = call.endpoint
    if endpoint.dialect == "responses" and b'"prompt"' in call.body:
        call.body = read_prompt_object(call.body)
    if endpoint.is_form:
        call.envelope = peek_form(call.body, call.content_type or b"")
    else:
        call.envelope = DIALECTS[endpoint.dialect].peek(
            call.body, model=endpoint.model, stream=endpoint.stream, max_depth=max_depth
        )
