"""The shipped handbook is what its sources say, and keeps the promises of its datasheet."""

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "recipes"
SHIPPED = ROOT / "src" / "penstock" / "data" / "handbook"
CASES = Path("held_out_cases.jsonl")
"""Held-out questions with the sentences beside them; with `gate/` for comparing prompts, and made by another recipe."""


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "handbook_build", ROOT / "recipes" / "handbook" / "build.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["handbook_build"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_shipped_corpus_equals_a_fresh_build(builder: ModuleType, tmp_path: Path) -> None:
    builder.build(tmp_path)
    fresh = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    shipped = {path.relative_to(SHIPPED) for path in SHIPPED.rglob("*") if path.is_file()}
    assert fresh == {path for path in shipped if path != CASES and path.parts[0] != "gate"}
    for name in fresh:
        if name.suffix in {".pdf", ".docx"}:
            continue  # their bytes also depend on the library's version; their text is tested by the parsers
        assert (tmp_path / name).read_bytes() == (SHIPPED / name).read_bytes(), name


def test_shipped_cases_are_those_that_the_recipe_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(RECIPES / "pocket"))
    recipe = importlib.import_module("held_out")
    drawn = recipe.list_rows(recipe.make_cases(recipe.load_articles("heldout"), recipe.SEED))
    assert drawn == [json.loads(line) for line in (SHIPPED / CASES).read_text().splitlines()]
    for name in ("held_out", "corpus"):
        sys.modules.pop(name)


def test_every_answer_is_one_sentence_of_its_article(builder: ModuleType) -> None:
    articles = {path.stem: builder.read_article(path) for path in (builder.HERE / "articles").glob("*.md")}
    for line in (SHIPPED / "questions.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["answer"] is None:
            continue
        article = articles[row["document"].rsplit(".", 1)[0]]
        home = [section for section in article.sections if row["answer"] in " ".join(section.paragraphs)]
        assert len(home) == 1, row["id"]
        assert home[0].heading == row["section"], row["id"]


def test_corpus_has_the_promised_size_and_a_split_by_article(builder: ModuleType) -> None:
    articles = [builder.read_article(path) for path in (builder.HERE / "articles").glob("*.md")]
    assert len(articles) >= 60
    assert all(300 <= article.n_words <= 600 for article in articles)
    assert {article.format for article in articles} == {"md", "html", "pdf", "docx", "csv"}
    rows = [json.loads(line) for line in (SHIPPED / "questions.jsonl").read_text().splitlines()]
    assert sum(row["answer"] is not None for row in rows) >= 300
    split_of: dict[str, set[str]] = {}
    for row in rows:
        split_of.setdefault(row["document"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in split_of.values())
