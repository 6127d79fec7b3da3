"""Keys are remembered for two seconds, not longer, and never for more than they may."""

import pytest

from penstock.base.errors import Forbidden, Unauthenticated
from penstock.control.known_keys import KnownKeys
from tests.fixtures.furnished import Furnished


def test_a_key_is_asked_for_once_and_forgotten_soon(furnished: Furnished) -> None:
    now = [0.0]
    keys = furnished.services.keys
    made = keys.create("sender", ["call"])
    known = KnownKeys(keys, clock=lambda: now[0])
    header = f"Bearer {made.key}"
    assert known.recall(header) is None
    assert known.find(header).id == made.id
    assert known.recall(header) is not None
    keys.revoke(made.id)
    assert known.find(header).id == made.id
    now[0] = 2.1
    assert known.recall(header) is None
    with pytest.raises(Unauthenticated):
        known.find(header)


def test_a_key_without_the_permission_is_never_remembered(furnished: Furnished) -> None:
    known = KnownKeys(furnished.services.keys)
    header = f"Bearer {furnished.services.keys.create('monitoring', ['metrics']).key}"
    for _ in range(2):
        with pytest.raises(Forbidden):
            known.find(header)
    assert known.recall(header) is None


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic abc", "ps-123"])
def test_what_shows_no_key_is_refused(furnished: Furnished, header: str) -> None:
    with pytest.raises(Unauthenticated):
        KnownKeys(furnished.services.keys).find(header)
