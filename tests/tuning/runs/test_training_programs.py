"""A training program of one's own is part of what a run was begun with: another one is refused, and lineage names it."""

from pathlib import Path

import msgspec
import pytest

from penstock.spec.tuning import Recipe
from penstock.tuning.cards import write_card
from penstock.tuning.recipes.reading import read_recipe
from penstock.tuning.runs.errors import ProgramChanged, TrainerFailed
from penstock.tuning.runs.preparing import read_frozen
from penstock.tuning.runs.programs import check_program, digest_program
from tests.tuning.runs.workshop import FAKE, Workshop


@pytest.fixture
def program(tmp_path: Path) -> Path:
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "__main__.py").write_text("import trainer\n")
    (folder / "trainer.py").write_text(FAKE.read_text())
    return folder


def recipe_of(program: Path) -> Recipe:
    return read_recipe(
        {
            "name": "own",
            "method": "scratch",
            "data": {"train": "dataset:walks"},
            "scratch": {"program": str(program)},
            "train": {"max_steps": 12, "checkpoint_every_steps": 3},
            "output": {"name": "own"},
        }
    )


def test_what_running_leaves_behind_is_no_part_of_a_program(program: Path) -> None:
    before = digest_program(recipe_of(program))
    (program / "__pycache__").mkdir()
    (program / "__pycache__" / "trainer.pyc").write_bytes(b"x")
    assert digest_program(recipe_of(program)) == before
    (program / "trainer.py").write_text("pass")
    assert digest_program(recipe_of(program)) != before


def test_going_on_with_a_changed_program_is_refused_by_name(workshop: Workshop, program: Path) -> None:
    workshop.wish(kind="kill", at=7, starts=3)
    record = workshop.service.create(recipe_of(program), actor="ann")
    with pytest.raises(TrainerFailed):
        workshop.finish(record)
    was = (program / "trainer.py").read_text()
    (program / "trainer.py").write_text(was + "# another one\n")
    workshop.wish()
    workshop.service.reopen(record.id)
    with pytest.raises(ProgramChanged, match="is not the one that run"):
        workshop.finish(record)
    failed = workshop.store.get_by_id(record.id)
    assert (failed.state, failed.fault) == ("failed", "data_changed")
    (program / "trainer.py").write_text(was)
    workshop.service.reopen(record.id)
    assert workshop.finish(record).state == "done"


def test_lineage_names_the_program_and_not_rows_that_nobody_gave_it(
    workshop: Workshop, program: Path
) -> None:
    done = workshop.finish(workshop.service.create(recipe_of(program), actor="ann"))
    frozen = read_frozen(workshop.folder(done))
    assert frozen is not None
    assert frozen.program is not None
    lineage = workshop.models.registered[0]["lineage"]
    assert frozen.program in lineage.code
    assert lineage.data == ()
    assert [each.asset for each in lineage.named_data] == ["dataset:walks"]
    card = write_card("own", {"lineage": msgspec.to_builtins(lineage)})
    assert "may not have read: dataset:walks@1" in card


def test_a_run_that_was_frozen_before_programs_had_digests_goes_on(workshop: Workshop, program: Path) -> None:
    done = workshop.finish(workshop.service.create(recipe_of(program), actor="ann"))
    frozen = read_frozen(workshop.folder(done))
    assert frozen is not None
    older = msgspec.structs.replace(frozen, program=None)
    (program / "trainer.py").write_text("pass")
    check_program(older)
    with pytest.raises(ProgramChanged):
        check_program(frozen)
