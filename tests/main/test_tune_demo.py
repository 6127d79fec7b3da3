"""The parts of `penstock tune demo` that need no training: its files are sound, and what is done is not done twice."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from penstock.main.gate_files import read_gate_file
from penstock.main.tune_demo import bring_runtime, list_undo, read_shifts, seconds_of
from penstock.main.tune_demo_parts import (
    DATASETS,
    GATE,
    PARTS,
    PROMPT,
    DemoData,
    find_finished,
    find_unfinished,
    read_demo_recipe,
)
from penstock.prompts.files import read_prompt
from penstock.spec.home import Home
from penstock.spec.tuning import Recipe, RunRecord
from penstock.tuning.recipes.reading import read_recipe_text
from penstock.tuning.runs.errors import NoRuntime

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "tuning"
DATA = DemoData(datasets={name: f"dataset:{name}@1" for name in DATASETS}, prompt=f"prompt:{PROMPT}@1")


def pinned(recipe: Recipe, **changes: str) -> Recipe:
    """The recipe as a run's record holds it."""
    told = {"train": DATA.datasets["handbook-tuning"], "template": DATA.prompt, **changes}
    return msgspec.structs.replace(recipe, data=msgspec.structs.replace(recipe.data, **told))


def record(recipe: Recipe, state: str = "done", **more: Any) -> RunRecord:
    made: RunRecord = msgspec.convert(
        {
            "id": "run_1",
            "name": recipe.name,
            "state": state,
            "method": recipe.method,
            "recipe": msgspec.to_builtins(recipe),
            "created_ns": 1,
            "updated_ns": 1,
            "actor": "demo",
            "result": {"model": "model:pocket@2"},
            **more,
        },
        RunRecord,
    )
    return made


def access(*records: RunRecord) -> Any:
    """Runs as the demo looks at them."""

    def list_runs(*, name: str, state: str | None = None, limit: int = 50) -> Any:
        rows = [each for each in records if each.name == name and state in (None, each.state)]
        return SimpleNamespace(rows=rows[:limit])

    return SimpleNamespace(runs=SimpleNamespace(list=list_runs))


def test_what_ships_for_the_demo_names_what_the_demo_registers() -> None:
    recipe = read_demo_recipe("model:pocket@7")
    assert recipe.base.model == "model:pocket@7"
    assert recipe.data.train.removeprefix("dataset:") in DATASETS
    assert [each.removeprefix("dataset:") for each in recipe.data.guard_against] == ["handbook-held-out"]
    assert recipe.data.template == f"prompt:{PROMPT}"
    evaluation = read_gate_file(GATE).spec.evaluation
    assert evaluation is not None
    assert evaluation.dataset == "dataset:handbook-held-out"
    assert evaluation.target.prompt == f"prompt:{PROMPT}"
    prompt = read_prompt((PARTS / f"{PROMPT}.prompt").read_text())
    assert set(prompt.variables) == {"question", "sentences"}


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.toml")), ids=lambda path: str(path.name))
def test_every_worked_recipe_and_gate_can_be_read(path: Path) -> None:
    if path.name.endswith(".gate.toml"):
        assert read_gate_file(path).spec.rules
    else:
        assert read_recipe_text(path.read_text(), name=path.name).output.alias == "candidate"


def test_a_version_that_was_tuned_from_the_same_rows_by_the_same_recipe_is_taken_again() -> None:
    recipe = read_demo_recipe("model:pocket@1")
    same = record(pinned(recipe))
    assert find_finished(access(same), recipe, DATA) is same
    others = [
        pinned(recipe, train="dataset:handbook-tuning@2"),
        pinned(recipe, template="prompt:handbook-question@2"),
        pinned(read_demo_recipe("model:pocket@9")),
        msgspec.structs.replace(pinned(recipe), train=msgspec.structs.replace(recipe.train, lr=1e-5)),
    ]
    assert find_finished(access(*map(record, others)), recipe, DATA) is None
    assert find_finished(access(record(pinned(recipe), state="failed")), recipe, DATA) is None


def test_a_run_that_was_interrupted_is_gone_on_with_and_a_failed_one_is_not() -> None:
    recipe = read_demo_recipe("model:pocket@1")
    stopped = record(pinned(recipe), state="stopped", result=None)
    assert find_unfinished(access(stopped), recipe) is stopped
    other = msgspec.structs.replace(recipe, train=msgspec.structs.replace(recipe.train, lr=0.5))
    assert find_unfinished(access(record(pinned(other), state="stopped")), recipe) is None
    for state in ("done", "failed"):
        assert find_unfinished(access(record(pinned(recipe), state=state)), recipe) is None


def test_an_environment_that_somebody_named_is_not_made_anew_when_it_is_missing(tmp_path: Path) -> None:
    told: list[str] = []
    with pytest.raises(NoRuntime):
        bring_runtime(str(tmp_path / "none"), told.append, lambda _share, _text: None, {})
    assert told == []


def test_the_report_tells_the_way_back_and_only_times_that_are_known(tmp_path: Path) -> None:
    undo = list_undo(Home(root=tmp_path), "model:pocket@1", "model:pocket@2", "gate_1")
    assert undo[0] == f"penstock asset rollback model:pocket --alias prod --home {tmp_path}"
    assert "--gate gate_1" in undo[1]
    recipe = read_demo_recipe("model:pocket@1")
    assert seconds_of(record(recipe, started_ns=10**9, finished_ns=3 * 10**9)) == 2.0
    assert seconds_of(record(recipe)) is None
    shift = {"name": "token_f1", "baseline": 0.5, "candidate": 0.6, "difference": 0.1, "n_pairs": 9}
    shifts = read_shifts({"comparisons": [shift], "slices": [{**shift, "slice": "wording=rephrased"}]})
    assert [each.slice for each in shifts] == [None, "wording=rephrased"]
