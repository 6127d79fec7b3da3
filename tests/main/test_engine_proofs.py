"""Prompts of proofs: what a smaller context makes of them."""

import dataclasses

from penstock.deploy.deployments.proofs import Expected
from penstock.main.engine_proofs import ROOM, fit_prompts

EXPECTED = Expected(
    label="model:tiny@1",
    digest="sha256:aa",
    renderer_digest=None,
    prompts=(tuple(range(82)), (1, 2, 3)),
    stored=({1: -0.1}, {2: -0.2}),
)


def test_prompts_that_fit_stay_with_what_was_noted_of_them() -> None:
    assert fit_prompts(EXPECTED, None) == EXPECTED
    assert fit_prompts(EXPECTED, 82 + ROOM) == EXPECTED
    fitted = fit_prompts(EXPECTED, 32)
    assert (fitted.prompts, fitted.stored) == (((1, 2, 3),), ({2: -0.2},))


def test_prompts_that_do_not_fit_are_cut_and_held_against_a_fresh_load_alone() -> None:
    golden = dataclasses.replace(EXPECTED, stored=None)
    assert [len(each) for each in fit_prompts(golden, 32).prompts] == [32 - ROOM, 3]
    fitted = fit_prompts(dataclasses.replace(EXPECTED, prompts=EXPECTED.prompts[:1], stored=({1: -0.1},)), 16)
    assert ([len(each) for each in fitted.prompts], fitted.stored) == ([16 - ROOM], None)
