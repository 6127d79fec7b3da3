"""A base's weights that many runs begin from: whole, the bytes they were written with, written by one at a time."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from penstock.tuning.runs.folder import RunFolder
from penstock.tuning.runs.shared_bases import _hold
from tests.tuning.runs.workshop import Workshop


def shared(workshop: Workshop) -> Path:
    (found,) = [path for path in (workshop.root / "bases").iterdir() if path.is_dir()]
    return found


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_base_whose_bytes_have_changed_is_written_anew(workshop: Workshop, name: str) -> None:
    """Else every later model would be trained on other weights than its lineage names, silently."""
    workshop.finish(workshop.begin())
    path = shared(workshop) / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 0x40]))
    assert workshop.finish(workshop.begin()).state == "done"
    assert workshop.models.n_checkouts == 2
    assert path.read_bytes() == whole


def test_a_base_that_was_half_removed_is_written_anew(workshop: Workshop) -> None:
    workshop.finish(workshop.begin())
    (shared(workshop) / "model.safetensors").unlink()
    assert workshop.finish(workshop.begin()).state == "done"
    assert workshop.models.n_checkouts == 2


def test_two_that_want_one_base_at_once_both_get_it(workshop: Workshop) -> None:
    preparation, real = workshop.execution._parts.preparation, workshop.models.checkout
    is_within, may_go = threading.Event(), threading.Event()

    def slow(ref: Any, folder: Path, **options: Any) -> Any:
        is_within.set()
        assert may_go.wait(120)
        return real(ref, folder, **options)

    workshop.models.checkout = slow  # type: ignore[method-assign]
    failed: list[BaseException] = []
    found: list[bytes] = []

    def open_base(name: str) -> None:
        try:
            folder = RunFolder(workshop.root, name)
            assert preparation.open_base(preparation.pin(workshop.recipe()), folder)
            found.append((folder.base / "model.safetensors").read_bytes())
        except BaseException as error:
            failed.append(error)

    first, second = (threading.Thread(target=open_base, args=(f"run_{number}",)) for number in (1, 2))
    first.start()
    assert is_within.wait(120)
    second.start()
    second.join(0.2)
    assert second.is_alive(), "it waits for the first"
    may_go.set()
    first.join(120)
    second.join(120)
    assert not failed
    assert len(found) == 2
    assert found[0] == found[1]
    assert workshop.models.n_checkouts == 1


def test_what_a_killed_checkout_left_is_removed(workshop: Workshop) -> None:
    workshop.finish(workshop.begin())
    place = shared(workshop)
    (place / "config.json").unlink()
    for name in (f"{place.name}.part", f".{place.name}.part.qrnuwp9y", f"{place.name}.part-base_1"):
        (place.parent / name).mkdir()
        (place.parent / name / "config.json").write_text("{}")
    workshop.finish(workshop.begin())
    assert shared(workshop) == place


DAY = 86_400.0


def grow_old(workshop: Workshop, days: float) -> None:
    """Say that everything was opened so long ago."""
    place = shared(workshop)
    then = place.stat().st_mtime - days * DAY
    os.utime(place, (then, then))


def test_a_base_that_no_run_needs_goes_after_a_week_and_comes_back_when_asked_for(workshop: Workshop) -> None:
    workshop.finish(workshop.begin())
    workshop.service.prune()
    place = shared(workshop)
    grow_old(workshop, 8)
    assert workshop.service.prune() == [place]
    assert not place.exists()
    assert workshop.finish(workshop.begin()).state == "done"
    assert workshop.models.n_checkouts == 2


def test_a_base_stays_for_a_run_that_may_still_go_on(workshop: Workshop) -> None:
    done = workshop.finish(workshop.begin())
    other = workshop.finish(workshop.begin())
    workshop.store.update(other.id, state="stopped")
    grow_old(workshop, 30)
    assert not workshop.service.prune()
    (base,) = workshop.service.shared_bases()
    assert base.n_runs == 1
    assert base.size_bytes > 0
    workshop.service.delete(done.id)
    assert shared(workshop).exists(), "the other one may go on"
    workshop.service.delete(other.id)
    assert not workshop.service.shared_bases(), "nobody needs it, and nobody has opened it for a month"


def test_opening_a_base_makes_it_young_again(workshop: Workshop) -> None:
    workshop.finish(workshop.begin())
    grow_old(workshop, 30)
    workshop.finish(workshop.begin())
    assert not workshop.service.prune()


def test_drafts_and_plans_that_a_kill_left_go_but_not_what_is_being_written(workshop: Workshop) -> None:
    workshop.finish(workshop.begin())
    bases, plan = workshop.root / "bases", workshop.root / "plan_old"
    draft, held = bases / "abcd.part-base_1", bases / "ef01.part-base_2"
    for folder in (draft, held, plan):
        folder.mkdir()
    os.utime(plan, (0, 0))
    with _hold(bases / "ef01"):
        removed = workshop.service.prune()
    assert sorted(removed) == sorted([draft, plan])
    assert held.exists()
