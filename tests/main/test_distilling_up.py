"""A student that learns from a model behind the gateway: really asked, really trained, registered as a child, measured beside both.

The commands are those of docs/guides/compression.md, the teacher is the model that ships.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.main.shell_house import Shell, open_shell

pytestmark = [pytest.mark.slow, pytest.mark.engine, pytest.mark.timeout(3000)]

THINGS = ("kettle", "ladder", "radio", "basket", "hammer", "mirror", "bucket", "candle")
PLACES = ("cellar", "kitchen", "garage", "garden")
RECIPE = """
name = "little"
method = "distill"

[base]
model = "model:little@1"

[data]
train = "dataset:places"
split = "train"
eval_split = "dev"

[distill]
teacher = "pocket"
max_tokens = 40

[train]
lr = 2e-3
batch_size = 8
epochs = 3.0
warmup_steps = 2
threads = 1

[evaluation]
every_steps = 12
n_samples = 2
max_new_tokens = 12

[output]
name = "little"
"""


@pytest.fixture
def shell(tmp_path: Path, tune_python: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.setenv("PENSTOCK_TUNE_PYTHON", str(tune_python))
    with open_shell(tmp_path) as opened:
        yield opened


def write_places(path: Path) -> None:
    """Questions whose answer is one of the sentences before them; those of the last place are held out."""
    rows = []
    for number, thing in enumerate(THINGS):
        for turn, place in enumerate(PLACES):
            other = THINGS[(number + 1 + turn) % len(THINGS)]
            wanted, beside = f"The {thing} is in the {place}.", f"The {other} is in the {PLACES[turn - 1]}."
            sentences = [wanted, beside] if turn % 2 else [beside, wanted]
            asked = "\n".join(f"[{mark}] {each}" for mark, each in enumerate(sentences, 1))
            rows.append(
                {
                    "id": f"{thing}-{place}",
                    "input": f"{asked}\nQuestion: Where is the {thing}?",
                    "expected": f"[{sentences.index(wanted) + 1}] {wanted}",
                    "split": "dev" if turn == len(PLACES) - 1 else "train",
                    "group": thing,
                }
            )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def figures_of(compared: dict[str, Any], version: str) -> dict[str, Any]:
    (model,) = (each for each in compared["models"] if each["version"] == version)
    return {each["name"]: each for each in model["figures"]}


def test_a_student_learns_from_a_model_behind_the_gateway_and_is_measured_beside_it(
    shell: Shell, tmp_path: Path
) -> None:
    write_places(tmp_path / "places.jsonl")
    (tmp_path / "little.toml").write_text(RECIPE)
    shell("dataset", "create", "places", str(tmp_path / "places.jsonl"), "--license", "Apache-2.0")
    shell("model", "shrink", "model:pocket", "--layers", "2", "--ffn", "128", "--as", "little")

    run = shell("tune", "run", str(tmp_path / "little.toml"))
    assert (run["state"], run["result"]["model"]) == ("done", "model:little@2")

    # the student knows what it comes from, and its rows whose words they are
    teacher, student = (shell("asset", "show", name) for name in ("model:pocket@1", "model:little@1"))
    child, rows = (shell("asset", "show", name) for name in ("model:little@2", "dataset:little-replies@1"))
    lineage = child["content"]["lineage"]
    assert (lineage["method"], lineage["base"]["digest"]) == ("distill", student["digest"])
    assert [each["digest"] for each in lineage["data"]] == [rows["digest"]]
    assert {student["digest"], rows["digest"]} <= set(child["parents"])
    assert teacher["digest"] in rows["parents"]
    step = shell("dataset", "show", "little-replies")["facts"]["steps"][-1]
    assert (step["teacher"], step["n_calls"]) == ("pocket", 24)
    assert list(step["teacher_versions"]) == [f"model:pocket@1 {teacher['digest'][:19]}"]
    assert step["input_tokens"] > 24 * 10

    # teacher, student before and after: size, speed, perplexity and scores, with intervals
    versions = ("model:pocket@1", "model:little@1", "model:little@2")
    speed = ("--rounds", "2", "--streams", "1", "--reply-tokens", "8", "--prompt-tokens", "32")
    shell("dataset", "filter", "places", "split:dev", "--as", "places-held-out")
    cases = ("--cases", "dataset:places-held-out", "--scorer", "token_f1")
    shell("model", "measure", *versions, *cases, *speed)
    compared = shell("model", "compare", *versions)
    large, before, after = (figures_of(compared, each) for each in versions)
    assert after["file_bytes"]["value"] == before["file_bytes"]["value"] < 0.7 * large["file_bytes"]["value"]
    assert all(each["reply_tokens_per_s_1"]["value"] > 0 for each in (large, before, after))
    assert after["perplexity"]["high"] < before["perplexity"]["low"]
    assert large["token_f1"]["value"] > before["token_f1"]["value"]
    for name in ("perplexity", "token_f1"):
        assert all(each[name]["low"] <= each[name]["value"] <= each[name]["high"] for each in (large, after))
    assert all("token_f1" in each for each in compared["verdicts"])
