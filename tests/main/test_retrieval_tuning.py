"""Tuning a real base on questions of a file: a win is promised when there is one, and none when there is none."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine

from penstock.base.errors import InvalidInput
from penstock.knowledge.one_embedder import OneEmbedder
from penstock.knowledge.retrieval.errors import NoQuestions
from penstock.knowledge.retrieval.tuner import Tuner, TuneRequest
from penstock.knowledge.service import KnowledgeService
from penstock.main.retrieval_questions import DatasetQuestions
from penstock.main.retrieval_scoring import EvaluationScoring
from penstock.main.retrieval_tuning import FileQuestions
from penstock.spec.knowledge import Recipe, SearchRecipe
from tests.knowledge.embedders import HashingEmbedder, MemoryBlobs

N = 40


class Blind(HashingEmbedder):
    """Vectors that say nothing about a text."""

    def embed(self, texts: Any, kind: str, *, traceparent: str | None = None) -> Any:
        rows = super().embed(texts, kind)
        return (
            np.array([np.random.default_rng(len(text)).standard_normal(self.dims) for text in texts])
            + 0 * rows
        )


def build(
    tmp_path: Path, engine: Engine, embedder: Any, search: SearchRecipe
) -> tuple[KnowledgeService, Tuner]:
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(N):
        others = " ".join(f"word{(number * 7 + each) % 50}" for each in range(number % 9))
        (folder / f"{number:02}.txt").write_text(
            f"Fact number {number} speaks of thing{number}. {others} more."
        )
    lines = [
        {"query": f"what of thing{number}", "relevant": [f"{number:02}.txt"], "group": str(number)}
        for number in range(N)
    ]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    service = KnowledgeService(engine, MemoryBlobs(), tmp_path / "indexes", OneEmbedder(embedder))
    service.ingest("facts", folder, recipe=Recipe(search=search))
    datasets: Any = None  # not asked for: the questions stand in a file
    tuner = Tuner(
        engine, service, EvaluationScoring(), FileQuestions(DatasetQuestions(datasets)), timer=lambda: 0.0
    )
    return service, tuner


def test_blind_vectors_are_given_up_for_words(tmp_path: Path, sqlite_engine: Engine) -> None:
    service, tuner = build(tmp_path, sqlite_engine, Blind(), SearchRecipe(dense_weight=1.0))
    report = tuner.tune(
        "facts",
        TuneRequest(questions=str(tmp_path / "questions.jsonl"), metric="mrr@10", knobs=("dense_weight",)),
    )
    assert report.is_win
    assert report.recipe.dense_weight is not None
    assert report.recipe.dense_weight < 0.5
    assert report.present.value is not None
    assert report.present.value < 0.5
    assert (report.promised.value or 0) > 0.9
    assert "measurable win" in report.advice
    found = service.retrieve("facts", "what of thing7", 1, recipe=report.recipe)
    assert found.hits[0].document == "07.txt"
    best = {row.name: row.value for row in report.best_of}
    assert best["vectors alone"] == pytest.approx(report.present.value)
    assert best["words alone"] > 0.9


def test_where_there_is_nothing_to_win_the_recipe_is_kept(tmp_path: Path, sqlite_engine: Engine) -> None:
    search = SearchRecipe(fusion="lexical", dense_weight=0.0)
    _, tuner = build(tmp_path, sqlite_engine, HashingEmbedder(), search)
    report = tuner.tune("facts", TuneRequest(questions=str(tmp_path / "questions.jsonl")))
    assert not report.is_win
    assert report.changes == {}
    assert report.recipe == search
    assert "keep" in report.advice


def test_tuning_refuses_too_few_questions_bad_lines_and_words_alone(
    tmp_path: Path, sqlite_engine: Engine
) -> None:
    embedder = HashingEmbedder()
    _, tuner = build(tmp_path, sqlite_engine, embedder, SearchRecipe())
    file = tmp_path / "few.jsonl"
    file.write_text('{"query": "thing1", "relevant": ["01.txt"]}\n')
    with pytest.raises(NoQuestions, match="tuning needs"):
        tuner.tune("facts", TuneRequest(questions=str(file)))
    file.write_text('{"query": "thing1"}\n{"question": 3}\n')
    with pytest.raises(InvalidInput, match="Line 2"):
        tuner.tune("facts", TuneRequest(questions=str(file)))
    with pytest.raises(InvalidInput, match="cannot be read"):
        tuner.tune("facts", TuneRequest(questions=str(tmp_path / "none.jsonl")))
    embedder.is_down = True
    with pytest.raises(InvalidInput, match="start Penstock"):
        tuner.tune("facts", TuneRequest(questions=str(tmp_path / "questions.jsonl")))
