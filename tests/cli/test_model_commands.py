"""`penstock model` on a home that is not running, with the model that ships."""

from pathlib import Path

import pytest

import penstock.data
from penstock.main.embedded import ModelRooms
from penstock.main.rooms import Rooms
from penstock.spec.home import Home
from tests.cli.commands import Outcome, call
from tests.tuning.tiny_models import make_llama

POCKET = Path(penstock.data.__path__[0]) / "pocket"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rooms = ModelRooms(Home(root=tmp_path / "home"))
    rooms.models.ensure_shipped(POCKET)
    rooms.close()
    return tmp_path / "home"


def model(*arguments: str, root: Path) -> Outcome:
    return call("model", *arguments, home=root)


def test_the_shipped_model_is_listed_shown_and_described(root: Path) -> None:
    (row,) = model("list", "--json", root=root).json
    assert (row["model"], row["live"], row["kind"]) == ("pocket", "yes", "chat")
    assert model("list", "--kind", "adapter", "--json", root=root).json == []
    shown = model("show", "pocket@prod", root=root).out
    assert "model:pocket@1" in shown
    assert "Apache-2.0" in shown
    assert model("card", "model:pocket", root=root).out == (POCKET / "CARD.md").read_text()
    (node,) = model("lineage", "pocket", "--json", root=root).json["nodes"]
    assert node["label"] == "model:pocket@1"
    (move,) = model("aliases", "pocket", "--json", root=root).json["moves"]
    assert (move["alias"], move["evidence"]["kind"]) == ("prod", "parity")


def test_it_is_exported_and_never_over_anything(root: Path, tmp_path: Path) -> None:
    done = model("export", "pocket", "--to", str(tmp_path / "out"), "--json", root=root)
    assert done.code == 0, done.err
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= set(done.json["files"])
    again = model("export", "pocket", "--to", str(tmp_path / "out"), root=root)
    assert again.code != 0
    assert "not empty" in again.err


def test_verifying_tells_damage_by_exit_code(root: Path) -> None:
    whole = model("verify", "pocket", root=root)
    assert whole.code == 0, whole.err
    assert "golden vectors" in whole.out
    (blob,) = [
        path for path in (root / "blobs").rglob("*") if path.is_file() and path.stat().st_size > 5_000_000
    ]
    data = bytearray(blob.read_bytes())
    data[1000] ^= 1
    blob.write_bytes(data)
    damaged = model("verify", "pocket", root=root)
    assert damaged.code == 3
    assert "model.gguf" in damaged.err


def test_an_unknown_model_is_told_with_what_there_is(root: Path) -> None:
    done = model("show", "pockt", root=root)
    assert done.code == 2
    assert "pocket" in done.err


def test_lineage_tells_all_that_a_version_was_made_in(root: Path) -> None:
    rooms = Rooms(Home(root=root))
    content = dict(rooms.registry.resolve("model:pocket").content)
    content["lineage"] = {
        "method": "lora",
        "frozen_digest": "sha256:" + "f0" * 32,
        "environment": {"digest": "sha256:" + "e0" * 32, "packages": {"torch": "2.13.0"}},
        "hardware": {"device": "cpu", "n_cores": 2, "gpu": None},
    }
    rooms.registry.register("model", "tuned", content)
    told = model("lineage", "tuned", root=root).out
    for part in ("f0" * 32, "e0" * 32, "torch 2.13.0", "device cpu", "n_cores 2"):
        assert part in told
    assert "gpu" not in told


def test_a_pull_under_a_live_name_tells_how_prod_moves_to_it(root: Path, tmp_path: Path) -> None:
    folder = make_llama(tmp_path / "m")
    done = model("pull", "pocket", "--from", f"folder:{folder}", root=root)
    assert done.code == 0, done.err
    assert "`prod` of pocket stays" in done.out
    assert "penstock asset move model:pocket@2 --alias prod --gate ID" in done.out
    assert model("show", "pocket@candidate", "--json", root=root).json["version"]["label"] == "model:pocket@2"
    assert model("show", "pocket", "--json", root=root).json["version"]["label"] == "model:pocket@1"
