"""Verdicts of gates over REST: judged, listed, shown, and as evidence."""

import pytest

from penstock.control.app import create_control
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.evaluated import EvaluatedHouse, evaluated, evaluated_root

__all__ = ["evaluated", "evaluated_root"]
ROOT = "/api/v1/gates"


@pytest.fixture
def owner(evaluated: EvaluatedHouse) -> AsgiClient:
    """A client with the owner's key of the evaluated house."""
    return AsgiClient(create_control(evaluated.found.services), bearer=evaluated.found.owner_key)


@pytest.fixture
def judged(owner: AsgiClient, evaluated: EvaluatedHouse) -> dict[str, object]:
    body = {
        "gate": {"name": "rest", "rules": ["token_f1 >= baseline - 1 point"], "min_coverage": 0.8},
        "candidate": f"eval:{evaluated.made.strong}",
        "baseline": evaluated.made.weak,
    }
    made = owner.post_json(ROOT, body)
    assert made.status == 201, made.json()
    return dict(made.json())


def test_a_verdict_is_made_listed_and_shown(owner: AsgiClient, judged: dict[str, object]) -> None:
    assert judged["verdict"] == "pass"
    listed = owner.get(f"{ROOT}?name=rest&limit=1").json()
    assert listed["rows"][0] == judged == owner.get(f"{ROOT}/{judged['id']}").json()
    evidence = owner.get(f"{ROOT}/{judged['id']}/evidence").json()
    assert (evidence["gate"], evidence["verdict"]) == (judged["id"], "pass")
    assert owner.get(f"{ROOT}?verdict=maybe").status == 400
    assert owner.get(f"{ROOT}/gate_nothing").json()["error"]["code"] == "PS-1362"


def test_wrong_rules_and_running_evaluations_are_refused(
    owner: AsgiClient, evaluated: EvaluatedHouse
) -> None:
    gate = {"name": "rest", "rules": ["token_f1 >> 1"]}
    wrong = owner.post_json(ROOT, {"gate": gate, "candidate": evaluated.made.strong})
    assert (wrong.status, wrong.json()["error"]["code"]) == (400, "PS-1361")
    gate = {"name": "rest", "rules": ["token_f1 > 0.5"]}
    assert owner.post_json(ROOT, {"gate": gate, "candidate": evaluated.made.running}).status == 409
    assert owner.post_json(ROOT, {"gate": gate, "candidate": "eval:nothing"}).status == 404


def test_a_move_keeps_what_the_verdict_says_not_what_is_said_of_it(
    owner: AsgiClient, judged: dict[str, object]
) -> None:
    forged = {"gate": judged["id"], "sentences": ["all is well"]}
    moved = owner.post_json(
        "/api/v1/assets/model/pocket/aliases/prod/move", {"number": 1, "evidence": forged}
    )
    assert moved.status == 200
    assert moved.json()["evidence"]["sentences"] != ["all is well"]
