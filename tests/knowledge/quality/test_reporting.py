"""Reports: what was not answered is put together by what it asks, what is out of date is told with why, the cited first."""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from penstock.base.errors import UpstreamUnavailable
from penstock.knowledge.errors import UnknownKnowledge
from penstock.knowledge.quality.clusters import cluster_vectors, cluster_words
from penstock.knowledge.quality.errors import NoTraffic
from penstock.knowledge.quality.report_types import Asked
from penstock.knowledge.quality.reporting import DAY_NS, ReportService, find_stale, why_unanswered
from tests.knowledge.quality.conftest import Island

NOW = 1_800_000_000 * 10**9


class Recorded:
    """Recorded questions, in the order given."""

    def __init__(self, *asked: Asked) -> None:
        self._asked = asked

    def read(
        self, base: str, *, since_ns: int | None, until_ns: int | None = None, limit: int
    ) -> Iterator[Asked]:
        del base, until_ns
        yield from (each for each in self._asked[:limit] if since_ns is None or each.time_ns >= since_ns)


class Vectors:
    """Vectors by hand; or none."""

    def __init__(self, rows: Sequence[Sequence[float]] | None) -> None:
        self._rows = rows

    def embed(self, base: str, texts: Sequence[str]) -> Any:
        del base
        if self._rows is None:
            raise UpstreamUnavailable("nothing embeds.")
        return np.array(self._rows[: len(texts)], dtype=np.float32)


def asked(question: str, *, days: float = 1.0, **facts: Any) -> Asked:
    return Asked(
        question=question,
        time_ns=NOW - round(days * DAY_NS),
        **{"n_hits": 3, "has_abstained": False, **facts},
    )


@pytest.mark.parametrize(
    ("facts", "reasons"),
    [
        ({}, []),
        ({"has_abstained": True}, ["abstained"]),
        ({"n_hits": 0, "has_abstained": True}, ["nothing_found"]),
        ({"thumbs": "down"}, ["thumbs_down"]),
        ({"has_abstained": True, "thumbs": "down"}, ["abstained", "thumbs_down"]),
        ({"is_unanswerable": True}, ["error"]),
        ({"top_dense_score": 0.1}, ["low_score"]),
        ({"top_dense_score": None}, []),
        ({"n_hits": None, "has_abstained": None}, []),
    ],
)
def test_why_a_question_counts_as_unanswered(facts: dict[str, Any], reasons: list[str]) -> None:
    assert why_unanswered(asked("?", **facts), 0.3) == reasons


def report(island: Island, *questions: Asked, vectors: Any = None) -> ReportService:
    return ReportService(island.engine, island.knowledge, Recorded(*questions), vectors, clock=lambda: NOW)


def test_a_report_that_read_no_further_says_so(island: Island, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = [asked(f"question {number}", n_hits=0) for number in range(5)]
    whole = report(island, *questions)
    assert whole.stale("island").note is None
    monkeypatch.setattr("penstock.knowledge.quality.reporting.MAX_READ", 3)
    monkeypatch.setattr("penstock.knowledge.quality.reporting.FEW_RETRIEVALS", 1)
    cut = report(island, *questions)
    notes = [cut.unanswered("island").note, cut.stale("island").note, cut.unused("island").note]
    assert notes == ["only the newest 3 questions were read"] * 3
    assert cut.unanswered("island").n_asked == 3


def test_questions_that_ask_the_same_are_one_cluster_with_what_came_nearest(island: Island) -> None:
    near = {"has_abstained": True, "documents": ["ferry.md", "boats.md"]}
    service = report(
        island,
        asked("When does the night ferry leave?", **near),
        asked("May dogs travel on the ferry?", has_abstained=True, documents=["boats.md"]),
        asked("Is there a ferry at night?", days=2, **near),
        asked("When does the night ferry leave?", days=3, thumbs="down", documents=["ferry.md"]),
        asked("Who travels free?"),
        asked("Too long ago", days=40, has_abstained=True),
        vectors=Vectors([[1, 0], [0, 1], [0.96, 0.28], [1, 0]]),
    )
    made = service.unanswered("island", days=30)
    assert (made.n_asked, made.n_unanswered, made.by) == (5, 4, "vectors")
    assert made.reasons == {"abstained": 3, "thumbs_down": 1}
    first, second = made.clusters
    assert (first.n, first.title) == (3, "When does the night ferry leave?")
    assert len(first.examples) == 2, "a wording is shown once"
    assert first.candidates == ["ferry.md", "boats.md"] and first.last_ns > first.first_ns
    assert second.n == 1 and second.candidates == ["boats.md"]


def test_without_vectors_questions_are_put_together_by_their_words(island: Island) -> None:
    service = report(
        island,
        asked("When does the night ferry leave?", has_abstained=True),
        asked("When does the last night ferry leave?", has_abstained=True),
        asked("Do bees sleep?", has_abstained=True),
        vectors=Vectors(None),
    )
    made = service.unanswered("island")
    assert made.by == "words" and "nothing embeds" in (made.note or "")
    assert [cluster.n for cluster in made.clusters] == [2, 1]


def test_every_question_is_in_one_cluster() -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(60, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    clusters = cluster_vectors(rows, near=0.6)
    assert sorted(each for cluster in clusters for each in cluster) == list(range(60))
    assert cluster_vectors(np.zeros((0, 4))) == [] and cluster_words([]) == []
    assert sorted(map(len, cluster_words(["the and of", "the of", "bees"]))) == [1, 1, 1], (
        "no words are like no words"
    )


def document(**facts: Any) -> Any:
    values = {
        "path": "a.md", "title": "A", "digest": "d1", "created_ns": NOW - 100 * DAY_NS, "error": None, "properties": None,
    }  # fmt: skip
    return SimpleNamespace(**{**values, **facts})


def item(**facts: Any) -> Any:
    values = {"state": "live", "digest": "d1", "changed_ns": NOW - DAY_NS, "reason": None, "source": "folder"}
    return SimpleNamespace(**{**values, **facts})


@pytest.mark.parametrize(
    ("properties", "held", "reason"),
    [
        (None, item(), None),
        (None, None, None),
        ({"values": {"expires": "2026-12-31"}}, None, "expired"),
        ({"values": {"expires": "2099-12-31"}}, None, None),
        ({"values": {"expires": "some day"}}, None, None),
        ({"values": {"ttl_days": 30}}, None, "expired"),
        ({"values": {"ttl_days": 3650}}, None, None),
        ({"values": {"ttl_days": "soon"}}, None, None),
        ({"values": {"ttl_days": 30}, "modified_ns": NOW - DAY_NS}, None, None),
        ({"values": {"superseded_by": "b.md"}}, None, "superseded"),
        (None, item(state="gone"), "gone"),
        (None, item(state="unreadable", reason="password"), "error"),
        (None, item(digest="d2"), "source_changed"),
        ({"modified_ns": NOW - 400 * DAY_NS}, item(), "old"),
    ],
)
def test_why_a_document_may_be_out_of_date(properties: Any, held: Any, reason: str | None) -> None:
    found = find_stale(document(properties=properties), held, NOW, max_age_days=365)
    assert (None if found is None else found.reason) == reason
    if found is not None:
        assert found.sentence.endswith((".", "password"))


def test_stale_documents_that_answers_cite_come_first(island: Island) -> None:
    service = report(
        island,
        asked("?", documents=["bees.md", "boats.md"], cited=["bees.md"]),
        asked("?", documents=["boats.md"]),
    )
    service._clock = lambda: NOW + 10**6 * DAY_NS
    made = service.stale("island", max_age_days=1)
    assert made.n_documents == 5 and made.generation == island.fine
    assert {row.reason for row in made.rows} <= {"old", "source_changed"}
    plain = ReportService(island.engine, island.knowledge, clock=lambda: NOW).stale("island")
    assert all(row.n_cited is None for row in plain.rows), "unknown is not 0"


def test_documents_that_no_question_found_are_listed_with_how_little_that_may_say(island: Island) -> None:
    service = report(island, asked("?", documents=["bees.md", "boats.md"]), asked("?", documents=["bees.md"]))
    made = service.unused("island")
    assert [row.path for row in made.rows] == ["bread.md", "ferry.md", "library.md"]
    assert made.n_retrievals == 2 and "only 2 searches" in (made.note or "")


def test_reports_of_traffic_need_traffic_and_a_base(island: Island) -> None:
    bare = ReportService(island.engine, island.knowledge, clock=lambda: NOW)
    for make in (bare.unanswered, bare.unused):
        with pytest.raises(NoTraffic):
            make("island")
    with pytest.raises(UnknownKnowledge):
        report(island).unanswered("atlantis")
