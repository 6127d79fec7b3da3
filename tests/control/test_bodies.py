"""How much of a body is taken, and from whom: counted while it arrives, since a chunked one announces nothing."""

import asyncio
import json
from typing import Any

import pytest

from penstock.control import headers
from tests.fixtures.furnished import Furnished

PIECE = bytes(64 * 1024)
JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


def send_chunked(app: Any, path: str, sent: dict[str, str], n_pieces: int = 4096) -> tuple[int, int, str]:
    """Offer `n_pieces` of 64 KiB without a content-length; return status, pieces taken, and error code."""
    taken = 0
    outbox: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": PIECE, "more_body": taken < n_pieces}

    async def send(message: dict[str, Any]) -> None:
        outbox.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in {"host": "x", **sent}.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    asyncio.run(app(scope, receive, send))
    body = b"".join(each.get("body", b"") for each in outbox[1:])
    return outbox[0]["status"], taken, json.loads(body)["error"]["code"]


@pytest.mark.parametrize("sent", [JSON, FORM])
@pytest.mark.parametrize("path", ["/api/v1/keys", "/api/v1/jobs", "/v1/traces"])
def test_of_a_stranger_nothing_is_read(app: Any, path: str, sent: dict[str, str]) -> None:
    assert send_chunked(app, path, sent) == (401, 0, "PS-1401")


@pytest.mark.parametrize(("sent", "limit"), [(JSON, headers.MAX_BODY_BYTES), (FORM, headers.MAX_FORM_BYTES)])
@pytest.mark.parametrize("is_known", [True, False])
def test_a_body_is_given_up_at_its_bound(
    app: Any, furnished: Furnished, sent: dict[str, str], limit: int, is_known: bool
) -> None:
    key = furnished.owner_key if is_known else "ps-nobody"
    status, taken, code = send_chunked(app, "/api/v1/keys", {**sent, "authorization": f"Bearer {key}"})
    assert (status, taken, code) == (413, limit // len(PIECE) + 1, "PS-1413")


def test_an_export_may_be_larger_but_its_key_is_looked_at_first(app: Any, furnished: Furnished) -> None:
    kind = {"content-type": "application/x-protobuf"}
    wrong = send_chunked(app, "/v1/traces", {**kind, "authorization": "Bearer ps-nobody"})
    assert wrong == (401, 0, "PS-1401")
    known = {**kind, "authorization": f"Bearer {furnished.owner_key}"}
    n_pieces = 2 * headers.MAX_BODY_BYTES // len(PIECE)
    assert send_chunked(app, "/v1/traces", known, n_pieces)[:2] == (400, n_pieces)


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "1e3"])
def test_an_absurd_length_is_refused(app: Any, length: str) -> None:
    assert send_chunked(app, "/api/v1/keys", {**JSON, "content-length": length}) == (413, 0, "PS-1413")
