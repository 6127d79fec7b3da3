"""Signing in, form tokens, and what the forms do."""

import re
from typing import Any

import pytest

from penstock.access.sessions import SessionSigner
from tests.console.conftest import make_app, sign_in
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished


@pytest.fixture
def console(furnished: Furnished) -> Any:
    return make_app(furnished)


@pytest.fixture
def signed_in(console: Any, furnished: Furnished) -> AsgiClient:
    return sign_in(AsgiClient(console), furnished.owner_key)


def token_of(client: AsgiClient) -> str:
    found = re.search(r'name="csrf-token" content="(\w+)"', client.get("/keys").text)
    assert found is not None
    return found[1]


def test_a_stranger_is_sent_to_sign_in_and_comes_back(console: Any, furnished: Furnished) -> None:
    client = AsgiClient(console)
    reply = client.get("/traces?status=error")
    assert (reply.status, reply.headers["location"]) == (303, "/signin?next=%2Ftraces%3Fstatus%3Derror")
    form = client.get(reply.headers["location"]).text
    assert 'value="/traces?status=error"' in form
    back = client.post_form("/signin", {"key": furnished.owner_key, "next": "/traces?status=error"})
    assert back.headers["location"] == "/traces?status=error"
    cookie = back.headers["set-cookie"]
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower()
    assert furnished.owner_key not in cookie
    assert client.get("/").status == 200


@pytest.mark.parametrize(
    "target", ["https://example.com", "//example.com", "/\\example.com", "javascript:alert(1)"]
)
def test_nobody_is_sent_elsewhere(console: Any, furnished: Furnished, target: str) -> None:
    reply = AsgiClient(console).post_form("/signin", {"key": furnished.owner_key, "next": target})
    assert reply.headers["location"] == "/"


def test_wrong_and_weak_keys_are_told_why(console: Any, furnished: Furnished) -> None:
    client = AsgiClient(console)
    assert "not known here" in client.post_form("/signin", {"key": "ps-wrong"}).text
    weak = client.post_form("/signin", {"key": furnished.call_key})
    assert (weak.status, "not read the console" in weak.text) == (401, True)
    assert client.cookies == {}


def test_a_form_from_another_site_is_refused(console: Any, furnished: Furnished) -> None:
    reply = AsgiClient(console).post_form(
        "/signin", {"key": furnished.owner_key}, origin="http://elsewhere.example"
    )
    assert reply.status == 403


def test_a_session_needs_its_token_to_change_anything(signed_in: AsgiClient, furnished: Furnished) -> None:
    before = len(furnished.services.keys.list())
    assert signed_in.post_form("/keys", {"name": "sneaky"}).status == 403
    assert signed_in.post_form("/keys", {"name": "sneaky", "csrf_token": "0" * 64}).status == 403
    assert signed_in.post_json("/api/v1/keys", {"name": "sneaky"}).status == 403
    assert len(furnished.services.keys.list()) == before


def test_a_new_key_is_shown_once_and_can_be_revoked(signed_in: AsgiClient, furnished: Furnished) -> None:
    token = token_of(signed_in)
    made = signed_in.post_form(
        "/keys", {"name": "notebook", "scope": "call", "requests_per_minute": "60", "csrf_token": token}
    )
    secret = re.search(r"<code data-secret>(ps-[\w-]{43})</code>", made.text)
    assert secret is not None
    assert secret[1] not in signed_in.get("/keys").text
    key = furnished.services.keys.verify(secret[1])
    assert key is not None and key.requests_per_minute == 60
    assert signed_in.post_form(f"/keys/{key.id}/revoke", {"csrf_token": token}).status == 303
    assert furnished.services.keys.verify(secret[1]) is None
    assert len(furnished.published) == 2


def test_a_mistake_in_a_form_is_explained(signed_in: AsgiClient) -> None:
    reply = signed_in.post_form(
        "/keys", {"name": "x", "requests_per_minute": "many", "csrf_token": token_of(signed_in)}
    )
    assert (reply.status, "whole number" in reply.text) == (400, True)


def test_an_alias_moves_with_a_reason_and_rolls_back(signed_in: AsgiClient, furnished: Furnished) -> None:
    token = token_of(signed_in)
    bare = signed_in.post_form(
        "/assets/model/pocket/move", {"alias": "prod", "number": "1", "csrf_token": token}
    )
    assert (bare.status, "needs a reason" in bare.text) == (400, True)
    fields = {"alias": "prod", "number": "1", "reason": "Version 2 cites badly", "csrf_token": token}
    moved = signed_in.post_form("/assets/model/pocket/move", fields)
    page = signed_in.get(moved.headers["location"]).text
    assert "prod now names version 1." in page
    assert "without evidence" in page
    signed_in.post_form("/assets/model/pocket/rollback", {"alias": "prod", "csrf_token": token})
    assert furnished.services.registry.aliases("model", "pocket")["prod"] == 2
    assert furnished.moved == [("model", "pocket", "prod", 1), ("model", "pocket", "prod", 2)]


def test_jobs_are_retried_and_cancelled(signed_in: AsgiClient, furnished: Furnished) -> None:
    token = token_of(signed_in)
    path = f"/jobs/{furnished.failed_job_id}"
    assert signed_in.post_form(f"{path}/retry", {"csrf_token": token}).status == 303
    assert furnished.services.jobs.get(furnished.failed_job_id).state == "queued"
    assert signed_in.post_form(f"{path}/cancel", {"csrf_token": token}).status == 303
    assert furnished.services.jobs.get(furnished.failed_job_id).state == "cancelled"


def test_the_theme_is_remembered(signed_in: AsgiClient) -> None:
    token = token_of(signed_in)
    signed_in.post_form("/theme", {"theme": "dark", "next": "/keys", "csrf_token": token})
    assert '<html lang="en" data-theme="dark">' in signed_in.get("/keys").text
    signed_in.post_form("/theme", {"theme": "<evil>", "next": "/keys", "csrf_token": token})
    assert 'data-theme="dark"' in signed_in.get("/keys").text


def test_signing_out_ends_the_session(signed_in: AsgiClient) -> None:
    signed_in.post_form("/signout", {"csrf_token": token_of(signed_in)})
    assert signed_in.get("/").status == 303


def test_revoking_a_key_ends_its_sessions(console: Any, signed_in: AsgiClient, furnished: Furnished) -> None:
    other = furnished.services.keys.create("second", ("owner",))
    client = sign_in(AsgiClient(console), other.key)
    furnished.services.keys.revoke(other.id)
    assert client.get("/").status == 303


def test_forged_damaged_and_old_cookies_are_nothing() -> None:
    now = [1_000 * 10**9]
    signer = SessionSigner(b"a" * 32, lifetime_s=60, clock=lambda: now[0])
    cookie = signer.issue("key_1")
    session = signer.read(cookie)
    assert session is not None and session.key_id == "key_1"
    assert SessionSigner(b"b" * 32, clock=lambda: now[0]).read(cookie) is None
    assert signer.read(cookie.replace("key_1", "key_2")) is None
    for damaged in ("", ".", "a.b.c.d.e", cookie[:-1], cookie + "0", "é.é"):
        assert signer.read(damaged) is None
    assert not signer.is_csrf_token(session, "é")
    now[0] += 61 * 10**9
    assert signer.read(cookie) is None


def test_a_stranger_signs_in_with_a_small_form_only(console: Any) -> None:
    reply = AsgiClient(console).post_form("/signin", {"key": "ps-" + "a" * 20_000}, accept="application/json")
    assert reply.status == 413
