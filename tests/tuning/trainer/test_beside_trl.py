"""Losses for preferences are TRL's, to the digit: the names in a recipe mean what they mean there."""

from typing import Any

import pytest

from penstock.tuning.trainer.run_spec import DPO_LOSSES, KTO_LOSSES
from tests.tuning.trainer.run_folders import make_run
from tests.tuning.trainer.runtime import Runtime

WITH_ANSWERS = ("dpo", "sigmoid and sft")
KINDS = [("dpo", loss) for loss in DPO_LOSSES] + [("kto", loss) for loss in KTO_LOSSES] + [WITH_ANSWERS]
SFT_WEIGHT = 0.6


@pytest.fixture(scope="module")
def found(runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Any]:
    """All losses at once: loading TRL takes longer than computing them."""
    root = tmp_path_factory.mktemp("trl")
    folders = [
        make_run(
            root / f"{method}-{loss}",
            method=method,
            preference={
                "loss": loss.partition(" ")[0],
                "beta": 0.3,
                "desirable_weight": 1.5,
                "undesirable_weight": 0.7,
                "sft_weight": SFT_WEIGHT if (method, loss) == WITH_ANSWERS else 0.0,
            },
        )
        for method, loss in KINDS
    ]
    answers = runtime.call("compare_with_trl", folders=[str(folder) for folder in folders])
    return dict(zip(KINDS, answers, strict=True))


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_a_loss_for_preferences_is_the_one_of_trl(
    found: dict[tuple[str, str], Any], kind: tuple[str, str]
) -> None:
    answer = found[kind]
    assert answer["ours"] == pytest.approx(answer["theirs"], rel=1e-4)


def test_learning_the_better_answers_as_well_adds_their_loss(found: dict[tuple[str, str], Any]) -> None:
    alone, together = found["dpo", "sigmoid"]["ours"], found[WITH_ANSWERS]["ours"]
    assert together - alone > SFT_WEIGHT  # more than one nat a token, of a model that has learned nothing


def test_rewards_and_the_kl_term_are_those_of_trl(found: dict[tuple[str, str], Any]) -> None:
    pairs, labels = found["dpo", "sigmoid"], found["kto", "kto"]
    theirs = pairs["theirs_told"]
    assert pairs["told"]["reward_accuracy"] == pytest.approx(theirs["rewards/accuracies"])
    assert pairs["told"]["reward_margin"] == pytest.approx(theirs["rewards/margins"], rel=1e-3)
    assert pairs["told"]["reward_chosen"] == pytest.approx(theirs["rewards/chosen"], rel=1e-3)
    assert labels["told"]["kl"] == pytest.approx(labels["theirs_told"]["kl"], rel=1e-3)
