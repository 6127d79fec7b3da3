"""Asks a provider one thing through the running gateway, so that address, key and dialect are seen to work together."""

import http.client
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from penstock.base.errors import InvalidInput, UpstreamUnavailable
from penstock.main.home_files import read_admin_key
from penstock.main.instance import require_instance
from penstock.main.rooms import Rooms
from penstock.spec.snapshot import Snapshot

TIMEOUT_S = 60.0
_MAX_SHOWN = 500
_PING = {"role": "user", "content": "ping"}


def check_provider(
    rooms: Rooms,
    name: str,
    *,
    model: str | None = None,
    is_embedding: bool = False,
    monotonic: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Return how one call of one token went; `route` is the one that the model was taken from, if it was not given.

    Raises `UnknownObject`, `NotRunning`, `InvalidInput`.
    """
    rooms.configuration.get("provider", name)
    url = urlsplit(require_instance(rooms.home).addresses.gateway_url)
    route = None
    if model is None:
        route, model = _usual_model(rooms.publish_snapshot(), name, is_embedding=is_embedding)
    asked = f"{name}/{model}"
    said: dict[str, Any]
    if is_embedding:
        path, said = "/v1/embeddings", {"input": "ping"}
    else:
        path, said = "/v1/chat/completions", {"messages": [_PING], "max_tokens": 1}
    assert url.hostname is not None
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=TIMEOUT_S)
    began = monotonic()
    try:
        headers = {
            "authorization": f"Bearer {read_admin_key(rooms.home)}",
            "content-type": "application/json",
        }
        connection.request("POST", path, body=json.dumps({"model": asked, **said}), headers=headers)
        reply = connection.getresponse()
        text = reply.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise UpstreamUnavailable(
            "The gateway does not answer.", hint="`penstock doctor` says more."
        ) from error
    finally:
        connection.close()
    is_ok = reply.status == http.client.OK
    return {
        "provider": name,
        "ok": is_ok,
        "model": asked,
        "route": route,
        "status": reply.status,
        "ms": round((monotonic() - began) * 1000),
        "trace": reply.getheader("x-penstock-trace-id"),
        "error": None if is_ok else _error_text(text),
    }


def _usual_model(snapshot: Snapshot, name: str, *, is_embedding: bool) -> tuple[str, str]:
    """Return a route that asks the provider for what is to be tried, and the model it asks for."""
    fitting = ("embedding", "any") if is_embedding else ("chat", "any")
    found = [
        (fitting.index(route.kind), route.name, target.model)
        for route in snapshot.routes
        if route.kind in fitting
        for target in route.targets
        if target.provider == name and target.model != "*"
    ]
    if not found:
        raise InvalidInput(
            f"No route points to {name!r}, so the model to ask is not known.", hint="Name it with --model."
        )
    return min(found, key=lambda one: one[0])[1:]


def _error_text(text: str) -> str:
    try:
        value = json.loads(text)
        return str(value["error"]["message"])[:_MAX_SHOWN]
    except (ValueError, KeyError, TypeError):
        return text[:_MAX_SHOWN]
