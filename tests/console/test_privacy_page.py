"""The page on privacy: look, hand out, erase, and take the receipt, without the name in any address."""

import io
import json
import re
import zipfile

from tests.console.conftest import make_app, sign_in
from tests.fixtures.asgi import AsgiClient, Reply
from tests.fixtures.furnished import Furnished


def post(client: AsgiClient, path: str, **fields: str) -> Reply:
    """Send a form of the page, with the token that stands in it."""
    token = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/privacy").text)
    assert token is not None
    return client.post_form(path, {"csrf_token": token[1], "kind": "user", "id": "ada", **fields})


def test_somebody_is_looked_up_handed_out_and_erased(furnished: Furnished) -> None:
    client = sign_in(AsgiClient(make_app(furnished)), furnished.owner_key)
    assert "Nothing has been erased" in client.get("/privacy").text
    found = post(client, "/privacy")
    assert found.status == 200
    assert "Stored of this user" in found.text
    handed = post(client, "/privacy/export")
    with zipfile.ZipFile(io.BytesIO(handed.body)) as archive:
        assert len(archive.read("traces.jsonl").splitlines()) > 100
    asked = post(client, "/privacy/erase", reason="ticket 4711")
    assert asked.status == 303
    assert "ada" not in asked.headers["location"]
    assert "Under way" in client.get("/privacy").text
    furnished.services.upkeep.erasures.carry_out_waiting()
    page = client.get("/privacy").text
    assert "ticket 4711" in page
    assert "Under way" not in page
    receipt = client.get("/privacy/receipts/1")
    assert "attachment" in receipt.headers["content-disposition"]
    assert json.loads(receipt.body)["signature"]
    assert "Nothing is stored of this user" in post(client, "/privacy").text


def test_a_mistake_is_told_beside_what_was_entered(furnished: Furnished) -> None:
    client = sign_in(AsgiClient(make_app(furnished)), furnished.owner_key)
    told = post(client, "/privacy", kind="trace", id="<b>nonsense")
    assert (told.status, "32 hex characters" in told.text) == (400, True)
    assert "&lt;b&gt;nonsense" in told.text
    named = post(client, "/privacy/erase", reason="ada wrote to us")
    assert (named.status, "names the user" in named.text) == (400, True)
    assert client.get("/privacy/receipts/9").status == 404
    assert post(client, "/privacy/export", kind="nobody").status == 400
