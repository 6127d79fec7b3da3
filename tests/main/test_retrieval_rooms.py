"""What measuring retrieval needs of other rooms: datasets as sets of questions, spans as what was asked, scorers as metrics."""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.datasets.cases import row_to_case
from penstock.evals.scorers.catalogue import KINDS
from penstock.evals.scorers.retrieval import RetrievalParameters
from penstock.knowledge.quality.metrics import score
from penstock.knowledge.quality.ports import Figure, QuestionValue, RankedQuestion, Sheet
from penstock.knowledge.quality.types import Label, LabelledQuestion
from penstock.main.retrieval_questions import (
    case_to_question,
    question_to_row,
    read_label,
    read_shipped,
)
from penstock.main.retrieval_scoring import EvaluationScoring
from penstock.main.retrieval_traffic import RecordedRetrievals, read_answer, read_asked
from penstock.spec.cases import Case, Output, Passage
from penstock.spec.knowledge import Condition
from penstock.spec.scores import SpanScore
from penstock.spec.spans import FOREIGN_MARK
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.export_rows import DuckDBSpanExport
from penstock.store.spans.trace_lists import DuckDBTraceLists
from penstock.telemetry.score_spans import score_span
from penstock.traces.lists import TraceListService
from tests.fixtures.spans import make_span

HIT = {
    "document": "ferry.md",
    "passage_id": "psg_1",
    "text": "The ferry leaves.",
    "score": 0.9,
    "dense_score": 0.4,
}


def asked_trace(
    trace: int, *, base: str = "island", outcome: str = "answered", question: str = "When?"
) -> list[Any]:
    """A call to an app that searched."""
    return [
        make_span(
            1, trace=trace, name="app island", kind="app", service="apps",
            input={"messages": [{"role": "user", "content": question}]},
            output={"content": "At noon.", "citations": [{"document": "ferry.md"}, {"document": "ferry.md"}]},
            attributes={"app.outcome": outcome},
        ),
        make_span(
            2, trace=trace, parent_id=f"{1:016x}", name=f"retrieve {base}", kind="retrieval", service="apps",
            input={"query": question, "k": 5}, output={"documents": [HIT]},
            attributes={"retrieval.n_hits": 1, "retrieval.generation": "gen_1"},
        ),
    ]  # fmt: skip


@pytest.fixture
def spans(tmp_path: Path) -> Iterator[DuckDBSpanStore]:
    store = DuckDBSpanStore(tmp_path / "spans.duckdb")
    yield store
    store.close()


def test_recorded_questions_come_with_how_they_ended(spans: DuckDBSpanStore) -> None:
    spans.append([
        *asked_trace(1),
        *asked_trace(2, outcome="not-known"),
        *asked_trace(3, base="other"),
        *asked_trace(4),
    ])  # fmt: skip
    spans.append(
        [score_span(SpanScore(name="thumbs", value=0.0, source="human", time_ns=5, trace_id=f"{1:032x}"))]
    )
    recorded = RecordedRetrievals(spans, TraceListService(DuckDBTraceLists(spans.file)))
    found = {each.trace_id: each for each in recorded.read("island", since_ns=None, limit=10)}
    assert set(found) == {f"{number:032x}" for number in (1, 2, 4)}, "of this base alone"
    first = found[f"{1:032x}"]
    assert (first.app, first.thumbs, first.cited, first.documents) == (
        "island",
        "down",
        ["ferry.md"],
        ["ferry.md"],
    )
    assert (first.n_hits, first.top_dense_score, first.generation) == (1, 0.4, "gen_1")
    assert [found[f"{n:032x}"].has_abstained for n in (1, 2)] == [False, True]
    assert len(list(recorded.read("island", since_ns=None, limit=2))) == 2
    assert list(recorded.read("island", since_ns=2**62, limit=10)) == []


def search(
    number: int, *, trace: int, query: str, parent: int | None = None, hits: Any = (), **fields: Any
) -> Any:
    parent_id = None if parent is None else f"{parent:016x}"
    return make_span(
        number, trace=trace, parent_id=parent_id, name="retrieve island", kind="retrieval",
        input={"query": query, "k": 5}, output={"documents": list(hits)}, **fields,
    )  # fmt: skip


@pytest.mark.parametrize("page", [2, 500])
def test_an_apps_wordings_are_one_question_and_an_agents_searches_are_many(
    spans: DuckDBSpanStore, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest wording stood for the question, and ten searches of one trace for one."""
    monkeypatch.setattr("penstock.main.retrieval_traffic._READ_PAGE", page)
    spans.append([
        *asked_trace(1, question="The question"),
        search(3, trace=1, query="wording one", parent=1),
        search(4, trace=1, query="wording two", parent=1, hits=[{**HIT, "document": "boats.md", "score": 0.95}]),
        *(search(number, trace=2, query=f"agent {number}") for number in range(1, 6)),
        search(7, trace=2, query="sent", attributes={FOREIGN_MARK: True}),
    ])  # fmt: skip
    spans.append([
        score_span(SpanScore(name="thumbs", value=0.0, source="human", time_ns=5, trace_id=f"{2:032x}", span_id=f"{3:016x}")),
    ])  # fmt: skip
    found = list(RecordedRetrievals(spans, TraceListService(DuckDBTraceLists(spans.file))).read(
        "island", since_ns=None, limit=50
    ))  # fmt: skip
    assert [each.question for each in found] == [f"agent {number}" for number in (5, 4, 3, 2, 1)] + [
        "The question"
    ]
    whole = found[-1]
    assert (whole.n_wordings, whole.n_hits, whole.top_score) == (2, 1, 0.95)
    assert whole.documents == ["ferry.md", "boats.md"] and whole.app == "island"
    assert [each.thumbs for each in found] == [None, None, "down", None, None, None], "of that search alone"


def test_a_page_of_questions_is_read_with_few_statements(
    spans: DuckDBSpanStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report read one trace at a time: sixteen minutes for what it may read."""
    spans.append([span for trace in range(1, 301) for span in asked_trace(trace)])
    n_read = Counter[str]()

    def counting(name: str, counted: Any) -> Any:
        def count(*given: Any, **named: Any) -> Any:
            n_read[name] += 1
            return counted(*given, **named)

        return count

    for name in ("read_spans", "find_children", "list_scores_of"):
        monkeypatch.setattr(DuckDBSpanExport, name, counting(name, getattr(DuckDBSpanExport, name)))
    recorded = RecordedRetrievals(spans, TraceListService(DuckDBTraceLists(spans.file)))
    assert len(list(recorded.read("island", since_ns=None, limit=1000))) == 300
    assert n_read == {"read_spans": 3, "find_children": 1, "list_scores_of": 1}


def test_what_has_no_payload_is_no_question_and_no_answer() -> None:
    app, retrieval = asked_trace(1)
    assert read_asked([make_span(2, kind="retrieval")], None, None) is None
    assert read_answer(make_span(1, kind="app"), [retrieval]) is None
    failed = make_span(1, kind="app", status="error", input=app.input, output=app.output)
    assert read_answer(failed, [retrieval]) is None
    answer = read_answer(app, [retrieval, retrieval])
    assert answer is not None and answer.question == "When?" and len(answer.passages) == 1
    asked = read_asked([retrieval], None, None)
    assert asked is not None and asked.has_abstained is None, "a search of its own abstains from nothing"
    assert (asked.conditions, asked.principals) == ([], None)
    conditions = [Condition(op="is", field="path", value="ferry.md")]
    told = make_span(
        2, kind="retrieval", input={"query": "When?", "filters": msgspec.to_builtins(conditions)},
        attributes={"retrieval.principals": ["user:ada", "everyone"]},
    )  # fmt: skip
    filtered = read_asked([told], None, None)
    assert filtered is not None
    assert (filtered.conditions, filtered.principals) == (conditions, ["user:ada", "everyone"])


def test_questions_go_into_rows_and_come_back() -> None:
    question = LabelledQuestion(
        id="q-1",
        question="How fast?",
        labels=[
            Label(document="a.md", quote="one drink an hour"),
            Label(document="a.md", quote="two words", grade=3),
            Label(document="b.md", section="Part two"),
            Label(document="c.md", grade=0),
            Label(passage_id="psg_0a1b"),
        ],
        alternatives=["What pace?"],
        answer="One an hour.",
        tags=["feedback"],
        source="feedback:fb_1",
    )
    row = question_to_row(question, "ada")
    assert row.provenance is not None and (row.provenance.kind, row.provenance.source) == ("feedback", "fb_1")
    again = case_to_question(row_to_case(row, "retrieval"), row.provenance)
    assert sorted(again.labels, key=str) == sorted(question.labels, key=str)
    assert (again.question, again.alternatives, again.answer, again.tags) == (
        question.question, question.alternatives, question.answer, question.tags,
    )  # fmt: skip


def test_names_in_relevant_are_documents_sections_or_passages() -> None:
    assert read_label("a.md") == Label(document="a.md")
    assert read_label("a.md#Part") == Label(document="a.md", section="Part")
    assert read_label("psg_12ab") == Label(passage_id="psg_12ab")
    assert read_label("#Part") == Label(document="#Part")


def test_the_shipped_questions_name_nothing_where_no_article_answers() -> None:
    shipped = [case_to_question(row_to_case(row, "cases")) for row in read_shipped()]
    assert len(shipped) == 414
    unanswerable = [each for each in shipped if each.answer is None]
    assert len(unanswerable) == 69 and not any(each.labels for each in unanswerable)
    assert all(each.labels for each in shipped if each.answer is not None)


@pytest.mark.parametrize("metric", ["recall", "precision", "ndcg", "mrr", "hit"])
def test_metrics_are_those_of_evaluations_where_a_passage_meets_one_need(metric: str) -> None:
    rng = random.Random(3)
    for _ in range(200):
        wanted = rng.sample("abcdef", rng.randint(1, 5))
        ranks = [rng.choice([*wanted, "none"]) for _ in range(rng.randint(0, 8))]
        k = rng.randint(1, 8)
        judge = KINDS[f"retrieval_{metric}"].build(RetrievalParameters(k=k, without="nothing_found"))
        output = Output(case_id="q", passages=[Passage(text="", id=name) for name in ranks])
        found = [frozenset({name} & set(wanted)) for name in ranks]
        assert score(metric, k, RankedQuestion(id="q", wanted=wanted, found=found)) == pytest.approx(
            judge(Case(id="q", relevant=wanted), output).value
        )


def test_rules_read_measured_columns_and_name_those_that_there_are() -> None:
    scoring = EvaluationScoring()
    values = [QuestionValue(id=str(n), value=1.0) for n in range(200)]
    sheet = Sheet(name="s", columns={"recall@5": (Figure(name="recall@5"), values)})
    assert scoring.judge(["recall@5 >= 0.9"], baseline=sheet, candidate=sheet, level=0.95).verdict == "pass"
    assert (
        scoring.judge(
            ["recall@5 >= baseline - 3 points"], baseline=sheet, candidate=sheet, level=0.95
        ).verdict
        == "pass"
    )
    wrong = scoring.judge(["recal@5 >= 0.9"], baseline=sheet, candidate=sheet, level=0.95)
    assert wrong.verdict == "invalid" and "recall@5" in wrong.rules[0].sentence
