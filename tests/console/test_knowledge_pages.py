"""Pages of knowledge in process: each stands, says what is so and what to do, and changes only what its form may."""

import re
from pathlib import Path
from typing import Any

import pytest

from penstock.knowledge.quality.types import CompareRequest, Label, LabelledQuestion, MeasureRequest
from penstock.knowledge.recipes import change_recipe
from penstock.knowledge.types import InlineContext
from tests.console.conftest import make_app, sign_in
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import ANSWER, Furnished

BASE = "/knowledge/handbook"


@pytest.fixture(scope="module")
def client(house: Furnished) -> AsgiClient:
    return open_base(house)


def open_base(house: Furnished) -> AsgiClient:
    """Return a visitor of a house whose base has a second recipe beside what is live."""
    live = house.services.knowledge.live_recipe("handbook")
    house.services.knowledge.build_candidate(
        "handbook", "words", change_recipe(live, {"search": {"fusion": "lexical"}}), note="words alone"
    )
    return sign_in(AsgiClient(make_app(house)), house.owner_key)


def post(client: AsgiClient, page: str, path: str, fields: dict[str, str]) -> Any:
    token = re.search(r'name="csrf_token" value="([^"]+)"', client.get(page).text)
    assert token is not None
    return client.post_form(path, {**fields, "csrf_token": token[1]})


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/knowledge", 'href="/knowledge/handbook"'),
        ("/knowledge", '<span class="tag">words</span>'),
        ("/knowledge-new", "pages of web sites"),
        (BASE, "what answers rest on now"),
        (BASE, "search.fusion"),
        (f"{BASE}?verify=1", "names gen_"),
        (f"{BASE}/health", "stale"),
        (f"{BASE}/documents", "broken.pdf"),
        (f"{BASE}/documents?state=unreadable", "broken.pdf"),
        (f"{BASE}/documents?text=hydra", "hydration.md"),
        (f"{BASE}/documents?text=nothing-like-this", "Nothing matches"),
        (f"{BASE}/documents/sleep-basics.md", ANSWER),
        (f"{BASE}/documents/sleep-basics.md", "searched now"),
        (f"{BASE}/uses?path=sleep-basics.md", "No question of the last 30 days"),
        (f"{BASE}/search", "Ask it something"),
        (f"{BASE}/search?q=how+many+hours+of+sleep", ANSWER),
        (f"{BASE}/search?q=sleep&b=words", "by words"),
        (f"{BASE}/search?q=sleep&settings=fusion%3Dlexical", "live with fusion=lexical"),
        (f"{BASE}/search?q=sleep&expect=hydration.md%3Bbroken.pdf", "Missed: broken.pdf"),
        (f"{BASE}/search?q=zebra", "zebra"),
        (f"{BASE}/sources", "articles"),
        (f"{BASE}/sources/new?kind=web", "robots.txt"),
        (f"{BASE}/sources/folder/edit", "articles"),
        (f"{BASE}/quality", "Compare two recipes"),
        (f"{BASE}/quality/unanswered", "Nobody asked anything"),
        (f"{BASE}/quality/stale", "Nothing is stale"),
        (f"{BASE}/quality/unused?days=7", "says little"),
    ],
)
def test_each_page_stands_and_says_what_it_is_for(client: AsgiClient, path: str, said: str) -> None:
    reply = client.get(path)
    assert reply.status == 200, reply.text[:2000]
    assert said in reply.text


def test_a_search_of_before_leads_to_the_tester(client: AsgiClient) -> None:
    reply = client.get(f"{BASE}?q=sleep")
    assert (reply.status, reply.headers["location"]) == (303, f"{BASE}/search?q=sleep")


def test_what_is_wrong_with_a_filter_or_a_setting_is_told_in_place(client: AsgiClient) -> None:
    for query in ("where=language%3A", "settings=fusion%3Dmagic", "settings=nothing", "b=no-such-track"):
        reply = client.get(f"{BASE}/search?q=sleep&{query}")
        assert reply.status == 200
        assert 'class="problem"' in reply.text, query


def test_ranks_that_change_between_two_recipes_are_told(client: AsgiClient) -> None:
    page = client.get(f"{BASE}/search?q=how+many+hours+of+sleep&b=words").text
    assert "same rank" in page
    assert "moved-" in page


def test_what_somebody_may_not_read_is_not_found(client: AsgiClient, house: Furnished) -> None:
    page = client.get(f"{BASE}/search?q=sleep&as=ada&where=path:hydration.md").text
    assert ANSWER not in page


def test_a_judgement_is_kept_once_and_shown(client: AsgiClient, house: Furnished) -> None:
    found = house.services.knowledge.retrieve("handbook", "how long to sleep", 1)
    fields = {
        "question": "how long to sleep",
        "kind": "label",
        "document": found.hits[0].document,
        "passage_id": found.hits[0].passage_id,
        "rank": "1",
        "generation": found.generation,
        "back": f"{BASE}/search?q=how+long+to+sleep",
    }
    page = f"{BASE}/search?q=how+long+to+sleep"
    reply = post(client, page, f"{BASE}/search/feedback", fields)
    assert reply.status == 303
    assert reply.headers["location"].startswith(page)
    kept = house.services.retrieval_quality.feedback.list_feedback("handbook").rows  # type: ignore[union-attr]
    assert [(each.kind, each.rank) for each in kept] == [("label", 1)]
    assert 'value="label" aria-pressed="true"' in client.get(page).text
    elsewhere = post(client, page, f"{BASE}/search/feedback", {**fields, "back": "https://evil.example/"})
    assert elsewhere.headers["location"].startswith(f"{BASE}/search")
    assert post(client, page, f"{BASE}/search/feedback", {**fields, "kind": "wonderful"}).status == 400


def test_what_should_have_been_found_can_be_said(client: AsgiClient, house: Furnished) -> None:
    page = f"{BASE}/search?q=naps&k=1&expect=hydration.md"
    assert 'value="missing"' in client.get(page).text
    fields = {"question": "naps", "kind": "missing", "document": "hydration.md", "back": page}
    assert post(client, page, f"{BASE}/search/feedback", fields).status == 303
    quality = house.services.retrieval_quality
    assert quality is not None
    assert quality.feedback.list_feedback("handbook", kinds=["missing"]).rows[0].document == "hydration.md"


def test_a_form_without_the_token_changes_nothing(client: AsgiClient) -> None:
    paths = ("build", "run", "switch", "rollback", "drop", "search/feedback", "sources/new")
    more = ("sources/folder/edit", "sources/folder/remove", "quality/measure", "quality/questions")
    for path in (*paths, *more):
        assert client.post_form(f"{BASE}/{path}", {"track": "words"}).status == 403


def test_a_build_becomes_a_job(client: AsgiClient, house: Furnished) -> None:
    reply = post(client, BASE, f"{BASE}/build", {"track": "bigger", "changes": "chunk.size=256"})
    assert reply.headers["location"].startswith("/jobs/")
    job = house.services.jobs.get(reply.headers["location"].removeprefix("/jobs/"))
    assert job.kind == "knowledge.build"
    assert job.spec["recipe"]["chunk"] == {"size": 256}
    wrong = post(client, BASE, f"{BASE}/build", {"track": "bigger", "changes": "chunk.size=huge"})
    assert "notice=chunk.size" in wrong.headers["location"]


def test_a_switch_needs_evidence_or_a_reason_and_can_be_taken_back(furnished: Furnished) -> None:
    house, client = furnished, open_base(furnished)
    before = house.services.knowledge.list_tracks("handbook")[0].generation
    refused = post(client, BASE, f"{BASE}/switch", {"track": "words"})
    assert refused.status == 303
    assert house.services.knowledge.list_tracks("handbook")[0].generation == before
    done = post(client, BASE, f"{BASE}/switch", {"track": "words", "reason": "the vectors are down"})
    assert "words+is+live+now" in done.headers["location"]
    assert "Roll back to previous" in client.get(BASE).text
    back = post(client, BASE, f"{BASE}/rollback", {"reason": "they are up again"})
    assert "Rolled+back" in back.headers["location"]
    assert house.services.knowledge.list_tracks("handbook")[0].generation == before


def test_a_source_is_tried_added_changed_paused_and_removed(
    client: AsgiClient, house: Furnished, tmp_path: Path
) -> None:
    (tmp_path / "notes.md").write_text("# Notes\n\nTea is drunk at four.\n")
    sources = house.services.sources
    form = f"{BASE}/sources/new"
    fields = {"kind": "folder", "name": "notes", "s-location": str(tmp_path), "s-include": "*.md\n*.txt\n"}
    tried = post(client, form, form, {**fields, "do": "try"})
    assert tried.status == 200
    assert "It would hold 1" in tried.text and "notes.md" in tried.text
    assert [each.name for each in sources.list_sources("handbook")] == ["folder"]
    added = post(client, form, form, {**fields, "do": "save", "schedule": "1h"})
    assert added.headers["location"].startswith(f"{BASE}/sources?notice=")
    row = sources.get("handbook", "notes")
    assert row.settings["include"] == ["*.md", "*.txt"]
    assert row.settings["prefix"] == "notes/"
    assert row.schedule == {"every": "1h"}
    edit = f"{BASE}/sources/notes/edit"
    assert post(client, edit, edit, {"s-include": "", "s-watch": "yes", "do": "save"}).status == 303
    row = sources.get("handbook", "notes")
    assert "include" not in row.settings and row.settings["watch"] is True and row.schedule is None
    post(client, BASE, f"{BASE}/sources/notes/pause", {})
    assert sources.get("handbook", "notes").is_paused
    assert ">paused<" in client.get(f"{BASE}/sources").text
    post(client, BASE, f"{BASE}/sources/notes/remove", {})
    assert [each.name for each in sources.list_sources("handbook")] == ["folder"]


def test_a_source_that_cannot_be_comes_back_with_what_was_written(client: AsgiClient) -> None:
    form = f"{BASE}/sources/new"
    fields = {"kind": "folder", "name": "gone", "s-location": "not/absolute", "s-properties": "{]"}
    reply = post(client, form, form, {**fields, "do": "save"})
    assert reply.status == 400
    assert "Properties is not JSON" in reply.text
    assert 'value="not/absolute"' in reply.text


def test_a_base_begins_with_its_first_source(client: AsgiClient) -> None:
    reply = client.get("/knowledge-new?name=wiki&kind=web")
    assert (reply.status, reply.headers["location"]) == (303, "/knowledge/wiki/sources/new?kind=web")
    assert "A new source: web" in client.get("/knowledge/wiki/sources/new?kind=web").text
    assert 'class="problem"' in client.get("/knowledge-new?name=No+Name&kind=web").text


def test_measuring_and_comparing_become_jobs(client: AsgiClient, house: Furnished) -> None:
    page = f"{BASE}/quality"
    fields = {"questions": "handbook:questions", "mode-lexical": "on", "limit": "5"}
    reply = post(client, page, f"{page}/measure", fields)
    job = house.services.jobs.get(reply.headers["location"].removeprefix("/jobs/"))
    assert (job.kind, job.spec["request"]["modes"]) == ("knowledge.measure", ["as_is", "lexical"])
    wrong = post(client, page, f"{page}/compare", {"candidate": "words", "rules": "no rule at all"})
    assert "notice=" in wrong.headers["location"]
    reply = post(client, page, f"{page}/compare", {"candidate": "words", "questions": "handbook:questions"})
    job = house.services.jobs.get(reply.headers["location"].removeprefix("/jobs/"))
    assert (job.kind, job.spec["request"]["candidate"]) == ("knowledge.compare", "words")


def test_what_was_measured_and_compared_is_shown_with_intervals(client: AsgiClient, house: Furnished) -> None:
    quality = house.services.retrieval_quality
    assert quality is not None
    label = Label(document="sleep-basics.md", section="How much is enough")
    asked = [
        LabelledQuestion(id=f"q{number}", question=text, labels=[label])
        for number, text in enumerate(("how many hours of sleep", "sleep for teenagers", "enough sleep"))
    ]
    made = quality.questions.add("sleep-questions", asked, actor="ada")
    measured = quality.measuring.measure(
        "handbook",
        MeasureRequest(questions=made.ref or "", modes=("as_is", "lexical")),
        ctx=InlineContext(),
        actor="ada",
    )
    compared = quality.comparing.compare(
        "handbook", CompareRequest(candidate="words", questions=made.ref), ctx=InlineContext(), actor="ada"
    )
    page = client.get(f"{BASE}/quality").text
    assert 'class="interval-field"' in page
    assert measured.id in page and compared.id in page
    assert "by words alone" in client.get(f"{BASE}/quality/measurements/{measured.id}").text
    verdict = client.get(f"{BASE}/quality/comparisons/{compared.id}").text
    assert f"verdict-{compared.verdict}" in verdict
    assert "words against live" in verdict
    assert client.get(f"/knowledge/other/quality/measurements/{measured.id}").status == 404
    assert compared.id in client.get(BASE).text  # as the evidence of a switch


def test_an_unknown_base_or_document_is_told(client: AsgiClient) -> None:
    for path in ("", "/documents", "/search", "/documents/none.md"):
        assert client.get(f"/knowledge/none{path}").status == 404
    assert client.get(f"{BASE}/documents/none.md").status == 404


def test_passages_can_be_linked_to(client: AsgiClient, house: Furnished) -> None:
    passages = house.services.knowledge.list_passages("handbook", "sleep-basics.md")
    page = client.get(f"{BASE}/documents/sleep-basics.md").text
    assert all(f'id="{each.id}"' in page for each in passages)
