"""The demo's questions and scores, and its totals."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.main.demo import Asked, sum_up
from penstock.main.demo_questions import ARTICLES, QUESTIONS, citation_hit, load_questions, token_f1


def test_the_selection_is_held_out_answerable_fixed_and_spread() -> None:
    chosen = load_questions()
    rows = {row["id"]: row for row in map(json.loads, QUESTIONS.read_text().splitlines())}
    assert len(chosen) == 10
    assert load_questions() == chosen
    assert {rows[question.id]["split"] for question in chosen} == {"heldout"}
    assert all(question.reference for question in chosen)
    assert len({question.document for question in chosen}) == 10
    assert all((ARTICLES / question.document).is_file() for question in chosen)


def test_a_small_file_gives_what_it_has(tmp_path: Path) -> None:
    rows = [
        {"id": str(number), "question": "q?", "answer": "a", "document": "d.md", "split": "heldout"}
        for number in range(3)
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert sorted(question.id for question in load_questions(path)) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("Drink a glass of water.", "drink the glass of water", 1.0),
        ("", "", 1.0),
        ("", "water", 0.0),
        ("tea", "water", 0.0),
        ("water water", "water", 2 / 3),
        ("cold water now", "water", 0.5),
    ],
)
def test_token_f1_follows_squad(answer: str, reference: str, score: float) -> None:
    assert token_f1(answer, reference) == pytest.approx(score)


@given(st.text(max_size=60), st.text(max_size=60))
def test_token_f1_is_symmetric_and_bounded(one: str, other: str) -> None:
    assert 0.0 <= token_f1(one, other) <= 1.0
    assert token_f1(one, other) == pytest.approx(token_f1(other, one))


def test_a_citation_hits_the_document_that_holds_the_answer() -> None:
    assert citation_hit(["a.md", "b.md"], "b.md") == 1.0
    assert citation_hit([], "b.md") == 0.0


def test_unknown_costs_are_counted_and_never_taken_for_zero() -> None:
    def asked(cost: float | None) -> Asked:
        scores = {"token_f1": 0.5, "citation_hit": 1.0}
        return Asked(
            question="q", answer="a", citations=[], reference="r", scores=scores, trace_id="t", latency_ms=3.0,
            streamed=False, cost_usd=cost,
        )  # fmt: skip

    totals = sum_up([asked(0.25), asked(None)], seconds=1.0)
    assert (totals["cost_usd"], totals["n_unpriced"], totals["input_tokens"]) == (0.25, 1, None)
    assert sum_up([asked(None)], seconds=1.0)["cost_usd"] is None
