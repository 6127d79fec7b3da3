"""Judges over REST: what can be asked without a model, and that wrong questions are named."""

from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import TRACE_ID

ROOT = "/api/v1/judges"
SPEC = {"scorer": "closed_qa", "parameters": {"model": "nobody"}}


def test_kinds_are_listed_and_a_judge_is_kept_under_a_name(owner: AsgiClient) -> None:
    kinds = {each["name"]: each for each in owner.get(ROOT).json()["judges"]}
    assert kinds["rubric"]["required"] == ["model", "items"] and "stamp" not in kinds["rubric"]
    kept = owner.post_json(ROOT, {"name": "tone", "judge": SPEC}).json()
    assert kept["name"] == "scorer:tone@1" and kept["stamp"].startswith("closed_qa@1#")
    assert "scorer:tone@1" in {each["name"] for each in owner.get(ROOT).json()["judges"]}
    assert owner.get(f"{ROOT}/show?name=scorer:tone").json()["stamp"] == kept["stamp"]
    assert owner.get(f"{ROOT}/show?name=rubrik").json()["error"]["code"] == "PS-1314"
    assert owner.post_json(ROOT, {"name": "x", "judge": {"scorer": "rubric"}}).status == 400


def test_traces_and_texts_are_labelled_and_come_back_as_files(owner: AsgiClient) -> None:
    drafts = [
        {"name": "right", "label": "pass", "trace_id": TRACE_ID},
        {"name": "right", "value": False, "output": "Ten hours.", "input": "How long?", "comment": "no"},
    ]
    made = owner.post_json(f"{ROOT}/labels", {"labels": drafts})
    assert made.status == 201 and [each["value"] for each in made.json()["labels"]] == [1.0, 0.0]
    rows = owner.get(f"{ROOT}/labels/right").json()["rows"]
    traced = next(row for row in rows if row.get("trace_id") == TRACE_ID)
    assert "seven to nine hours" in traced["output"]["text"]
    [counted] = owner.get(f"{ROOT}/labels").json()["sets"]
    assert (counted["n_items"], counted["values"]) == (2, {"pass": 1, "0": 1})
    text = owner.get(f"{ROOT}/labels/right/export?form=csv").body.decode()
    taken = owner.post_json(f"{ROOT}/labels/import", {"text": text.replace("right", "again")})
    assert taken.json()["n_labels"] == 2 and taken.json()["sets"] == ["again"]
    gone = owner.send("DELETE", f"{ROOT}/labels/right/{traced['id']}")
    assert gone.json()["n_labels"] == 1
    assert owner.send("DELETE", f"{ROOT}/labels/right/{traced['id']}").status == 404


def test_too_few_labels_are_refused_before_anything_is_asked(owner: AsgiClient) -> None:
    reply = owner.post_json(f"{ROOT}/calibrations", {"judge": SPEC, "labels": "right"})
    assert reply.status == 422 and reply.json()["error"]["fields"]["missing"] == 100
    assert owner.get(f"{ROOT}/calibrations").json() == {"calibrations": []}
    assert owner.get(f"{ROOT}/calibrations/cal_x").json()["error"]["code"] == "PS-1312"


def test_wrong_bodies_are_named(owner: AsgiClient) -> None:
    bad = owner.post_json(f"{ROOT}/labels", {"labels": [{"name": "a", "valu": 1}]})
    assert "labels.0" in bad.json()["error"]["message"]
    assert owner.post_json(f"{ROOT}/labels", {"labels": []}).status == 400
    unknown = owner.post_json(f"{ROOT}/labels", {"labels": [{"name": "a", "value": 1, "trace_id": "0" * 32}]})
    assert unknown.json()["error"]["code"] == "PS-1310"
    body = {"judge": SPEC, "labels": "x", "min_labels": 3}
    assert "min_labels" in owner.post_json(f"{ROOT}/calibrations", body).json()["error"]["message"]


def test_a_judge_that_cannot_be_reached_gives_an_error_and_no_zero(owner: AsgiClient) -> None:
    body = {"judge": SPEC, "case": {"id": "c", "inputs": {"input": "q"}}, "outputs": [{"text": "a"}]}
    [score] = owner.post_json(f"{ROOT}/try", body).json()["scores"]
    assert (score["status"], score["fault"], score["value"]) == ("error", "judge", None)


def test_feedback_on_traces_becomes_labels(owner: AsgiClient) -> None:
    sent = {"name": "helpful", "value": 1, "source": "human", "scorer": "ada", "trace_id": TRACE_ID}
    assert owner.post_json("/api/v1/scores", sent).status == 201
    assert owner.post_json(f"{ROOT}/labels/helpful/feedback", {}).json()["n_labels"] == 1
    [row] = owner.get(f"{ROOT}/labels/helpful").json()["rows"]
    assert row["labels"][0]["rater"] == "ada" and row["labels"][0]["source"] == "feedback"
