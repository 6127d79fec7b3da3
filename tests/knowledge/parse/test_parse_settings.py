"""Settings of parsing that nobody could follow are refused by name, before any document is read."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from penstock.knowledge.chunk.errors import UnusableRecipe
from penstock.knowledge.one_embedder import OneEmbedder
from penstock.knowledge.parse import ParserPool
from penstock.knowledge.parse.settings import check_settings
from penstock.knowledge.recipes import change_recipe
from penstock.knowledge.service import KnowledgeService
from penstock.spec.knowledge import ParseRecipe, Recipe, Scrubbing
from tests.knowledge.embedders import HashingEmbedder
from tests.knowledge.sources.conftest import CountingBlobs

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"scrub": {"action": "mask", "kinds": ["email", "emial"]}}, r"parse\.scrub\.kinds: .*'emial'"),
    ({"scrub": {"kinds": ["name"]}}, r"parse\.scrub\.kinds: .*'name'"),
    ({"ocr": "auto", "languages": ["deu", "--psm 7"]}, r"parse\.languages: '--psm 7'"),
]


@pytest.mark.parametrize(("parse", "told"), WRONG)
def test_a_setting_that_nobody_could_follow_stops_an_ingest_before_any_work(
    sqlite_engine: Engine, tmp_path: Path, parse: dict[str, Any], told: str
) -> None:
    """Each document failed by it, one after the other, and the error did not name the setting."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# A\n\nText.\n")

    def no_pool() -> ParserPool:
        raise AssertionError("nothing is to be parsed")

    blobs = CountingBlobs()
    service = KnowledgeService(
        sqlite_engine, blobs, tmp_path / "indexes", OneEmbedder(HashingEmbedder()), make_pool=no_pool
    )
    recipe = change_recipe(Recipe(), {"parse": parse})
    with pytest.raises(UnusableRecipe, match=told):
        service.ingest("guide", tmp_path / "docs", recipe=recipe)
    with pytest.raises(UnusableRecipe, match=told):
        service.declare("guide", recipe)
    assert blobs.n_puts == 0


def test_settings_that_can_be_followed_are_taken() -> None:
    check_settings(ParseRecipe())
    check_settings(
        ParseRecipe(languages=["deu", "chi_sim"], scrub=Scrubbing(action="mask", kinds=["email", "iban"]))
    )
