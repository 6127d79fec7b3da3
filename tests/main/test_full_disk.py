"""A disk that takes no more bytes, for a moment or for good: what was acknowledged stays, the rest is refused and counted."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.mortal.house import MortalHouse
from tests.main import lives
from tests.main.recorded import FarSide, assert_recorded

LIVES = "tests.main.lives"


@pytest.fixture
def house(mortal_house: MortalHouse) -> MortalHouse:
    if not mortal_house.can_break_disk:
        pytest.skip("needs Linux and a C compiler")
    return mortal_house


@pytest.fixture
def far() -> Iterator[FarSide]:
    opened = FarSide()
    yield opened
    opened.close()


@pytest.mark.parametrize("length", [3, 40, 10**6], ids=["for a moment", "for a while", "for good"])
@pytest.mark.parametrize("first", [60, 110])
def test_a_full_disk_costs_nothing_that_was_acknowledged(
    house: MortalHouse, far: FarSide, tmp_path: Path, first: int, length: int
) -> None:
    root, notes = tmp_path / "home", tmp_path / "notes"
    lives.prepare(root)
    (tmp_path / "scratch").mkdir()
    end = house.live(
        f"{LIVES}:record", disk=(root, "full", first, length), root=root, notes=notes, forward_url=far.url
    )
    assert end.status == 0, end.log
    assert_recorded(root, notes, tmp_path / "scratch", far)
    shutil.rmtree(root)


@pytest.mark.parametrize("first", [3, 7, 12])
def test_a_store_that_cannot_be_made_for_want_of_room_says_so_and_is_made_later(
    house: MortalHouse, tmp_path: Path, first: int
) -> None:
    root, notes = tmp_path / "home", tmp_path / "notes"
    lives.prepare(root)
    (tmp_path / "scratch").mkdir()
    end = house.live(f"{LIVES}:record", disk=(root, "full", first, 10**6), root=root, notes=notes)
    assert end.status == 1
    assert "No space left on device" in end.log
    assert "[PS-4101]" in end.log
    assert house.live(f"{LIVES}:record", root=root, notes=notes).status == 0
    assert assert_recorded(root, notes, tmp_path / "scratch") == 4 * lives.N_REQUESTS - 2
