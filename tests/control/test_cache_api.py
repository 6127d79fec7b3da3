"""The response cache over REST: counted for owners, purged by owners, closed to callers."""

import json
from typing import Any

from penstock.store.response_cache import KeptReply, ResponseStore
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished

REPLY = KeptReply(project="p", route="r", stored_ns=5, expires_ns=2**62, content_type=b"", body=b"{}")


def purge(client: AsgiClient, body: Any) -> Any:
    return client.send(
        "POST",
        "/api/v1/cache/purge",
        body=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )


def test_the_cache_is_shown_and_purged(owner: AsgiClient, furnished: Furnished) -> None:
    folder = furnished.services.cache._folder
    store = ResponseStore(folder)
    store.put(b"k" * 32, REPLY)
    store.add_counts({"r\x1fhit": 3, "r\x1fmiss": 1})
    store.close()
    shown = owner.get("/api/v1/cache").json()
    assert (shown["entries"], shown["routes"][0]["hit_ratio"]) == (1, 0.75)
    assert purge(owner, {"route": "r"}).json() == {"purged": "route:r"}
    store = ResponseStore(folder)
    assert store.get(b"k" * 32, now_ns=9) is None
    store.close()
    assert purge(owner, {}).json() == {"purged": "all"}


def test_what_cannot_be_purged_is_refused(owner: AsgiClient) -> None:
    assert purge(owner, {"route": "r", "project": "p"}).status == 400
    assert purge(owner, {"everything": True}).status in (400, 422)
