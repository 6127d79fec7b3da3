"""What OpenAI's clients may ask of a search besides its words: weights, rankers, rewriting. Honoured, or refused by name."""

from typing import Any

import msgspec
import openai
import pytest

from penstock.apps.ranking import make_adjust, read_ranking
from penstock.apps.step_settings import RewriteStep
from penstock.base.errors import InvalidInput
from penstock.spec.knowledge import RerankRecipe, SearchRecipe
from tests.gateway.knowledge_house import NARROW, House, house
from tests.gateway.upstream import REPLY, Exchange

__all__ = ["house"]  # a fixture


def adjusted(recipe: SearchRecipe, **told: Any) -> SearchRecipe:
    adjust = make_adjust(read_ranking(told))
    assert adjust is not None
    return adjust(recipe)


async def says(exchange: Exchange, text: str) -> None:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    await exchange.reply(msgspec.json.encode({**REPLY, "choices": [choice]}))


# -- weights and rankers


async def test_weights_of_a_hybrid_search_reach_it(house: House) -> None:
    weights: Any = {"hybrid_search": {"embedding_weight": 3, "text_weight": 1}}
    await house.client().vector_stores.search("handbook", query="sleep", ranking_options=weights)
    (adjust,) = house.retriever.adjusts
    assert adjust(SearchRecipe(dense_weight=0.1, identifier_weight=0.2)) == SearchRecipe(dense_weight=0.75)
    await house.client().vector_stores.search("handbook", query="sleep", ranking_options={"ranker": "auto"})
    assert house.retriever.adjusts[1] is None


def test_weights_change_what_a_base_leaves_open_and_nothing_else() -> None:
    weights = {"embedding_weight": 0, "text_weight": 2.0}
    kept = SearchRecipe(fusion="rrf", rrf_constant=20, diversity=0.3)
    assert adjusted(kept, hybrid_search=weights) == msgspec.structs.replace(kept, dense_weight=0.0)
    assert adjusted(SearchRecipe(fusion="lexical"), hybrid_search=weights).fusion == "convex"


def test_without_a_ranker_there_is_no_second_look() -> None:
    recipe = SearchRecipe(rerank=RerankRecipe(kind="model"), min_rerank_score=0.5, diversity=0.1)
    assert adjusted(recipe, ranker="none") == SearchRecipe(diversity=0.1)


@pytest.mark.parametrize(
    ("told", "word"),
    [
        ({"ranker": "best-of-all"}, "best-of-all"),
        ({"threshold": 0.5}, "threshold"),
        ({"hybrid_search": {"embedding_weight": 1}}, "text_weight"),
        ({"hybrid_search": {"embedding_weight": 0, "text_weight": 0}}, "above 0"),
        ({"hybrid_search": {"embedding_weight": -1, "text_weight": 2}}, "0 or more"),
        ({"score_threshold": "high"}, "float"),
        ("auto", "object"),
    ],
)
def test_what_is_not_known_of_ranking_is_refused(told: Any, word: str) -> None:
    with pytest.raises(InvalidInput, match=word) as raised:
        read_ranking(told)
    assert raised.value.fields["param"].startswith("ranking_options")


async def test_a_refusal_of_ranking_options_reaches_the_client(house: House) -> None:
    options: Any = {"hybrid_search": {"embedding_weight": "much", "text_weight": 1}}
    with pytest.raises(openai.BadRequestError, match="ranking_options"):
        await house.client().vector_stores.search("handbook", query="sleep", ranking_options=options)
    assert house.retriever.calls == []


# -- rewriting


def rewriting(house: House, **members: Any) -> None:
    app = msgspec.structs.replace(
        house.apps[0], steps=("rewrite", "retrieve", "answer"), rewrite=RewriteStep(**members)
    )
    house.apps[:] = [app]


async def test_a_query_is_rewritten_by_the_model_of_an_app_over_the_base(house: House) -> None:
    rewriting(house)
    house.bench.upstream.handler = lambda exchange: says(exchange, '"length of sleep for adults"')
    page = await house.client().vector_stores.search(
        "handbook", query="hi there, how long do I sleep?", rewrite_query=True
    )
    assert page.search_query == ["length of sleep for adults"]  # type: ignore[comparison-overlap]
    assert [call[1] for call in house.retriever.calls] == ["length of sleep for adults"]
    assert page.model_extra is not None
    assert page.model_extra["knowledge"]["note"] is None
    (exchange,) = house.bench.upstream.seen
    assert exchange.json["model"] == "gpt-4o-mini"
    (span,) = [span for span in house.recorder.spans if span.name == "rewrite"]
    assert span.attributes["app.name"] == "handbook"


async def test_a_rewriting_that_fails_leaves_the_query_as_it_was_asked_and_says_so(house: House) -> None:
    rewriting(house)
    house.bench.upstream.handler = lambda exchange: says(exchange, " \n ")
    page = await house.client().vector_stores.search("handbook", query="how long?", rewrite_query=True)
    assert page.search_query == ["how long?"]  # type: ignore[comparison-overlap]
    assert page.model_extra is not None
    assert "as it is" in page.model_extra["knowledge"]["note"]


async def test_a_rewriting_that_must_not_fail_ends_the_search(house: House) -> None:
    rewriting(house, on_failure="fail")
    house.bench.upstream.handler = lambda exchange: says(exchange, "")
    with pytest.raises(openai.APIStatusError, match="rewrite"):
        await house.client().vector_stores.search("handbook", query="how long?", rewrite_query=True)
    assert house.retriever.calls == []


async def test_without_an_app_that_rewrites_it_is_refused(house: House) -> None:
    """Neither silently dropped, nor paid for with a model that this key may not ask."""
    with pytest.raises(openai.BadRequestError, match="rewrite"):
        await house.client().vector_stores.search("handbook", query="sleep", rewrite_query=True)
    rewriting(house)
    with pytest.raises(openai.BadRequestError, match="rewrite"):
        await house.client(NARROW).vector_stores.search("handbook", query="sleep", rewrite_query=True)
    assert house.retriever.calls == []
    assert house.bench.upstream.seen == []


# -- attributes


async def test_attributes_carry_the_properties_of_a_document_as_clients_take_them(house: House) -> None:
    many = {f"p{n:02}": n for n in range(20)}
    hit = house.retriever.hits[0]
    told = {
        "section": "not the place",
        "authors": ["Ada", "Zoë"],
        "year": 2024,
        "draft": False,
        "note": "x" * 600,
    }
    house.retriever.hits = [_with(hit, {**told, **many})]
    page = await house.client().vector_stores.search("handbook", query="sleep")
    attributes = page.data[0].attributes
    assert attributes is not None
    assert attributes["section"] == "Length"
    assert attributes["authors"] == "Ada, Zoë"
    assert (attributes["year"], attributes["draft"], len(str(attributes["note"]))) == (2024, False, 512)
    assert len(attributes) == 16


def _with(hit: Any, attributes: dict[str, Any]) -> Any:
    return type(hit)(**{**vars(hit), "attributes": attributes})
