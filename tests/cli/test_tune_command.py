"""`penstock tune` on a home on which nothing runs: a recipe is written, planned, run right there, and looked at."""

import json
from pathlib import Path

import pytest

from penstock.main.dataset_rooms import create_datasets
from penstock.main.embedded import ModelRooms
from penstock.spec.datasets import DatasetRow
from penstock.spec.home import Home
from tests.cli.commands import Outcome, call
from tests.tuning.runs.fake_python import write_fake_python


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with Pocket and a dataset of chats."""
    home = Home(root=tmp_path_factory.mktemp("home"))
    rooms = ModelRooms(home)
    rooms.prepare()
    rows = [
        DatasetRow(
            id=f"r{number}",
            fields={
                "messages": [
                    {"role": "user", "content": f"How much is item {number}?"},
                    {"role": "assistant", "content": f"It costs {number * 3} coins."},
                ]
            },
        )
        for number in range(24)
    ]
    create_datasets(home, rooms.registry, rooms.blobs).create_from_rows("coins", rows, "chat")
    rooms.close()
    return home.root


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_fake_python(tmp_path_factory.mktemp("runtime")))


def tune(home: Path, fake: str, *arguments: str) -> Outcome:
    return call("tune", *arguments, home=home, PENSTOCK_TUNE_PYTHON=fake)


@pytest.mark.engine
def test_from_a_recipe_to_a_model_and_back_to_its_curves(seeded: Path, fake: str, tmp_path: Path) -> None:
    file = tmp_path / "coins.toml"
    written = tune(seeded, fake, "init", str(file), "--method", "full", "--data", "dataset:coins", "--json")
    assert (written.code, written.json) == (0, {"file": str(file)})
    assert tune(seeded, fake, "init", str(file)).code == 2, "a file that is there is not replaced unasked"
    text = (
        file.read_text()
        .replace("epochs = 1.0 ", "max_steps = 6 ")
        .replace("every_steps = 50", "every_steps = 2")
    )
    file.write_text(text.replace("checkpoint_every_steps = 100", "checkpoint_every_steps = 2"))

    plan = tune(seeded, fake, "plan", str(file), "--json").json
    assert (plan["n_steps"], plan["n_parameters"], plan["time_basis"]) == (6, 3_672_320, "measured")
    assert not plan["is_refused"]
    shown = tune(seeded, fake, "plan", str(file), "--no-measure")
    assert "nothing forbids this run" in shown.out
    assert "estimated from this machine's arithmetic" in shown.out

    (seeded / "tuning" / "fake.json").write_text(json.dumps({"is_copied": True}))
    ran = tune(seeded, fake, "run", str(file), "--json")
    assert ran.code == 0, ran.err
    run = ran.json
    assert (run["state"], run["result"]["model"]) == ("done", "model:coins@1")
    assert tune(seeded, fake, "list", "--json").json[0]["id"] == run["id"]
    assert "done" in tune(seeded, fake, "status", "coins").out
    assert run["id"] in tune(seeded, fake, "show", "coins").out
    assert tune(seeded, fake, "samples", "coins", "--json").json[0]["reply"] == "reply"
    assert "step.loss" in tune(seeded, fake, "curves", "coins").out
    page = tune(seeded, fake, "events", "coins", "--kind", "ended", "--json").json
    assert page["rows"][0]["detail"]["reason"] == "done"
    assert tune(seeded, fake, "logs", "coins").code == 0
    assert tune(seeded, fake, "resume", "coins").code == 4, "it is done"
    assert tune(seeded, fake, "delete", "coins", "--yes", "--json").json == {"deleted": run["id"]}
    assert tune(seeded, fake, "show", "coins").code == 2
    models = call("asset", "list", "--json", home=seeded).json
    assert "coins" in json.dumps(models), "what it has made stays"


def test_a_run_that_is_refused_says_why_and_with_which_exit_code(
    seeded: Path, fake: str, tmp_path: Path
) -> None:
    file = tmp_path / "long.toml"
    tune(seeded, fake, "init", str(file), "--data", "dataset:coins")
    file.write_text(file.read_text().replace("# max_length = 1024 ", "max_length = 8 "))
    planned = tune(seeded, fake, "plan", str(file))
    assert planned.code == 3
    assert "refuse: truncated" in planned.out
    ran = tune(seeded, fake, "run", str(file))
    assert ran.code == 3
    assert "PS-2580" in ran.err
    assert tune(seeded, fake, "run", str(file), "--no-wait").code == 2, "nothing runs that could go on"


def test_mistakes_in_a_recipe_name_file_and_line(seeded: Path, fake: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    tune(seeded, fake, "init", str(file), "--data", "dataset:coins")
    file.write_text(file.read_text().replace('method = "lora"', 'method = "grpo"'))
    refused = tune(seeded, fake, "plan", str(file))
    assert refused.code == 2
    assert f"{file} has 1 problem" in refused.err
    assert "kept for a later version" in refused.err
    assert tune(seeded, fake, "plan", str(tmp_path / "none.toml")).code == 2


def test_a_training_program_is_found_from_the_recipes_folder(seeded: Path, fake: str, tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    tune(seeded, fake, "init", str(file), "--method", "scratch", "--data", "dataset:coins")
    file.write_text(file.read_text().replace("[scratch]", '[scratch]\nprogram = "mine"'))
    assert "no training program" in tune(seeded, fake, "plan", str(file)).err


def test_the_environment_is_told_with_what_it_holds(seeded: Path, fake: str) -> None:
    told = tune(seeded, fake, "doctor", "--json").json
    assert (told["is_well"], told["named_by"], told["device"]) == (True, "environment", "cpu")
    assert "torch" in told["differing"]
    missing = call("tune", "doctor", home=seeded, PENSTOCK_TUNE_PYTHON="", XDG_DATA_HOME=str(seeded / "none"))
    assert missing.code == 2
    assert "penstock tune install" in missing.out
