"""Embedding a base: what is there is not embedded again, what was done is kept, and what it took is told."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from penstock.base.errors import UpstreamUnavailable
from penstock.knowledge.embedding.calls import EmbedAnswer
from penstock.knowledge.embedding.errors import WrongDimensions
from penstock.knowledge.embedding.identity import embedder_id
from penstock.knowledge.embedding.model_embedder import ModelEmbedder
from penstock.knowledge.service import KnowledgeService
from penstock.spec.knowledge import ChunkRecipe, EmbedRecipe, Recipe
from tests.knowledge.embedders import MemoryBlobs
from tests.knowledge.embedding.calls import FakeCalls
from tests.knowledge.inline_pool import InlinePool

SENTENCES = [f"Sentence number {n} tells of topic {n * 7 % 13} and of no other." for n in range(150)]


class Source:
    """Opens embedders over one model."""

    def __init__(self, calls: FakeCalls, version: str = "v1") -> None:
        self.calls, self.version = calls, version

    def open(self, recipe: EmbedRecipe, *, made_with: str | None = None) -> ModelEmbedder:
        del made_with
        return ModelEmbedder(self.calls, recipe, name=embedder_id("fake", self.version, recipe))


class House:
    """A base over a folder."""

    def __init__(self, engine: Engine, root: Path) -> None:
        self.calls = FakeCalls()
        self.source = Source(self.calls)
        self.folder = root / "docs"
        self.folder.mkdir()
        self.service = KnowledgeService(
            engine, MemoryBlobs(), root / "indexes", self.source, make_pool=InlinePool
        )

    def write(self, name: str, *sentences: str, title: str = "Guide") -> None:
        (self.folder / name).write_text(f"# {title}\n\n## Part\n\n{' '.join(sentences)}\n")

    def ingest(self, base: str = "base", **recipe: Any) -> Any:
        self.calls.asked.clear()
        return self.service.ingest(base, self.folder, recipe=Recipe(**recipe) if recipe else None)

    @property
    def embedded(self) -> list[str]:
        return [text for asked in self.calls.asked for text in asked]


@pytest.fixture
def house(sqlite_engine: Engine, tmp_path: Path) -> House:
    return House(sqlite_engine, tmp_path)


def test_ingesting_again_embeds_nothing_and_an_edit_what_stands_around_it(house: House) -> None:
    house.write("long.md", *SENTENCES)
    first = house.ingest(chunk=ChunkRecipe(size=60))
    assert first.embedded == first.passages > 25
    assert house.ingest().embedded == 0
    edited = list(SENTENCES)
    edited[70] = "Something else stands here now, and it is somewhat longer than before."
    house.write("long.md", *edited)
    assert 1 <= house.ingest().embedded <= 2


def test_what_embedding_took_is_told(house: House) -> None:
    house.write("one.md", *SENTENCES[:20])
    report = house.ingest()
    assert report.embed_tokens == sum(len(text.split()) for text in house.embedded)
    assert report.cost_nano_usd == 20 * report.embed_tokens
    again = house.ingest()
    assert (again.embed_tokens, again.cost_nano_usd) == (0, 0)


def test_what_is_embedded_holds_the_headings_and_no_more_than_the_recipe_wants(house: House) -> None:
    house.write("one.md", "Only this.")
    house.ingest()
    assert house.embedded == ["Guide\nPart\nOnly this."]
    house.ingest("plain", embed=EmbedRecipe(context="none", document_prefix="passage: "))
    assert house.embedded == ["passage: Only this."]
    house.ingest("asking", embed=EmbedRecipe(query_prefix="query: "))
    assert house.embedded == []  # the vectors of passages are those of the first time
    house.service.search("asking", "what")
    assert house.embedded == ["query: what"]


def test_another_version_embeds_all_anew_and_the_way_back_is_free(house: House) -> None:
    house.write("one.md", "Only this.")
    house.ingest()
    house.source.version = "v2"
    report = house.ingest()
    assert (report.embedder, report.embedded) == ("fake v2", 1)
    house.source.version = "v1"
    assert house.ingest().embedded == 0


def test_a_model_that_changed_its_length_under_its_old_name_stops_with_both_numbers(house: House) -> None:
    house.write("one.md", "Only this.")
    before = house.ingest().generation
    house.calls.dims = 12
    house.write("two.md", "Another one.")
    with pytest.raises(WrongDimensions, match=r"12 numbers.* have 16"):
        house.ingest()
    found = house.service.retrieve("base", "this")
    assert found.generation == before
    assert found.hits


def test_what_was_embedded_before_a_failure_is_not_embedded_again(house: House) -> None:
    house.write("long.md", *SENTENCES)

    def fail(texts: Sequence[str]) -> EmbedAnswer | None:
        if len(house.calls.asked) > 4:
            raise UpstreamUnavailable("the model is gone.")
        return None

    house.calls.before = fail
    recipe: dict[str, Any] = {"chunk": ChunkRecipe(size=30), "embed": EmbedRecipe(batch_size=4)}
    with pytest.raises(UpstreamUnavailable):
        house.ingest(**recipe)
    house.calls.before = None
    report = house.ingest(**recipe)
    assert report.embedded == report.passages - 16  # one step of four requests had ended


def test_a_passage_too_long_for_the_model_is_told(house: House) -> None:
    house.calls.longest = 30
    house.write("one.md", *SENTENCES[:10])
    report = house.ingest()
    assert report.n_in_parts == report.passages == 1
    assert house.service.search("base", "topic 7")
