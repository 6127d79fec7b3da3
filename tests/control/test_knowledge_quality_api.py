"""The quality of retrieval over REST: measured by a job, explained at once, said by people; wrong questions are named."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.access import permissions
from penstock.access.permissions import Permission
from penstock.knowledge.quality.service import RetrievalQuality
from penstock.knowledge.quality.types import CompareRequest, MeasureRequest
from penstock.knowledge.types import InlineContext
from penstock.main.retrieval_quality import make_spec, measuring_handlers
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished

ROOT = "/api/v1/knowledge/quay"


@pytest.fixture
def quay(furnished: Furnished, tmp_path: Path) -> RetrievalQuality:
    """A base of two documents in the house."""
    folder = tmp_path / "quay"
    folder.mkdir()
    (folder / "crane.md").write_text("# Crane\n\nThe crane lifts nine tons. It is painted yellow.")
    (folder / "gate.md").write_text("# Gate\n\nThe gate of the quay is closed at ten in the evening.")
    furnished.services.knowledge.ingest("quay", folder)
    assert furnished.services.retrieval_quality is not None
    return furnished.services.retrieval_quality


LABELLED = {
    "name": "quay",
    "questions": [
        {"id": "tons", "question": "How much does the crane lift?", "labels": [{"document": "crane.md"}]},
        {
            "id": "gate",
            "question": "When is the gate closed?",
            "labels": [{"document": "gate.md", "quote": "The gate of the quay is closed at ten"}],
        },
    ],
}


def test_a_measurement_is_a_job_and_is_kept(
    owner: AsgiClient, furnished: Furnished, quay: RetrievalQuality
) -> None:
    assert owner.post_json("/api/v1/knowledge-questions/rows", LABELLED).json()["n_added"] == 2
    again = owner.post_json("/api/v1/knowledge-questions/rows", LABELLED).json()
    assert (again["n_added"], again["n_known"]) == (0, 2)
    sets = {each["name"]: each for each in owner.get("/api/v1/knowledge-questions").json()["sets"]}
    assert sets["quay"]["n_questions"] == 2 and sets["handbook:questions"]["is_shipped"]
    rows = owner.get("/api/v1/knowledge-questions/rows?ref=dataset:quay").json()["questions"]
    assert rows[1]["labels"][0]["quote"].startswith("The gate of the quay")
    queued = owner.post_json(f"{ROOT}/measurements", {"questions": "dataset:quay", "ks": [1, 2]})
    assert queued.status == 202
    job = furnished.services.jobs.get(queued.json()["job"])
    result = measuring_handlers(quay)[job.kind](InlineContext(), job.spec)  # type: ignore[arg-type]
    [row] = owner.get(f"{ROOT}/measurements").json()["rows"]
    assert row["id"] == result["measurement"] and row["questions"] == "dataset:quay@1"
    made = owner.get(f"{ROOT}/measurements/{row['id']}").json()
    figures = {each["name"]: each["value"] for each in made["modes"][0]["estimates"]}
    assert figures["recall@2"] == 1.0 and made["actor"]
    assert owner.get(f"{ROOT}/measurements/ms_nothing").json()["error"]["code"] == "PS-1541"


def test_questions_of_a_dataset_are_shown_to_nobody_who_may_not_read_datasets(
    app: Any, owner: AsgiClient, furnished: Furnished, quay: RetrievalQuality, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A measurement lists the questions that found nothing; and any base showed the measurements of every other."""
    owner.post_json("/api/v1/knowledge-questions/rows", LABELLED)
    made = quay.measuring.measure("quay", MeasureRequest(questions="dataset:quay"))
    compared = quay.comparing.compare("quay", CompareRequest(candidate="live", questions="dataset:quay"))
    assert owner.get(f"{ROOT}/measurements/{made.id}").status == 200
    assert owner.get(f"/api/v1/knowledge/other/measurements/{made.id}").json()["error"]["code"] == "PS-1541"
    assert owner.get(f"/api/v1/knowledge/other/comparisons/{compared.id}").status == 404
    may = frozenset(Permission) - {Permission.DATASETS_READ}
    monkeypatch.setattr(permissions, "SCOPE_PERMISSIONS", {"call": may})
    client = AsgiClient(app, bearer=furnished.call_key)
    assert client.get(f"{ROOT}/measurements").status == 200
    assert client.get(f"{ROOT}/measurements/{made.id}").status == 403


def test_a_comparison_is_a_job_and_is_kept(
    owner: AsgiClient, furnished: Furnished, quay: RetrievalQuality
) -> None:
    owner.post_json("/api/v1/knowledge-questions/rows", LABELLED)
    queued = owner.post_json(
        f"{ROOT}/comparisons", {"candidate": "live", "questions": "dataset:quay", "k": 2}
    )
    assert queued.status == 202
    job = furnished.services.jobs.get(queued.json()["job"])
    result = measuring_handlers(quay)[job.kind](InlineContext(), job.spec)  # type: ignore[arg-type]
    assert result["verdict"] in {"pass", "undecided"}
    [row] = owner.get(f"{ROOT}/comparisons").json()["rows"]
    assert owner.get(f"{ROOT}/comparisons/{row['id']}").json()["verdict"] == result["verdict"]
    bad = owner.post_json(f"{ROOT}/comparisons", {"candidate": "live", "rules": ["recall@5 > > 1"]})
    assert bad.status == 400 and "character" in bad.json()["error"]["message"]
    assert owner.post_json(f"{ROOT}/comparisons", {"candidate": "live", "k": 0}).status == 400


def test_jobs_say_what_they_were_asked() -> None:
    for request in (MeasureRequest(questions="dataset:a"), CompareRequest(candidate="new")):
        spec = make_spec("quay", request, "ada")
        assert msgspec.convert(spec["request"], type(request)) == request


def test_a_question_is_explained_at_once(owner: AsgiClient, quay: RetrievalQuality) -> None:
    body = {"question": "Which colour is the crane?", "expect": ["crane.md", "gate.md", "lamp.md"], "k": 1}
    made = owner.post_json(f"{ROOT}/explain", body).json()
    assert made["hits"][0]["document"] == "crane.md" and made["found"][0]["label"]["document"] == "crane.md"
    assert {each["why"] for each in made["missed"]} == {"below_k", "unknown_document"}
    filtered = owner.post_json(f"{ROOT}/explain", {**body, "filter": "path:gate.md"}).json()
    assert {each["why"] for each in filtered["missed"]} == {"filtered", "unknown_document"}
    assert owner.post_json("/api/v1/knowledge/nowhere/explain", body).status == 404
    assert owner.post_json(f"{ROOT}/explain", {"question": "?", "k": 0}).status == 400


def test_feedback_is_taken_and_makes_questions(owner: AsgiClient, quay: RetrievalQuality) -> None:
    said = {
        "feedback": [{"question": "Is there a lamp?", "kind": "missing", "document": "gate.md", "user": "u7"}]
    }
    assert owner.post_json(f"{ROOT}/feedback", said).status == 201
    page = owner.get(f"{ROOT}/feedback?kind=missing").json()
    assert page["counts"] == {"missing": 1} and page["rows"][0]["document"] == "gate.md"
    assert page["rows"][0]["actor"] == "user:u7"
    wrong = owner.post_json(f"{ROOT}/feedback", {"feedback": [{"question": "?", "kind": "love"}]})
    assert wrong.status == 400 and "feedback.0.kind" in wrong.json()["error"]["message"]
    dry = owner.post_json(f"{ROOT}/questions", {"name": "said", "kind": "feedback", "dry_run": True}).json()
    assert dry["n_added"] == 1 and dry["ref"] is None
    made = owner.post_json(f"{ROOT}/questions", {"name": "said", "kind": "feedback"}).json()
    assert made["ref"] == "dataset:said@1"
    nothing = owner.post_json(f"{ROOT}/questions", {"name": "asked", "kind": "traces"})
    assert nothing.json()["error"]["code"] == "PS-1540"


def test_reports_answer_for_a_base_without_traffic(owner: AsgiClient, quay: RetrievalQuality) -> None:
    assert owner.get(f"{ROOT}/reports/unanswered").json()["n_asked"] == 0
    assert owner.get(f"{ROOT}/reports/stale").json()["n_documents"] == 2
    unused = owner.get(f"{ROOT}/reports/unused").json()
    assert unused["n_unused"] == 2 and unused["note"]
    assert owner.get("/api/v1/knowledge/nowhere/reports/stale").status == 404


def test_a_watch_is_made_shown_and_ended(owner: AsgiClient) -> None:
    made = owner.post_json(
        "/api/v1/knowledge-watches/handbook", {"judge": "big", "budget_usd_per_day": "0.5"}
    )
    assert made.json()["settings"]["share"] == 0.05
    [listed] = owner.get("/api/v1/knowledge-watches").json()["watches"]
    assert listed["settings"]["app"] == "handbook"
    assert owner.post_json("/api/v1/knowledge-watches/handbook", {"judge": "handbook"}).status == 400
    assert owner.send("DELETE", "/api/v1/knowledge-watches/handbook").status == 200
    assert owner.send("DELETE", "/api/v1/knowledge-watches/handbook").status == 404
