"""Evaluations and experiments over REST: started, read, compared, sent by local runs; what is wrong is named."""

import json
from typing import Any

import pytest

from penstock.control.app import create_control
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.evaluated import EvaluatedHouse, evaluated, evaluated_root

__all__ = ["evaluated", "evaluated_root"]
ROOT = "/api/v1/evaluations"


@pytest.fixture
def owner(evaluated: EvaluatedHouse) -> AsgiClient:
    """A client with the owner's key of the evaluated house."""
    return AsgiClient(create_control(evaluated.found.services), bearer=evaluated.found.owner_key)


def test_an_evaluation_is_read_with_its_figures_and_cases(
    owner: AsgiClient, evaluated: EvaluatedHouse
) -> None:
    weak = evaluated.made.weak
    record = owner.get(f"{ROOT}/{weak}").json()
    assert owner.get(f"{ROOT}/eval:{weak}").json() == record
    report = owner.get(f"{ROOT}/{weak}/estimates?level=0.9").json()
    assert {each["level"] for each in report["estimates"]} == {0.9}
    page = owner.get(f"{ROOT}/{weak}/cases?limit=2&score=token_f1&sort=-score").json()
    assert len(page["rows"]) == 2
    case_id = page["rows"][0]["case"]["id"]
    assert owner.get(f"{ROOT}/{weak}/cases/{case_id}").json()["case"]["id"] == case_id
    lines = owner.get(f"{ROOT}/{weak}/export").text.splitlines()
    assert len(lines) == record["n_cases"]
    assert json.loads(lines[0])["case"]["id"]


def test_two_evaluations_are_compared_and_ranked(owner: AsgiClient, evaluated: EvaluatedHouse) -> None:
    weak, strong = evaluated.made.weak, evaluated.made.strong
    report = owner.get(f"{ROOT}/compare?baseline={weak}&candidate={strong}&score=token_f1").json()
    assert [each["name"] for each in report["comparisons"]] == ["token_f1"]
    page = owner.get(
        f"{ROOT}/compare/cases?baseline={weak}&candidate={strong}&change=improved&limit=3"
    ).json()
    assert {row["change"] for row in page["rows"]} == {"improved"}
    board = owner.get(f"{ROOT}/leaderboard?evaluation={weak}&evaluation={strong}").json()
    assert len(board["rows"]) == 2


def test_what_is_wrong_is_named(owner: AsgiClient) -> None:
    def refused(spec: dict[str, Any]) -> tuple[int, str, str]:
        reply = owner.post_json(ROOT, {"spec": spec})
        error = reply.json()["error"]
        return reply.status, error["code"], error["message"]

    assert refused({"name": "a"})[:2] == (400, "PS-1001")
    status, code, message = refused({"name": "a", "target": {"model": "m", "python": "os:getcwd"}})
    assert (status, code) == (400, "PS-1332")
    assert "2 are (model, python)" in message
    target = {"name": "a", "dataset": "dataset:x"}
    assert refused({**target, "target": {"python": "os:getcwd"}})[1] == "PS-1336"
    assert refused({**target, "target": {"model": "m"}, "scorers": [{"scorer": "exat"}]})[1] == "PS-1270"
    assert refused({**target, "target": {"model": "m"}, "repeats": 0})[1] == "PS-1332"
    assert refused({**target, "target": {"model": "m"}, "budget": {"usd": -1}})[1] == "PS-1332"
    assert owner.get(f"{ROOT}/eval_nothing").status == 404
    assert owner.get("/api/v1/experiments/nothing").json()["error"]["code"] == "PS-1331"


def test_a_local_run_sends_what_it_makes_and_may_send_it_twice(owner: AsgiClient) -> None:
    spec = {"name": "sent", "target": {"python": "bot.py:answer"}, "slices": ["lang"]}
    cases = [
        {"id": f"c{number}", "inputs": {"input": "x"}, "metadata": {"lang": "de"}} for number in range(3)
    ]
    record = owner.post_json(f"{ROOT}/local", {"spec": spec, "cases": cases}).json()
    path = f"{ROOT}/local/{record['id']}"
    work = owner.get(f"{path}/work").json()["work"]
    assert [each["case"]["id"] for each in work] == ["c0", "c1", "c2"]
    score = {"name": "mine", "value": 1.0, "status": "scored", "scorer": "mine@1#0"}
    body = {
        "outputs": [{"output": {"case_id": "c0", "text": "y"}}],
        "scores": [{"case_id": "c0", "repeat": 0, "score": score}],
    }
    for _ in range(2):
        assert owner.post_json(f"{path}/record", body).json()["n_outputs"] == 1
    wrong = owner.post_json(f"{path}/record", {"outputs": [{"output": {"case_id": "zz", "text": "y"}}]})
    assert (wrong.status, wrong.json()["error"]["code"]) == (400, "PS-1340")
    assert owner.get(f"{path}/work").json()["work"][0]["scored"] == [[0, "mine"]]
    column = {"name": "mine", "stamp": "mine@1#0"}
    ended = owner.post_json(f"{path}/finish", {"state": "done", "columns": [column]}).json()
    assert (ended["state"], ended["n_ok"]) == ("done", 1)
    (mine,) = [
        each
        for each in owner.get(f"{ROOT}/{record['id']}/estimates").json()["estimates"]
        if each["name"] == "mine"
    ]
    assert (mine["value"], mine["n"], mine["n_cases"], mine["n_skipped"]) == (1.0, 1, 3, 2)
    assert owner.send("DELETE", f"{ROOT}/{record['id']}").status == 200
    assert owner.get(f"{ROOT}/{record['id']}").status == 404
