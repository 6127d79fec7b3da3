"""Recipes: equal ones have equal ids, and settings that cannot be worked with are refused when they are given."""

from typing import Any

import msgspec
import pytest

from penstock.knowledge.chunk.errors import UnusableRecipe
from penstock.knowledge.recipe_bounds import check_recipe
from penstock.knowledge.recipes import (
    change_recipe,
    cut_digest,
    generation_id,
    index_id,
    parser_key,
    recipe_as_dict,
)
from penstock.knowledge.service import KnowledgeService
from penstock.spec.knowledge import Recipe, SearchRecipe
from tests.knowledge.generations.conftest import ManyEmbedders


def test_a_default_that_somebody_wrote_down_is_the_same_recipe() -> None:
    written = msgspec.convert(msgspec.to_builtins(_all_defaults(Recipe())), Recipe)
    plain = Recipe()
    assert written == plain
    assert recipe_as_dict(written) == recipe_as_dict(plain) == {}
    assert cut_digest(written, "e@1") == cut_digest(plain, "e@1")
    assert parser_key(written.parse, "a.md") == parser_key(plain.parse, "a.md")
    assert index_id("guide", written, "e@1", ["doc_1"]) == index_id("guide", plain, "e@1", ["doc_1"])
    assert generation_id("guide", written, "e@1", ["doc_1"]) == generation_id(
        "guide", plain, "e@1", ["doc_1"]
    )


def _all_defaults(settings: msgspec.Struct) -> dict[str, Any]:
    """Return every setting, as a file that writes all of them down; numbers are other objects than the defaults."""
    told: dict[str, Any] = {}
    for each in msgspec.structs.fields(settings):
        value = getattr(settings, each.name)
        if isinstance(value, msgspec.Struct):
            told[each.name] = _all_defaults(value)
        elif isinstance(value, float):
            told[each.name] = float(str(value))
        else:
            told[each.name] = value
    return told


def test_what_differs_is_kept_and_read_back() -> None:
    changes = {"chunk": {"size": 96}, "search": {"rerank": {"kind": "model", "depth": 5}}}
    recipe = change_recipe(Recipe(), changes)
    assert recipe_as_dict(recipe) == changes
    assert msgspec.convert(recipe_as_dict(recipe), Recipe) == recipe


@pytest.mark.parametrize(
    "changes",
    [
        {"search": {"dense_weight": 5}},
        {"search": {"dense_weight": float("nan")}},
        {"search": {"n_candidates": 0}},
        {"search": {"n_candidates": 10**9}},
        {"search": {"max_per_document": 0}},
        {"search": {"freshness_weight": 3.0}},
        {"search": {"freshness_half_life_days": -4.0}},
        {"search": {"diversity": 9.0}},
        {"search": {"title_weight": -3.0}},
        {"search": {"rrf_constant": -1.0, "fusion": "rrf"}},
        {"search": {"rerank": {"kind": "model", "timeout_s": -1}}},
        {"index": {"connectivity": 0}},
        {"embed": {"batch_size": 0}},
        {"parse": {"max_seconds": 0}},
        {"chunk": {"size": 0}},
    ],
)
def test_a_setting_out_of_bounds_is_refused_by_name_before_any_work(
    service: KnowledgeService, embedders: ManyEmbedders, changes: dict[str, dict[str, Any]]
) -> None:
    recipe = change_recipe(Recipe(), changes)
    ((part, settings),) = changes.items()
    n_texts = embedders.n_texts
    with pytest.raises(UnusableRecipe, match=rf"{part}\.({'|'.join(settings)})"):
        service.build_candidate("guide", "bad", recipe)
    with pytest.raises(UnusableRecipe):
        service.declare("other", recipe)
    assert embedders.n_texts == n_texts
    assert [each.name for each in service.list_tracks("guide")] == ["live"]


def test_a_search_is_refused_settings_out_of_bounds_too(service: KnowledgeService) -> None:
    with pytest.raises(UnusableRecipe, match=r"search\.rrf_constant"):
        service.retrieve("guide", "bread", recipe=SearchRecipe(fusion="rrf", rrf_constant=-1.0))
    check_recipe(Recipe())


@pytest.mark.parametrize(
    "connection",
    [
        "https://S3CRET@vectors:6333",
        "https://user:S3CRET@vectors:6333",
        "postgresql://rag:S3CRET@db/rag",
        "postgresql://rag:S3CRET{{secret:rag}}@db/rag",
        "postgresql://rag@db/rag?password=S3CRET",
        "path:/srv/anywhere",
    ],
)
def test_an_address_with_a_plain_credential_or_a_folder_is_no_setting(
    service: KnowledgeService, connection: str
) -> None:
    """Recipes stand in tables, in the registry and in lists of tracks; and who writes them has no folder to choose."""
    kind = "pgvector" if connection.startswith("postgres") else "qdrant"
    recipe = change_recipe(Recipe(), {"index": {"kind": kind, "connection": connection}})
    with pytest.raises(UnusableRecipe, match=r"index\.connection") as told:
        service.build_candidate("guide", "server", recipe)
    assert "S3CRET" not in str(told.value)


@pytest.mark.parametrize(
    "connection",
    [
        "http://vectors:6333",
        "https://{{secret:qdrant}}@vectors:6333",
        "postgresql://rag@db/rag?sslmode=require",
        "postgresql://rag:{{secret:rag_db}}@db/rag",
        "postgresql://{{secret:user}}:{{ secret:rag_db }}@db/rag",
    ],
)
def test_an_address_whose_credentials_are_secrets_is(connection: str) -> None:
    check_recipe(change_recipe(Recipe(), {"index": {"connection": connection}}))
