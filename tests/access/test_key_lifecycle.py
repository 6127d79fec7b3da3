"""Keys over time: they expire, change, and get a new text while the old one still works."""

import pytest
from sqlalchemy import Engine

from penstock.access.errors import KeyEnded, LastOwnerKey, UnknownKey
from penstock.access.keys import KeyService
from penstock.base.errors import InvalidInput

HOUR = 3_600_000_000_000


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_ns = 1_000 * HOUR

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(sqlite_engine: Engine, clock: Clock) -> KeyService:
    return KeyService(sqlite_engine, clock=clock)


def test_a_key_works_until_it_expires(control_engine: Engine, clock: Clock) -> None:
    keys = KeyService(control_engine, clock=clock)
    made = keys.create("ci", expires_ns=clock() + HOUR, user="ada", project="search")
    row = keys.verify(made.key)
    assert row is not None
    assert (row.user, row.project, row.expires_ns) == ("ada", "search", clock() + HOUR)
    clock.now_ns += HOUR
    assert keys.verify(made.key) is None
    assert keys.find(made.id) is None
    assert keys.get(made.id).state_at(clock()) == "expired"
    assert [each.id for each in keys.rows()] == [made.id]  # gateways say that it has expired
    keys.edit(made.id, expires_ns=None)
    assert keys.verify(made.key) is not None


def test_a_key_cannot_expire_in_the_past(keys: KeyService, clock: Clock) -> None:
    for moment in (0, clock(), 2**63):
        with pytest.raises(InvalidInput, match="future"):
            keys.create("ci", expires_ns=moment)


def test_after_a_rotation_both_texts_work_for_the_overlap(control_engine: Engine, clock: Clock) -> None:
    keys = KeyService(control_engine, clock=clock)
    made = keys.create("ci", requests_per_minute=5)
    fresh = keys.rotate(made.id, overlap_s=24 * 3600)
    assert fresh.id == made.id
    assert fresh.key != made.key
    for text in (made.key, fresh.key):
        row = keys.verify(text)
        assert row is not None
        assert (row.id, row.requests_per_minute) == (made.id, 5)
    (row,) = keys.rows()
    assert row.previous_until_ns == clock() + 24 * HOUR
    clock.now_ns += 24 * HOUR
    assert keys.verify(made.key) is None
    assert keys.verify(fresh.key) is not None
    (row,) = keys.rows()
    assert (row.previous_sha256, row.previous_until_ns) == (None, None)
    assert keys.get(made.id).hint == f"ps-…{fresh.key[-4:]}"


def test_a_rotation_without_overlap_ends_the_old_text_at_once(keys: KeyService) -> None:
    made = keys.create("ci")
    fresh = keys.rotate(made.id)
    assert keys.verify(made.key) is None
    assert keys.verify(fresh.key) is not None


def test_a_second_rotation_ends_the_text_before_the_first(keys: KeyService) -> None:
    first = keys.create("ci")
    second = keys.rotate(first.id, overlap_s=3600)
    third = keys.rotate(first.id, overlap_s=3600)
    assert [keys.verify(each.key) is not None for each in (first, second, third)] == [False, True, True]


def test_an_overlap_does_not_outlive_the_key(keys: KeyService, clock: Clock) -> None:
    made = keys.create("ci", expires_ns=clock() + HOUR)
    keys.rotate(made.id, overlap_s=24 * 3600)
    assert keys.get(made.id).previous_until_ns == clock() + HOUR


@pytest.mark.parametrize("overlap_s", [-1.0, 91 * 86_400.0, float("nan")])
def test_an_overlap_has_bounds(keys: KeyService, overlap_s: float) -> None:
    made = keys.create("ci")
    with pytest.raises(InvalidInput):
        keys.rotate(made.id, overlap_s=overlap_s)


def test_what_a_key_may_do_changes_and_the_rest_stays(keys: KeyService) -> None:
    made = keys.create("ci", requests_per_minute=5, routes=["a"], user="ada")
    info = keys.edit(made.id, tokens_per_minute=9, routes=None, scopes=["call", "metrics", "call"])
    assert (info.requests_per_minute, info.tokens_per_minute, info.routes) == (5, 9, None)
    assert (info.scopes, info.user, info.name) == (("call", "metrics"), "ada", "ci")
    assert keys.verify(made.key) is not None
    for wrong in ({"name": ""}, {"scopes": []}, {"scopes": ["internal"]}, {"routes": []}, {"user": "a\n"}):
        with pytest.raises(InvalidInput):
            keys.edit(made.id, **wrong)
    with pytest.raises(UnknownKey):
        keys.edit("key_none", name="x")


def test_a_revoked_key_neither_changes_nor_rotates(keys: KeyService) -> None:
    made = keys.create("ci")
    keys.revoke(made.id)
    with pytest.raises(KeyEnded):
        keys.edit(made.id, name="x")
    with pytest.raises(KeyEnded):
        keys.rotate(made.id)


def test_an_owner_is_always_left(keys: KeyService, clock: Clock) -> None:
    made = keys.create("admin", ("owner",))
    for changes in ({"scopes": ["call"]}, {"expires_ns": clock() + HOUR}):
        with pytest.raises(LastOwnerKey):
            keys.edit(made.id, **changes)
    keys.create("second", ("owner",), expires_ns=clock() + HOUR)
    keys.edit(made.id, scopes=["call"])


def test_an_expired_owner_does_not_count_as_one(keys: KeyService, clock: Clock) -> None:
    made = keys.create("admin", ("owner",))
    keys.create("guest", ("owner",), expires_ns=clock() + HOUR)
    clock.now_ns += HOUR
    with pytest.raises(LastOwnerKey):
        keys.revoke(made.id)
