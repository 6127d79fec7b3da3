"""Cross-encoders: converted with their head, served, and scored as the source's own arithmetic scores them."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.base.errors import InvalidInput
from penstock.providers.engines.app import EngineApp
from penstock.providers.engines.errors import EngineFailed
from penstock.providers.engines.ranking import read_head, read_rerank
from penstock.tuning.convert.architectures import BertShape, read_shape
from penstock.tuning.convert.gguf_file import convert_folder
from penstock.tuning.errors import UnsupportedModel
from penstock.tuning.parity import prove_parity
from penstock.tuning.references import bert_score
from tests.providers.engines.test_engine_app import KEY, RunningEngine, host, post
from tests.tuning.tiny_models import make_bert, make_ranker, read_all

pytestmark = pytest.mark.engine
DOCUMENTS = ["Drink water when you are thirsty.", "Sleep in a dark room.", "walk " * 80]


@pytest.fixture(scope="module")
def ranker_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_ranker(tmp_path_factory.mktemp("ranker"))


@pytest.fixture(scope="module")
def engine(ranker_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    models = [
        host(ranker_folder, "tinyranker", "rerank"),
        host(make_bert(tmp_path_factory.mktemp("plain")), "tinybert", "embedding"),
    ]
    running = RunningEngine(EngineApp(models, internal_key=KEY, n_slots=1))
    yield running
    running.stop()


def test_a_converted_cross_encoder_scores_as_its_source_does(ranker_folder: Path, tmp_path: Path) -> None:
    """With both types of token: llama.cpp's own rank pooling reads every token as of the first text."""
    for precision in ("f32", "f16", "q8_0"):
        conversion = convert_folder(ranker_folder, tmp_path / "m.gguf", precision=precision)  # type: ignore[arg-type]
        assert conversion.is_reranker
        report = prove_parity(ranker_folder, tmp_path / "m.gguf", precision=precision)  # type: ignore[arg-type]
        assert report.passed, report


def test_the_proof_fails_without_the_second_type(ranker_folder: Path, tmp_path: Path) -> None:
    shape = read_shape(ranker_folder)
    assert isinstance(shape, BertShape)
    tensors = read_all(ranker_folder)
    ids = [2, 40, 41, 3, 50, 51, 52, 3]
    both = bert_score(shape, tensors, ids, [0, 0, 0, 0, 1, 1, 1, 1])
    assert abs(both - bert_score(shape, tensors, ids, [0] * 8)) > 0.05


async def test_documents_are_scored_and_ordered_over_http(engine: RunningEngine) -> None:
    body: dict[str, Any] = {"model": "tinyranker", "query": "what to drink?", "documents": DOCUMENTS}
    status, reply = await post(engine, "/v1/rerank", body)
    assert status == 200
    scores = {row["index"]: row["relevance_score"] for row in reply["results"]}
    assert sorted(scores) == [0, 1, 2]
    assert [row["relevance_score"] for row in reply["results"]] == sorted(scores.values(), reverse=True)
    assert all(0 < score < 1 for score in scores.values())
    assert reply["truncated"] == [2]
    assert reply["usage"]["total_tokens"] > 0
    one = [{"text": DOCUMENTS[1]}]
    status, alone = await post(
        engine, "/v1/rerank", body | {"documents": one, "top_n": 1, "return_documents": True}
    )
    assert alone["results"][0]["document"] == {"text": DOCUMENTS[1]}
    assert alone["results"][0]["relevance_score"] == pytest.approx(scores[1], abs=1e-3)
    assert not math.isclose(scores[0], scores[1], abs_tol=1e-4)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "tinybert", "query": "a", "documents": ["b"]}, 400),
        ({"model": "nobody", "query": "a", "documents": ["b"]}, 404),
        ({"model": "tinyranker", "query": " ", "documents": ["b"]}, 400),
        ({"model": "tinyranker", "query": "a", "documents": []}, 400),
        ({"model": "tinyranker", "query": "a"}, 400),
        ({"model": "tinyranker", "query": "a", "documents": ["b"], "top_n": 0}, 400),
    ],
)
async def test_calls_that_cannot_be_are_refused(
    engine: RunningEngine, body: dict[str, Any], status: int
) -> None:
    assert (await post(engine, "/v1/rerank", body))[0] == status


async def test_a_reranker_does_not_embed(engine: RunningEngine) -> None:
    status, reply = await post(engine, "/v1/embeddings", {"model": "tinyranker", "input": "a"})
    assert status == 400
    assert "reranking only" in json.dumps(reply)


def test_a_model_without_a_head_does_not_rank(tmp_path: Path) -> None:
    convert_folder(make_bert(tmp_path / "bert"), tmp_path / "m.gguf")
    with pytest.raises(EngineFailed, match="no head"):
        read_head(tmp_path / "m.gguf")


def test_a_classifier_of_several_labels_is_no_reranker(ranker_folder: Path, tmp_path: Path) -> None:
    config = json.loads((ranker_folder / "config.json").read_text()) | {"id2label": {"0": "a", "1": "b"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModel, match="2 labels"):
        read_shape(tmp_path)


def test_a_body_that_is_no_request_is_refused() -> None:
    with pytest.raises(InvalidInput):
        read_rerank(b"{")
