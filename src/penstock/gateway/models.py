"""`/v1/models` and `/v1beta/models`: the routes a key may call, in the shape its client's library reads."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.gateway.admission import may_call
from penstock.gateway.errors import UnknownModel
from penstock.gateway.table import ReadyRoute, Table
from penstock.spec.routes import DialectName, KeyRow

_VERSIONS = "model:"
_PREFIXES = ("/v1/models", "/v1beta/models")


def models_dialect(path: str, headers: Mapping[bytes, bytes]) -> DialectName | None:
    """Return the dialect in which `path` lists models, or None if it does not.

    Three libraries ask at `/v1/models`; Anthropic's and Google's tell themselves by a header.
    """
    for prefix in _PREFIXES:
        if path == prefix or path.startswith(prefix + "/"):
            if prefix == "/v1beta/models":
                return "gemini"
            if b"anthropic-version" in headers:
                return "anthropic"
            return "gemini" if b"x-goog-api-client" in headers or b"x-goog-api-key" in headers else "openai"
    return None


def describe_models(table: Table, key: KeyRow, path: str, dialect: DialectName) -> dict[str, Any]:
    """Return what GET `path` answers; raise `UnknownModel` for a route that is not there for `key`."""
    visible = [
        ready
        for name, route in table.routes.items()
        if may_call(key, name) and route.route.kind != "search"
        for ready in (route, *table.prompt_versions(name))
    ]
    name = path.removeprefix("/v1beta/models").removeprefix("/v1/models").removeprefix("/")
    if not name:
        # versions by number are for gates and tests; people choose among the models that they are versions of
        return _list(table, [each for each in visible if not each.route.name.startswith(_VERSIONS)], dialect)
    for ready in visible:
        if ready.route.name == name:
            return _describe(table, ready, dialect)
    raise UnknownModel(name, [ready.route.name for ready in visible])


def _list(table: Table, visible: Sequence[ReadyRoute], dialect: DialectName) -> dict[str, Any]:
    rows = [_describe(table, ready, dialect) for ready in visible]
    if dialect == "gemini":
        return {"models": rows}
    if dialect == "anthropic":
        first, last = (rows[0]["id"], rows[-1]["id"]) if rows else (None, None)
        return {"data": rows, "has_more": False, "first_id": first, "last_id": last}
    return {"object": "list", "data": rows}


def _describe(table: Table, ready: ReadyRoute, dialect: DialectName) -> dict[str, Any]:
    route = ready.route
    if dialect == "gemini":
        embeds = ["embedContent", "batchEmbedContents"]
        chats = ["generateContent", "streamGenerateContent", "countTokens"]
        methods = {"embedding": embeds, "chat": chats, "rerank": []}.get(route.kind, chats + embeds)
        return {
            "name": f"models/{route.name}",
            "displayName": route.name,
            "version": route.version or "",
            "supportedGenerationMethods": methods,
        }
    if dialect == "anthropic":
        created = dt.datetime.fromtimestamp(table.created_s, dt.UTC)
        return {
            "type": "model",
            "id": route.name,
            "display_name": route.name,
            "created_at": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    return {"id": route.name, "object": "model", "created": table.created_s, "owned_by": route.owned_by}
