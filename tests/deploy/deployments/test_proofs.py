"""What an engine shows is held against what was registered; each departure is one refusal that names it."""

import math
from typing import Any

import pytest

from penstock.deploy.deployments.errors import ProofFailed
from penstock.deploy.deployments.proofs import Expected, difference, judge_engine

TOP = {"5": -0.1, "6": -2.5, "7": -4.0}
EXPECTED = Expected(
    label="model:tiny@1",
    digest="sha256:aa",
    renderer_digest="sha256:rr",
    prompts=((1, 2, 3), (1, 4)),
    stop_ids=(2,),
    adapters=("sha256:dd",),
)


def shown(**members: Any) -> dict[str, Any]:
    return {
        "digest": "sha256:aa",
        "version": "model:tiny@1",
        "renderer_digest": "sha256:rr",
        "probes": [{"top": TOP, "n_prompt_tokens": 3}, {"top": TOP, "n_prompt_tokens": 2}],
        "fresh": [TOP, TOP],
        "stops": {"2": True},
        "others": {"9": False},
        "adapters": {"max_difference": 0.0, "n_compared": 24, "effect": {"sha256:dd": 0.3}},
        **members,
    }


def test_what_is_as_registered_passes_and_says_what_was_compared() -> None:
    proof = judge_engine(shown(), EXPECTED)
    assert proof["passed"]
    assert proof["prompt_tokens"] == [3, 2]
    assert proof["logprobs against a fresh load of the file"] == {"max_difference": 0.0, "bound": 0.02}
    assert proof["adapters kept apart"]["n"] == 24


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"digest": "sha256:bb"}, "it hosts"),
        ({"renderer_digest": "sha256:other"}, "renderer"),
        # double or missing start tokens: llama.cpp issues 7062 and 15086
        (
            {"probes": [{"top": TOP, "n_prompt_tokens": 4}, {"top": TOP, "n_prompt_tokens": 3}]},
            "counts",
        ),
        ({"fresh": [{"5": -0.2, "6": -2.5, "7": -4.0}, TOP]}, "0.1 nats from a fresh load"),
        # what is no number is near nothing
        ({"fresh": [{**TOP, "6": math.nan}, TOP]}, "inf nats from a fresh load"),
        ({"probes": [{"top": {"5": None}, "n_prompt_tokens": n} for n in (3, 2)]}, "inf nats"),
        ({"stops": {"2": False}}, "stop tokens"),
        # cached work of one adapter in another's answer: llama.cpp issue 26207
        ({"adapters": {"max_difference": 0.4, "n_compared": 24, "effect": {"sha256:dd": 0.3}}}, "off after"),
        # an adapter that was not applied at all
        (
            {"adapters": {"max_difference": 0.0, "n_compared": 24, "effect": {"sha256:dd": 0.0}}},
            "change nothing",
        ),
        # what JSON makes of a figure that is no number
        (
            {"adapters": {"max_difference": None, "n_compared": 24, "effect": {"sha256:dd": 0.3}}},
            "nan nats off",
        ),
        (
            {"adapters": {"max_difference": 0.0, "n_compared": 24, "effect": {"sha256:dd": None}}},
            "change nothing",
        ),
        ({"adapters": None}, "loaded no adapter"),
    ],
)
def test_each_departure_is_refused_by_name(members: dict[str, Any], told: str) -> None:
    with pytest.raises(ProofFailed, match=told):
        judge_engine(shown(**members), EXPECTED)


def test_what_registration_noted_of_the_source_is_held_with_the_bound_of_the_precision() -> None:
    stored = ({5: -0.5, 6: -2.5, 7: -4.0}, {5: -0.1, 6: -2.5, 7: -4.0})
    members: dict[str, Any] = {**_members(EXPECTED), "stored": stored}
    with pytest.raises(ProofFailed, match="as registered"):
        judge_engine(shown(), Expected(**{**members, "precision": "f16"}))
    assert judge_engine(shown(), Expected(**{**members, "precision": "q8_0"}))["passed"]


def test_all_departures_are_told_at_once() -> None:
    with pytest.raises(ProofFailed) as caught:
        judge_engine(shown(digest="sha256:bb", stops={}), EXPECTED)
    assert "it hosts" in caught.value.message
    assert "stop tokens" in caught.value.message


def test_vectors_are_held_by_their_angle() -> None:
    facts = {key: value for key, value in shown().items() if key not in {"probes", "stops", "others"}}
    same = {**facts, "vectors": [[1.0, 0.0]], "fresh": [[1.0, 0.0]]}
    assert judge_engine(same, EXPECTED)["cosine"]["min"] == 1.0
    with pytest.raises(ProofFailed, match="cosine"):
        judge_engine({**same, "fresh": [[0.0, 1.0]]}, EXPECTED)


def test_a_token_that_is_not_listed_counts_with_its_distance_to_the_least_likely_one() -> None:
    assert difference({1: -0.1, 2: -3.0}, {1: -0.1, 3: -1.0}) == 0.0
    assert difference({1: -0.1, 2: -0.2}, {3: -1.0}) == pytest.approx(0.9)
    assert difference({1: -0.1}, {}) == float("inf")


def _members(expected: Expected) -> dict[str, Any]:
    return {name: getattr(expected, name) for name in expected.__dataclass_fields__}
