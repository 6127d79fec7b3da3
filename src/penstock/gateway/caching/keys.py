"""When two requests are the same one: a digest over whose they are, where they go, and what they say.

Everything that a request says takes part, unknown members too; only what cannot change the reply is left out. So a
cache hit is never a guess here. A stream and a whole reply are different entries: their bytes differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import msgspec

from penstock.gateway.calls import Call
from penstock.gateway.outgoing import IDEMPOTENCY_KEY
from penstock.spec.routes import CacheScope, KeyRow, Route

CACHED_OPERATIONS = frozenset({"chat", "text_completion", "embeddings", "rerank", "moderations"})
_SAID_ELSEWHERE = frozenset({"model", "stream", "stream_options"})
"""`model` stands in the digest as the route, the others as the form that the reply is sent in."""
_WHO_ASKS = frozenset({"user", "metadata", "safety_identifier", "prompt_cache_key"})
ECHOING_DIALECTS = frozenset({"responses"})
"""Dialects whose replies repeat what the request says of who asks: nobody else may get these."""
_STATEFUL = ("previous_response_id", "conversation", "background", "cachedContent", "container")
"""Members that make a reply depend on more than the request, or leave something behind at the provider."""
_BETWEEN = b"\x1f"


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One request, as far as its digest needs it."""

    key: KeyRow
    user: str | None
    route: Route
    dialect: str
    operation: str
    is_stream: bool
    wants_usage: bool
    path_model: str | None = None
    """The model of the path, where the dialect puts it there."""
    passed_headers: tuple[tuple[bytes, bytes], ...] = ()
    """Headers of the client that reach the provider."""
    query: bytes = b""
    readers: tuple[str, ...] = ()
    """As whom an app reads documents, where one answers: what one may read is not for another."""
    holdings: str = ""
    """What knowledge bases hold, where an app answers: an answer does not outlive the documents it rests on."""


def describe(call: Call) -> Asked:
    """Return a call as its digest needs it."""
    assert call.key is not None
    assert call.route is not None
    assert call.envelope is not None
    return Asked(
        key=call.key,
        user=call.user or call.envelope.user,
        route=call.route.route,
        dialect=call.dialect,
        operation=call.operation,
        is_stream=bool(call.envelope.stream),
        wants_usage=bool(call.envelope.stream and call.envelope.wants_usage),
        path_model=call.endpoint.model,
        passed_headers=call.passed_headers,
        query=call.query,
        readers=(call.reader or "", *sorted(call.groups)) if call.route.reaches_apps else (),
        holdings=call.holdings if call.route.reaches_apps else "",
    )


def find_key(call: Call) -> bytes | None:
    """Return the digest under which the reply to a call is kept, None if it must not be."""
    members = read_body(call.body)
    return digest_request(describe(call), members) if members is not None else None


def frame_of(call: Call) -> bytes:
    """Return whose request a call is and where it goes."""
    return write_frame(describe(call))


def read_body(body: bytes) -> dict[str, Any] | None:
    """Return a JSON body that may be cached, or None: not an object, or its reply depends on more than itself."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    if not isinstance(found, dict) or any(found.get(name) for name in _STATEFUL):
        return None
    return found


def digest_request(asked: Asked, members: Mapping[str, Any]) -> bytes:
    """Return the 32 bytes that equal requests of the same scope have in common."""
    left_out = _SAID_ELSEWHERE if asked.dialect in ECHOING_DIALECTS else _SAID_ELSEWHERE | _WHO_ASKS
    said = {name: value for name, value in members.items() if name not in left_out}
    return sha256(
        _BETWEEN.join((write_frame(asked), msgspec.json.encode(said, order="deterministic")))
    ).digest()


def scope_of(scope: CacheScope, key: KeyRow, user: str | None) -> str:
    """Return who shares replies with a caller; a user is always one of a key's project."""
    if scope == "key":
        return f"key {key.id}"
    if scope == "user":
        return f"user {key.project} {key.user or user or f'key {key.id}'}"
    return f"project {key.project}"


def write_frame(asked: Asked) -> bytes:
    """Return everything of a request but its body: where a route leads takes part, so that a changed route begins anew."""
    route = asked.route
    parts = (
        scope_of(route.cache.scope, asked.key, asked.user),
        route.name,
        route.version or "",
        ",".join(f"{target.provider}/{target.model}" for target in route.targets),
        asked.dialect,
        asked.operation,
        asked.path_model or "",
        "stream" if asked.is_stream else "whole",
        "usage" if asked.wants_usage else "",
        *asked.readers,
        *([asked.holdings] if asked.holdings else []),
    )
    texts = [part.replace("\x1f", " ").encode("utf-8", "replace") for part in parts]
    headers = b"".join(
        b"%b:%b;" % header for header in sorted(asked.passed_headers) if header[0] != IDEMPOTENCY_KEY
    )
    return _BETWEEN.join((*texts, headers, asked.query))
