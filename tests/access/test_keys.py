"""Keys: shown once, kept as a digest, revoked for good; the same on SQLite and PostgreSQL."""

import re
import threading
from typing import Any

import pytest
from sqlalchemy import Engine, text

from penstock.access.errors import LastOwnerKey, UnknownKey
from penstock.access.keys import KeyService, check_routes, hash_secret, new_secret
from penstock.access.permissions import (
    ROLE_PERMISSIONS,
    SCOPE_PERMISSIONS,
    Permission,
    check_permission,
    has_permission,
    permissions_of,
)
from penstock.base.errors import Forbidden, InvalidInput
from penstock.base.logs import redact
from penstock.spec.routes import KeyRow


@pytest.fixture
def service(control_engine: Engine) -> KeyService:
    return KeyService(control_engine)


def test_a_new_key_verifies_and_its_text_is_stored_nowhere(
    service: KeyService, control_engine: Engine
) -> None:
    new = service.create("laptop")
    assert re.fullmatch(r"ps-[A-Za-z0-9_-]{43}", new.key)
    assert new.id.startswith("key_")
    row = service.verify(new.key)
    assert row == KeyRow(id=new.id, name="laptop", secret_sha256=hash_secret(new.key), scopes=("call",))
    with control_engine.connect() as connection:
        stored = connection.execute(text("SELECT * FROM keys")).one()
    assert new.key not in repr(stored)
    assert new.key[3:-4] not in repr(stored)
    assert new.key not in repr(new)
    assert redact(new.key) == "[redacted]"


def test_anything_but_the_whole_key_is_unknown(service: KeyService) -> None:
    key = service.create("laptop").key
    for wrong in (
        "",
        key[:-1],
        key + "x",
        key.upper(),
        key.removeprefix("ps-"),
        "ps-é\ud800\x00",
        hash_secret(key),
    ):
        assert service.verify(wrong) is None


def test_every_key_is_another_and_names_may_repeat(service: KeyService) -> None:
    made = [service.create("ci") for _ in range(5)]
    assert len({new.key for new in made}) == len({new.id for new in made}) == 5
    assert [row.id for row in service.rows()] == sorted(new.id for new in made)


def test_a_revoked_key_is_out_of_the_rows_and_stays_in_the_list(service: KeyService) -> None:
    kept, gone = service.create("kept"), service.create("gone")
    info = service.revoke(gone.id)
    assert info.revoked_ns is not None
    assert service.revoke(gone.id) == info
    assert service.verify(gone.key) is None
    assert [row.id for row in service.rows()] == [kept.id]
    assert [(entry.name, entry.revoked_ns is None) for entry in service.list()] == [
        ("kept", True),
        ("gone", False),
    ]
    with pytest.raises(UnknownKey, match="key_nope"):
        service.revoke("key_nope")


def test_the_list_shows_a_hint_and_that_use_is_unknown(service: KeyService) -> None:
    new = service.create(
        "laptop", ("call", "owner", "call"), requests_per_minute=60, tokens_per_minute=1000, routes=["pocket"]
    )
    (info,) = service.list()
    assert info.hint == f"ps-…{new.key[-4:]}"
    assert info.last_used_ns is None
    assert (info.scopes, info.routes) == (("call", "owner"), ("pocket",))
    (row,) = service.rows()
    assert (row.requests_per_minute, row.tokens_per_minute, row.routes) == (60, 1000, ("pocket",))


def test_the_last_owner_key_cannot_be_revoked(service: KeyService) -> None:
    first = service.create("admin", ("owner",))
    service.create("laptop")
    with pytest.raises(LastOwnerKey, match="Create another one first"):
        service.revoke(first.id)
    second = service.create("admin2", ("owner",))
    service.revoke(first.id)
    with pytest.raises(LastOwnerKey):
        service.revoke(second.id)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("", {}),
        (" x", {}),
        ("x" * 201, {}),
        ("line\nbreak", {}),
        ("nul\x00", {}),
        ("half \ud800", {}),
        ("ok", {"scopes": ()}),
        ("ok", {"scopes": "call"}),
        ("ok", {"scopes": ("calls",)}),
        ("ok", {"requests_per_minute": 0}),
        ("ok", {"tokens_per_minute": 2**40}),
        ("ok", {"routes": ()}),
        ("ok", {"routes": "pocket"}),
        ("ok", {"routes": ("",)}),
    ],
)
def test_wrong_values_are_refused(sqlite_engine: Engine, name: str, options: dict[str, Any]) -> None:
    service = KeyService(sqlite_engine)
    with pytest.raises(InvalidInput):
        service.create(name, **options)
    assert service.list() == ()


def test_a_model_of_an_open_route_is_a_route_that_exists() -> None:
    check_routes(["pocket", "openai/*", "openai/gpt-4o"], ["pocket", "openai/*"])
    with pytest.raises(InvalidInput, match="There is no route 'groq/llama'"):
        check_routes(["groq/llama"], ["pocket", "openai/*"])


def test_the_installations_own_scope_is_not_for_others(sqlite_engine: Engine) -> None:
    with pytest.raises(InvalidInput, match="unknown scope 'internal'"):
        KeyService(sqlite_engine).create("x", ("internal",))


def test_an_unknown_scope_is_told_its_neighbour(sqlite_engine: Engine) -> None:
    with pytest.raises(InvalidInput, match="Did you mean 'owner'"):
        KeyService(sqlite_engine).create("x", ("owners",))


def test_a_key_that_lies_in_a_file_is_adopted_once_and_stays_revoked(service: KeyService) -> None:
    secret = new_secret()
    barrier, ids = threading.Barrier(3), []

    def adopt() -> None:
        barrier.wait()
        ids.append(service.adopt(secret, "admin", ("owner",)))

    threads = [threading.Thread(target=adopt) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 1
    assert len(ids) == 3
    row = service.verify(secret)
    assert row is not None
    assert (row.id, row.scopes) == (ids[0], ("owner",))
    service.create("another", ("owner",))
    service.revoke(row.id)
    assert service.adopt(secret, "admin", ("owner",)) == row.id
    assert service.verify(secret) is None
    for wrong in ("", "ps-short", secret.replace("ps-", "sk-"), secret + "x", "ps-" + "é" * 43):
        with pytest.raises(InvalidInput, match="not the text of a key"):
            service.adopt(wrong, "admin")


def key_with(*scopes: str) -> KeyRow:
    return KeyRow(id="key_1", name="laptop", secret_sha256="0" * 64, scopes=scopes)


def test_an_owner_may_do_everything_and_an_unknown_scope_nothing() -> None:
    assert ROLE_PERMISSIONS["owner"] == frozenset(Permission)
    assert all(has_permission(key_with("owner"), permission) for permission in Permission)
    assert permissions_of(("nonsense",)) == frozenset()
    assert permissions_of(()) == frozenset()


def test_a_calling_key_may_call_and_send_spans_and_nothing_else() -> None:
    may = {permission for permission in Permission if has_permission(key_with("call"), permission)}
    assert may == {Permission.MODELS_CALL, Permission.TRACES_WRITE}
    assert permissions_of(("call", "owner")) == frozenset(Permission)
    assert all(grants <= frozenset(Permission) for grants in SCOPE_PERMISSIONS.values())


def test_a_missing_permission_is_named() -> None:
    check_permission(key_with("owner"), Permission.KEYS_WRITE)
    with pytest.raises(Forbidden, match=r"lacks the permission keys\.write"):
        check_permission(key_with("call"), Permission.KEYS_WRITE)


def test_permissions_are_written_noun_dot_verb() -> None:
    for permission in Permission:
        assert permission is Permission.ADMIN or re.fullmatch(r"[a-z]+\.[a-z]+", permission.value)
