"""Answers judged as they come, by real judges over a chat upstream that a test scripts, out of and into a real span store."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from penstock.evals.judges.labels import LabelService
from penstock.evals.judges.service import JudgeService
from penstock.knowledge.quality.report_types import TriadSettings
from penstock.knowledge.quality.watching import TriadService
from penstock.main.eval_ports import StoredTraceFacts
from penstock.main.judging import open_judge_tools
from penstock.main.retrieval_traffic import JudgedAnswers
from penstock.spec.spans import Span
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.trace_lists import DuckDBTraceLists
from penstock.store.spans.types import ScoreQuery
from penstock.traces.lists import TraceListService
from penstock.traces.scores import ScoreService
from tests.fixtures.spans import T0, make_span

MINUTE = 60 * 10**9
PASSAGE = {"document": "ferry.md", "passage_id": "psg_1", "text": "The ferry leaves at seven, noon and six."}


def fill_form(asked: str) -> dict[str, Any]:
    """Judge as a careful model would: the second claim stands nowhere."""
    if "passage_1" in asked:
        return {"passage_1": {"quote": "leaves at seven, noon and six", "relevant": "yes"}}
    if "abstains" in asked and "claims" in asked:
        return {
            "abstains": "no",
            "claims": [
                {"claim": "It leaves at noon.", "quote": "at seven, noon and six", "verdict": "supported"},
                {"claim": "It is blue.", "quote": "", "verdict": "not found"},
            ],
        }
    return {"reason": "It says when.", "verdict": "meets"}


class Upstream:
    """Speaks chat completions; every call is a priced trace in the span store."""

    def __init__(self, spans: DuckDBSpanStore, answer: Callable[[str], Any]) -> None:
        self.asked: list[dict[str, Any]] = []
        self.status = 200
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                upstream.asked.append(body)
                number = 9000 + len(upstream.asked)
                call = make_span(1, trace=number, kind="llm", cost_usd=Decimal("0.002"), name="chat big")
                spans.append([call])
                text = json.dumps(answer("\n".join(each["content"] for each in body["messages"])))
                reply: dict[str, Any] = {
                    "id": "c1", "object": "chat.completion", "model": "big-1",
                    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
                    "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18},
                }  # fmt: skip
                if upstream.status != 200:
                    reply = {"error": {"message": "the judge is away", "code": "x"}}
                data = json.dumps(reply).encode()
                self.send_response(upstream.status)
                self.send_header("content-length", str(len(data)))
                self.send_header("x-penstock-trace-id", call.trace_id)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_arguments: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def answered(trace: int, *, question: Any = "When does the ferry leave?", **fields: Any) -> list[Span]:
    """A call to the app `island`."""
    app = {
        "input": {"messages": [{"role": "user", "content": question}]},
        "output": {"content": "It leaves at noon [1]. It is blue."},
        **fields,
    }
    return [
        make_span(1, trace=trace, name="app island", kind="app", **app),
        make_span(
            2, trace=trace, parent_id=f"{1:016x}", name="retrieve island", kind="retrieval",
            input={"query": "ferry?"}, output={"documents": [PASSAGE]},
        ),
    ]  # fmt: skip


class Watched:
    """A watch over `island` with everything below it."""

    def __init__(self, engine: Engine, spans: DuckDBSpanStore, upstream: Upstream) -> None:
        self.now = T0
        self.spans = spans
        judges = JudgeService(
            engine,
            LabelService(engine),
            open_tools=partial(open_judge_tools, upstream.url, "key", StoredTraceFacts(spans), None),
        )
        self.answers = JudgedAnswers(
            spans,
            TraceListService(DuckDBTraceLists(spans.file)),
            judges,
            ScoreService(spans, lambda made: (spans.append(made), None)[1], clock=lambda: self.now),
        )
        self.service = TriadService(engine, self.answers, clock=lambda: self.now)
        self.service.put(TriadSettings(app="island", judge="big", share=1.0), actor="ada")

    def judge(self) -> int:
        self.now = T0 + 60 * MINUTE
        return self.service.judge_new()


@pytest.fixture
def spans(tmp_path: Path) -> Iterator[DuckDBSpanStore]:
    with closing(DuckDBSpanStore(tmp_path / "spans.duckdb")) as store:
        yield store


@pytest.fixture
def upstream(spans: DuckDBSpanStore) -> Iterator[Upstream]:
    with closing(Upstream(spans, fill_form)) as made:
        yield made


def test_an_answer_is_judged_three_ways_and_its_trace_has_the_scores(
    sqlite_engine: Engine, spans: DuckDBSpanStore, upstream: Upstream
) -> None:
    watched = Watched(sqlite_engine, spans, upstream)
    spans.append(answered(1))
    assert watched.judge() == 1 and watched.judge() == 0
    scores = {row.name: row for row in spans.list_scores(ScoreQuery(trace_id=f"{1:032x}"))}
    assert {name: row.value for name, row in scores.items()} == {
        "context_relevance": 1.0,
        "groundedness": 0.5,
        "answer_relevance": 1.0,
    }
    assert all(row.source == "model" and row.span_id == f"{1:016x}" for row in scores.values())
    assert scores["groundedness"].label == "ungrounded" and "It is blue." in (
        scores["groundedness"].comment or ""
    )
    assert {each["model"] for each in upstream.asked} == {"big"}
    assert any(PASSAGE["text"] in each["messages"][1]["content"] for each in upstream.asked)
    state = watched.service.get("island")
    assert (state.n_judged, state.n_failed, state.n_unpriced) == (1, 0, 0)
    assert state.spent_usd == state.dearest_usd == Decimal("0.006"), "what the judge's own traces cost"


def test_answers_after_an_outage_are_judged_however_many_failed(
    sqlite_engine: Engine, spans: DuckDBSpanStore, upstream: Upstream
) -> None:
    """The oldest hundred were read again and again once none of them could be judged."""
    watched = Watched(sqlite_engine, spans, upstream)
    failed = [answered(number, status="error", output=None)[0] for number in range(1, 131)]
    silent = [answered(number, input=None, output=None)[0] for number in range(131, 151)]
    in_parts = answered(
        151, question=[{"type": "text", "text": "When does"}, {"type": "text", "text": "it leave?"}]
    )
    spans.append([*failed, *silent, *in_parts])
    assert watched.judge() == 1
    assert any("it leave?" in each["messages"][1]["content"] for each in upstream.asked)
    state = watched.service.get("island")
    assert (state.n_seen, state.n_unreadable) == (1, 150)


def test_far_more_than_a_round_looks_at_are_passed_by_in_several(
    sqlite_engine: Engine, spans: DuckDBSpanStore, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.main.retrieval_traffic._MAX_PAGES", 1)
    watched = Watched(sqlite_engine, spans, upstream)
    spans.append([answered(number, status="error")[0] for number in range(1, 231)])
    spans.append(answered(231))
    assert [watched.judge() for _ in range(4)] == [0, 0, 1, 0]
    assert watched.service.get("island").n_unreadable == 230


def test_a_judge_that_is_away_is_told(
    sqlite_engine: Engine, spans: DuckDBSpanStore, upstream: Upstream
) -> None:
    watched = Watched(sqlite_engine, spans, upstream)
    upstream.status = 401
    spans.append(answered(1))
    watched.judge()
    state = watched.service.get("island")
    assert state.n_failed == 1 and "the judge is away" in (state.last_error or "")
