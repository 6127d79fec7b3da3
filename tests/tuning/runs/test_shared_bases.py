"""A base's weights that many runs begin from: whole, the bytes they were written with, written by one at a time."""

import threading
from pathlib import Path
from typing import Any

import pytest

from penstock.tuning.runs.folder import RunFolder
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
