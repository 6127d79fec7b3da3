"""Recipes are read whole or refused with every mistake told by line, key and nearest right word."""

import tomllib
from typing import get_args

import pytest

from penstock.spec.tuning import LATER_METHODS, TuneMethod
from penstock.tuning.recipes.defaults import complete_recipe, digest_recipe
from penstock.tuning.recipes.reading import read_recipe, read_recipe_text
from penstock.tuning.recipes.template import write_recipe
from penstock.tuning.runs.errors import RecipeInvalid
from penstock.tuning.trainer.run_spec import DPO_LOSSES

GOOD = """\
name = "triage"
method = "lora"
[base]
model = "model:pocket"
[data]
train = "dataset:triage@1"
[output]
name = "triage"
"""


def problems(text: str) -> dict[str, dict[str, object]]:
    with pytest.raises(RecipeInvalid) as caught:
        read_recipe_text(text, name="triage.toml")
    return {str(each["where"]): each for each in caught.value.fields["problems"]}


def test_a_recipe_is_read_and_completed_by_its_method() -> None:
    recipe = complete_recipe(read_recipe_text(GOOD))
    assert recipe.train.lr == 2e-4
    assert recipe.adapter is not None
    assert recipe.preference is None
    full = complete_recipe(read_recipe_text(GOOD.replace('"lora"', '"full"')))
    assert (full.train.lr, full.adapter) == (2e-5, None)
    kto = complete_recipe(read_recipe_text(GOOD.replace('"lora"', '"kto"')))
    assert kto.preference is not None
    assert (kto.preference.loss, kto.train.lr) == ("kto", 1e-6)


def test_every_mistake_is_told_at_once_with_its_line_and_the_nearest_word() -> None:
    text = GOOD.replace('"lora"', '"lorra"') + '\nallias = "x"\n[trian]\nlr = 1\n[train]\nlr = "x"\n'
    found = problems(text)
    assert found["method"]["line"] == 2
    assert found["method"]["hint"] == "Did you mean 'lora'?"
    assert (found["output.allias"]["line"], found["output.allias"]["hint"]) == (10, "Did you mean 'alias'?")
    assert (found["trian"]["line"], found["trian"]["hint"]) == (11, "Did you mean 'train'?")
    assert found["train.lr"]["message"] == "'x' is not a number"


@pytest.mark.parametrize("method", LATER_METHODS)
def test_methods_that_come_later_are_refused_by_name(method: str) -> None:
    found = problems(GOOD.replace('"lora"', f'"{method}"'))
    assert list(found) == ["method"]
    assert "later" in str(found["method"]["message"])


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ('model = "model:pocket"', "", "base.model"),
        ('model = "model:pocket"', 'model = "dataset:pocket"', "base.model"),
        ('"dataset:triage@1"', '"triage"', "data.train"),
        ('name = "triage"\nmethod', 'name = "Triage!"\nmethod', "name"),
        ("[output]", "[scratch]\n[output]", "scratch"),
        ("[output]", '[distill]\nteacher = "x"\n[output]', "distill"),
        ("[output]", "[preference]\nbeta = 0.1\n[output]", "preference"),
        ("[output]", "[train]\nbatch_size = 0\n[output]", "train.batch_size"),
        ("[output]", "[train]\nlr = nan\n[output]", "train.lr"),
        ("[output]", "[train]\nkeep_checkpoints = 0\n[output]", "train.keep_checkpoints"),
        ("[output]", '[evaluation]\nmetric = "reward_accuracy"\n[output]', "evaluation.metric"),
        ("[output]\n", '[output]\nalias = "prod"\n', "output.alias"),
        ("[output]\n", '[output]\nprecisions = ["f16", "f16"]\n', "output.precisions"),
        ('"dataset:triage@1"\n', '"dataset:triage@1"\nsplit = "a"\neval_split = "a"\n', "data.eval_split"),
        ("", "seed = -1\n", "seed"),
    ],
)
def test_contradictions_are_refused_where_they_stand(old: str, new: str, where: str) -> None:
    assert where in problems(GOOD.replace(old, new, 1) if old else new + GOOD)


def test_full_training_has_no_adapter_to_keep() -> None:
    text = GOOD.replace('"lora"', '"full"')
    assert "output.form" in problems(text + 'form = "adapter"\n')
    assert "adapter" in problems(text + "[adapter]\nr = 4\n")


def test_scratch_needs_sizes_that_divide() -> None:
    text = GOOD.replace('"lora"', '"scratch"').replace('model = "model:pocket"\n', "")
    assert "scratch" in problems(text)
    assert "scratch.n_heads" in problems(text + "[scratch]\nhidden_size = 100\nn_heads = 3\n")
    assert "scratch.n_kv_heads" in problems(text + "[scratch]\nn_heads = 4\nn_kv_heads = 3\n")


def test_text_that_is_no_toml_is_told_as_such() -> None:
    with pytest.raises(RecipeInvalid, match="is no TOML"):
        read_recipe_text("a =")


def test_json_values_are_read_by_the_same_rules() -> None:
    recipe = read_recipe_text(GOOD)
    values = {
        "name": "triage",
        "method": "lora",
        "base": {"model": "model:pocket"},
        "data": {"train": "dataset:triage@1"},
        "output": {"name": "triage"},
    }
    assert read_recipe(values) == recipe
    with pytest.raises(RecipeInvalid, match=r"data: this is a table"):
        read_recipe({**values, "data": []})


def test_names_and_notes_do_not_change_the_digest_and_everything_else_does() -> None:
    digest = digest_recipe(read_recipe_text(GOOD))
    assert (
        digest_recipe(read_recipe_text(GOOD.replace('name = "triage"\nm', 'name = "other"\nm', 1))) == digest
    )
    assert digest_recipe(read_recipe_text("seed = 21\n" + GOOD)) != digest
    assert digest_recipe(read_recipe_text(GOOD + "[train]\nlr = 2e-4\n")) == digest


@pytest.mark.parametrize("method", get_args(TuneMethod))
def test_the_recipe_that_init_writes_is_valid_for_every_method(method: TuneMethod) -> None:
    recipe = read_recipe_text(write_recipe(method, name="triage"))
    assert (recipe.method, recipe.data.train, recipe.output.name) == (method, "dataset:triage", "triage")


@pytest.mark.parametrize("loss", DPO_LOSSES)
def test_losses_are_those_that_the_trainer_has(loss: str) -> None:
    text = GOOD.replace('"lora"', '"dpo"') + f'[preference]\nloss = "{loss}"\n'
    assert read_recipe_text(text).preference is not None
    assert "preference.loss" in problems(text.replace(f'"{loss}"', '"robust"'))


def test_two_lengths_of_one_run_are_refused() -> None:
    assert "train.epochs" in problems(GOOD + "[train]\nmax_steps = 5\nepochs = 2\n")


def test_mistakes_between_keys_are_told_beside_those_of_single_keys() -> None:
    text = GOOD.replace('"lora"', '"lorra"') + 'alias = "prod"\n[train]\nmax_steps = "five"\nbatchsize = 2\n'
    assert set(problems(text)) == {"method", "output.alias", "train.max_steps", "train.batchsize"}


def test_what_a_template_is_filled_with_stays_within_its_quotes() -> None:
    text = write_recipe("lora", name='x"\nmethod = "full', data='dataset:"\\')
    assert tomllib.loads(text)["method"] == "lora"
    assert tomllib.loads(text)["data"]["train"] == 'dataset:"\\'
