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


def release(evaluated: EvaluatedHouse) -> AsgiClient:
    """A client with a key that may move aliases, on evidence alone."""
    key = evaluated.found.services.keys.create("ci", ("release",)).key
    return AsgiClient(create_control(evaluated.found.services), bearer=key)


MOVE = "/api/v1/assets/model/pocket/aliases/prod/move"


@pytest.mark.parametrize(
    "evidence",
    [
        {"kind": "parity", "passed": True},
        {"ingest": {"n_documents": 3}},
        {"verdict": "pass", "sentences": ["all is well"]},
        {"gate": "gate_made_up", "verdict": "pass"},
        {"kind": "gate", "gate": ""},
    ],
)
@pytest.mark.parametrize("alias", ["prod", "canary"])
def test_evidence_that_a_request_makes_up_moves_nothing_and_is_kept_nowhere(
    owner: AsgiClient, evidence: dict[str, object], alias: str
) -> None:
    before = owner.get("/api/v1/assets/model/pocket/history").json()
    path = f"/api/v1/assets/model/pocket/aliases/{alias}/move"
    refused = owner.post_json(path, {"number": 1, "evidence": evidence})
    assert (refused.status, refused.json()["error"]["code"]) == (403, "PS-2360")
    assert owner.get("/api/v1/assets/model/pocket/history").json() == before


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (MOVE, {"number": 1, "override_reason": "incident 7"}),
        ("/api/v1/prompts/answer/aliases/prod/move", {"version": "1", "override_reason": "incident 7"}),
        ("/api/v1/apps/handbook/aliases/prod/move", {"version": "1", "reason": "incident 7"}),
    ],
)
def test_an_override_asks_for_a_permission_of_its_own(
    evaluated: EvaluatedHouse, path: str, body: dict[str, object]
) -> None:
    refused = release(evaluated).post_json(path, body)
    assert refused.status == 403
    assert "aliases.override" in refused.json()["error"]["message"]


def test_scores_that_were_handed_in_do_not_release_without_that_permission(
    owner: AsgiClient, evaluated: EvaluatedHouse, judged: dict[str, object]
) -> None:
    assert judged["handed_in"] == judged["evaluations"]
    refused = release(evaluated).post_json(MOVE, {"number": 1, "gate": judged["id"]})
    assert (refused.status, "aliases.override" in refused.json()["error"]["message"]) == (403, True)
    moved = owner.post_json(MOVE, {"number": 1, "gate": judged["id"]})
    assert moved.status == 200
    assert moved.json()["evidence"]["handed_in"] == judged["evaluations"]


def test_overrides_are_listed_with_their_reasons(owner: AsgiClient, evaluated: EvaluatedHouse) -> None:
    registry = evaluated.found.services.registry
    version = registry.register("prompt", "listed", {"text": "one"})
    path = "/api/v1/assets/prompt/listed/aliases/prod/move"
    assert owner.post_json(path, {"number": version.number, "override_reason": "incident 7"}).status == 200
    newest = owner.get("/api/v1/alias-overrides?limit=1").json()["moves"]
    assert [(each["name"], each["reason"], each["is_override"]) for each in newest] == [
        ("listed", "incident 7", True)
    ]
