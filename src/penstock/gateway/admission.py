"""Who may call what: keys, scopes, routes."""

import time

from penstock.gateway.errors import KeyExpired, KeyLacksScope, MissingKey, UnknownModel, WrongKey, WrongKind
from penstock.gateway.table import ReadyRoute, Table
from penstock.spec.routes import KeyRow

_ENDPOINTS = {
    "chat": "/v1/chat/completions",
    "embedding": "/v1/embeddings",
    "rerank": "/v1/rerank",
    "search": "/v1/vector_stores/NAME/search",
}
_CALLING = frozenset({"call", "owner", "internal"})


def find_live_key(table: Table, secret: bytes | None) -> KeyRow:
    """Return the row of the key that a client sent; raise `MissingKey`, `WrongKey`, `KeyExpired`."""
    if secret is None or not secret.strip():
        raise MissingKey
    row = table.find_key(secret.strip())
    if row is None:
        raise WrongKey
    if row.expires_ns is not None and row.expires_ns <= time.time_ns():
        raise KeyExpired(row.name)
    return row


def authenticate(table: Table, secret: bytes | None) -> KeyRow:
    """Return the row of a key that may make calls; raise what `find_live_key` does, or `KeyLacksScope`."""
    row = find_live_key(table, secret)
    if _CALLING.isdisjoint(row.scopes):
        raise KeyLacksScope(
            f"The key {row.name!r} may not make calls.",
            hint="It needs the scope `call`.",
            openai_code="forbidden",
        )
    return row


def may_call(row: KeyRow, route: str) -> bool:
    """Return whether the key may call `route`."""
    return row.routes is None or route in row.routes


def resolve_route(table: Table, row: KeyRow, model: str, kind: str) -> ReadyRoute:
    """Return the route called `model`; raise `UnknownModel`, `WrongKind`."""
    found = table.find_route(model)
    if found is None or not (may_call(row, model) or may_call(row, found[0])):
        opened = [ready.route.name for ready in table.open_routes.values()]
        names = [name for name in (*table.routes, *opened) if may_call(row, name)]
        raise UnknownModel(model, names, are_hidden=bool(table.routes or opened))
    ready = found[1]
    served = ready.route.kind
    if served not in ("any", kind):
        endpoint = _ENDPOINTS[served]
        raise WrongKind(
            f"The model {model!r} does not serve this kind of call.", hint=f"Use {endpoint}.", param="model"
        )
    return ready
