"""Datasets over REST: uploads, pages, changes, traffic, exports, and who may do what."""

import json
from pathlib import Path
from typing import Any

from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import ANSWER, QUESTION, TRACE_ID, Furnished

ROWS = "".join(
    json.dumps({"id": f"q{n}", "Question": f"question {n}", "group": f"g{n // 2}"}) + "\n" for n in range(10)
)


def upload(
    client: AsgiClient, text: str | bytes = ROWS, query: str = "file=rows.jsonl&map=input=Question"
) -> Any:
    body = text if isinstance(text, bytes) else text.encode()
    return client.send("POST", f"/api/v1/datasets/questions/upload?{query}", body=body)


def test_an_upload_becomes_a_version_that_can_be_paged_filtered_and_exported(owner: AsgiClient) -> None:
    made = upload(owner)
    assert made.status == 201, made.text
    version = made.json()
    assert (version["ref"], version["is_new"], version["facts"]["n_groups"]) == (
        "dataset:questions@1",
        True,
        5,
    )
    listed = {each["name"]: each for each in owner.get("/api/v1/datasets").json()["datasets"]}
    assert (listed["questions"]["n_rows"], listed["handbook-questions"]["n_rows"]) == (10, None)
    page = owner.get("/api/v1/datasets/questions/rows?limit=4&offset=2").json()
    assert ([row["id"] for row in page["rows"]], page["next_cursor"]) == (["q2", "q3", "q4", "q5"], "6")
    found = owner.get("/api/v1/datasets/questions/rows?where=group:g1").json()["rows"]
    assert [row["id"] for row in found] == ["q2", "q3"]
    assert owner.get("/api/v1/datasets/questions/row?id=q7").json()["fields"] == {"input": "question 7"}
    assert owner.get("/api/v1/datasets/questions/row?id=q77").status == 404
    exported = owner.get("/api/v1/datasets/questions/export?format=csv&where=id:q1")
    assert exported.text.splitlines()[1].startswith("q1,question 1,g0,")
    assert exported.headers["content-disposition"] == 'attachment; filename="questions.csv"'
    assert owner.get("/api/v1/datasets/questions/export?format=openai").json()["error"]["code"] == "PS-1226"


def test_a_bad_upload_stores_nothing_and_names_its_rows(owner: AsgiClient) -> None:
    refused = upload(owner, ROWS + '{"id": "q1", "Question": "again"}\n{"Question": 7}\n')
    assert refused.status == 400
    error = refused.json()["error"]
    assert error["code"] == "PS-1221"
    assert [(each["place"], each["column"]) for each in error["fields"]["problems"]] == [
        ("rows.jsonl:11", "id"),
        ("rows.jsonl:12", "Question"),
    ]
    assert owner.get("/api/v1/datasets/questions").status == 404
    kept = upload(
        owner, ROWS + '{"Question": 7}\n', "file=a/b/rows.jsonl&map=input=Question&skip_invalid=true"
    )
    assert kept.json()["facts"]["left_out"] == {"wrong type": 1}
    assert kept.json()["facts"]["sources"][0]["source"] == "rows.jsonl"
    for query in ("file=rows.jsonl&map=nothing", "file=rows.jsonl&format=odd", "file=rows.jsonl&colour=red"):
        assert upload(owner, query=query).status == 400
    assert upload(owner, b"").json()["error"]["code"] == "PS-1225"


def test_a_check_tells_what_would_be_and_stores_nothing(owner: AsgiClient) -> None:
    report = owner.send(
        "POST", "/api/v1/datasets/check?file=rows.jsonl&map=input=Question", body=ROWS.encode()
    )
    assert (report.json()["format"], report.json()["n_rows"], report.json()["n_problems"]) == ("cases", 10, 0)
    assert owner.get("/api/v1/datasets/questions").status == 404


def test_changes_make_versions_with_lineage(owner: AsgiClient) -> None:
    upload(owner)
    path = "/api/v1/datasets/questions"
    split = owner.post_json(
        f"{path}/split", {"shares": {"train": 0.5, "test": 0.5}, "seed": 2, "note": "halves"}
    )
    assert (split.status, split.json()["number"], split.json()["note"]) == (201, 2, "halves")
    edited = owner.post_json(
        f"{path}/edit",
        {"set": [{"id": "q1", "fields": {"input": "mended"}}], "delete": ["q0"], "version": "1"},
    )
    assert (edited.json()["number"], edited.json()["facts"]["n_rows"]) == (3, 9)
    difference = owner.get(f"{path}/diff?base=1&other=3").json()
    assert (difference["n_removed"], difference["n_changed"]) == (1, 1)
    assert owner.post_json(f"{path}/tag", {"add": ["hard"], "where": {"ids": ["q1"]}}).json()["facts"][
        "tags"
    ] == {"hard": 1}
    assert (
        owner.post_json(f"{path}/append", {"rows": [{"fields": {"input": "new"}}]}).json()["facts"]["n_rows"]
        == 10
    )
    assert owner.post_json(f"{path}/filter", {"where": "tag:hard", "name": "hard"}).json()["name"] == "hard"
    assert owner.post_json(f"{path}/sample", {"n": 4, "name": "few"}).json()["facts"]["n_rows"] <= 4
    merged = owner.post_json("/api/v1/datasets/all/merge", {"refs": ["questions@1", "hard"], "prefix": True})
    assert (merged.json()["facts"]["n_rows"], len(merged.json()["parents"])) == (11, 2)
    clash = owner.post_json("/api/v1/datasets/all/merge", {"refs": ["questions@1", "hard"]})
    assert (clash.status, clash.json()["error"]["code"]) == (409, "PS-3221")
    assert owner.post_json(f"{path}/convert", {"format": "chat"}).json()["error"]["code"] == "PS-1226"
    assert owner.post_json(f"{path}/edit", {"set": [{"fields": 3}]}).status == 400
    versions = owner.get(path).json()["versions"]
    assert [each["number"] for each in versions] == [5, 4, 3, 2, 1]


def test_places_of_the_machine_are_read_but_not_the_home(owner: AsgiClient, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(ROWS)
    body = {"source": str(tmp_path / "rows.jsonl"), "map": ["input=Question"]}
    assert owner.post_json("/api/v1/datasets/places/import", body).json()["facts"]["n_rows"] == 10
    assert owner.post_json("/api/v1/datasets/check-place", body).json()["n_rows"] == 10
    inside = tmp_path / "furnished" / "control.db"
    refused = owner.post_json("/api/v1/datasets/places/import", {"source": str(inside)})
    assert (refused.status, refused.json()["error"]["code"]) == (403, "PS-2221")
    made = owner.post_json("/api/v1/datasets/handbook/import", {"source": "handbook:questions"})
    assert made.json()["facts"]["n_groups"] == 69


def test_traffic_and_feedback_become_rows(owner: AsgiClient, furnished: Furnished) -> None:
    made = owner.post_json(
        "/api/v1/datasets/asked/from-traces", {"search": "route:handbook", "expected": "reply"}
    )
    assert made.status == 201, made.text
    assert made.json()["facts"]["left_out"]["asks the same again"] > 10
    row = owner.get("/api/v1/datasets/asked/rows").json()["rows"][0]
    assert row["fields"] == {"messages": [{"role": "user", "content": QUESTION}], "expected": ANSWER}
    assert row["provenance"]["kind"] == "trace"
    assert row["metadata"]["model"] == "handbook"
    traces = owner.post_json(
        "/api/v1/datasets/roots/from-traces", {"subject": "trace", "limit": 3, "dedupe": False}
    )
    assert traces.json()["facts"]["n_rows"] == 3

    added = owner.post_json(
        "/api/v1/datasets/hard/traces", {"trace_id": TRACE_ID, "expected": "Seven to nine."}
    )
    assert added.json()["facts"]["n_rows"] == 1
    assert owner.post_json("/api/v1/datasets/hard/traces", {"trace_id": TRACE_ID}).json()["number"] == 1
    assert owner.post_json("/api/v1/datasets/hard/traces", {"trace_id": "ab" * 16}).status == 404

    root = row["provenance"]["source"].partition("/")
    judged = {
        "trace_id": root[0],
        "span_id": root[2],
        "name": "thumbs",
        "value": 0,
        "source": "human",
        "scorer": "ada",
    }
    mended = {**judged, "name": "correction", "value": None, "comment": "Seven hours.", "label": "given"}
    sent = owner.post_json("/api/v1/scores", {"scores": [judged, mended]})
    assert sent.status in {200, 201}, sent.text
    pairs = owner.post_json("/api/v1/datasets/pairs/from-feedback", {"format": "preference"})
    assert pairs.status == 201, pairs.text
    (pair,) = owner.get("/api/v1/datasets/pairs/rows").json()["rows"]
    assert (pair["fields"]["chosen"], pair["fields"]["rejected"]) == ("Seven hours.", ANSWER)


def test_a_key_that_only_calls_models_sees_no_dataset(app: Any, furnished: Furnished) -> None:
    caller = AsgiClient(app, bearer=furnished.call_key)
    assert caller.get("/api/v1/datasets").status == 403
    assert upload(caller).status == 403
