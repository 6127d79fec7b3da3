"""Chances of given texts and a vector a token, from tiny models that really run."""

import base64
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from penstock.base.errors import InvalidInput
from penstock.main.engine_tools import EngineTools
from penstock.providers.engines.app import EngineApp
from penstock.providers.engines.measuring import find_edges, read_likelihood, read_token_embedding
from tests.providers.engines.test_engine_app import KEY, RunningEngine, host, post
from tests.tuning.tiny_models import make_bert, make_llama

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    folder = tmp_path_factory.mktemp("measured")
    models = [
        host(make_llama(folder / "llama"), "tiny", "chat"),
        host(make_bert(folder / "bert"), "tinybert", "embedding"),
    ]
    running = RunningEngine(EngineApp(models, internal_key=KEY, n_slots=1))
    yield running
    running.stop()


@pytest.fixture
def tools(engine: RunningEngine) -> EngineTools:
    return EngineTools(lambda: engine.url, KEY)


async def test_chances_of_a_text_are_those_that_the_model_gives_each_token(
    engine: RunningEngine, tools: EngineTools
) -> None:
    cell = engine.app._cells["tiny"]
    renderer = cell.hosted.renderer
    text = "Walk every day. ü睡"
    start, end = find_edges(renderer)
    ids = renderer.encode_texts([text])[0]
    ids = ids[: len(ids) - len(end)]
    found = await tools.likelihood("tiny", "", text)
    assert len(found) == len(ids) - max(1, len(start))
    printable = renderer.encode_texts(["a"])[0][len(start)]
    for place, chance in enumerate(found, max(1, len(start))):
        everything = cell.engine.next_logprobs(ids[:place], 1_000_000, printable_id=printable)
        assert sum(map(math.exp, everything.values())) == pytest.approx(1.0, abs=1e-3)
        assert chance.logprob == pytest.approx(everything[ids[place]], abs=0.02)
    after = await tools.likelihood("tiny", "What helps?", text)
    assert len(after) == len(ids) - len(start)
    assert [chance.logprob for chance in after[-3:]] != [chance.logprob for chance in found[-3:]]


async def test_each_token_has_a_vector_of_length_one(engine: RunningEngine, tools: EngineTools) -> None:
    renderer = engine.app._cells["tinybert"].hosted.renderer
    texts = ["walk every day", "sleep"]
    found = await tools.embed_tokens("tinybert", texts)
    n_edges = sum(map(len, find_edges(renderer)))
    assert n_edges == 2
    assert [len(rows) for rows in found] == [len(ids) - n_edges for ids in renderer.encode_texts(texts)]
    for rows in found:
        assert np.linalg.norm(np.asarray(rows), axis=1) == pytest.approx(1.0, abs=1e-4)
    body = {"model": "tinybert", "input": texts, "encoding_format": "base64"}
    packed = tools._post("/v1/token_embeddings", body)["data"]
    for rows, each in zip(found, packed, strict=True):
        same = np.frombuffer(base64.b64decode(each["embeddings"]), "<f4").reshape(-1, each["dims"])
        assert same == pytest.approx(np.asarray(rows), abs=1e-4)
    again = await tools.embed_tokens("tinybert", texts[:1])
    assert np.asarray(again[0]) == pytest.approx(np.asarray(found[0]), abs=1e-4)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/likelihoods", {"model": "tinybert", "continuation": "a"}, 400),
        ("/v1/likelihoods", {"model": "nobody", "continuation": "a"}, 404),
        ("/v1/likelihoods", {"model": "tiny", "continuation": "walk " * 5000}, 400),
        ("/v1/token_embeddings", {"model": "tiny", "input": ["a"]}, 400),
        ("/v1/token_embeddings", {"model": "tinybert", "input": ["walk " * 5000]}, 400),
    ],
)
async def test_what_cannot_be_measured_is_refused(
    engine: RunningEngine, path: str, body: Any, status: int
) -> None:
    assert (await post(engine, path, body))[0] == status


async def test_refusals_of_the_engine_come_back_as_what_they_are(tools: EngineTools) -> None:
    with pytest.raises(InvalidInput, match="chat only"):
        await tools.embed_tokens("tiny", ["a"])


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"model": "a", "continuation": " "}', b'{"model": 1}'])
def test_bodies_that_ask_for_nothing_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_likelihood(body)
    with pytest.raises(InvalidInput):
        read_token_embedding(body)
