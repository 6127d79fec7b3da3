"""Embeddings and reranking say the same in every shape they are asked for in."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.errors import InvalidInput
from penstock.dialects.embeddings import (
    EMBEDDING_DIALECTS,
    EmbeddingReply,
    EmbeddingRequest,
    read_embedding_reply,
    read_embedding_request,
    write_embedding_reply,
    write_embedding_request,
)
from penstock.dialects.rerank import (
    RerankReply,
    RerankResult,
    read_rerank_reply,
    read_rerank_request,
    shape_of,
    write_rerank_reply,
    write_rerank_request,
)
from penstock.spec.usage import Usage

NAMES: list[Any] = sorted(EMBEDDING_DIALECTS)
SHAPES: list[Any] = ["cohere", "jina", "voyage"]
FLOATS = st.floats(-2, 2, width=32)


@pytest.mark.parametrize("dialect", NAMES)
@settings(max_examples=30, deadline=None)
@given(
    texts=st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=4),
    dimensions=st.none() | st.integers(1, 999),
    kind=st.sampled_from(["query", "document", "classification", "clustering"]),
)
def test_an_embedding_request_is_read_as_it_was_written(
    dialect: Any, texts: list[str], dimensions: int | None, kind: Any
) -> None:
    request = EmbeddingRequest(
        source=dialect, model="m", inputs=texts, dimensions=dimensions, input_type=kind
    )
    found = write_embedding_request(dialect, request, model="m")
    again = read_embedding_request(dialect, found.body, model="m")
    if dialect == "openai":
        assert found.dropped == ("input_type",)
        request.input_type = None
    assert again == request


@pytest.mark.parametrize("dialect", NAMES)
@pytest.mark.parametrize("encoding", ["float", "base64"])
@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(FLOATS, min_size=2, max_size=2), min_size=1, max_size=3), st.none() | st.integers(0, 9)
)
def test_vectors_come_back_exactly(
    dialect: Any, encoding: Any, vectors: list[list[float]], count: int | None
) -> None:
    usage = None if count is None else Usage(input_uncached=count)
    reply = EmbeddingReply(vectors=vectors, usage=usage)
    request = EmbeddingRequest(source=dialect, model="m", inputs=["x"] * len(vectors), encoding=encoding)
    again = read_embedding_reply(dialect, write_embedding_reply(dialect, reply, model="m", request=request))
    assert (again.vectors, again.usage) == (vectors, usage)


def test_an_openai_client_is_served_by_the_others() -> None:
    body = json.dumps({"model": "r", "input": "hi", "dimensions": 2, "user": "u", "future": 1}).encode()
    request = read_embedding_request("openai", body)
    cohere = write_embedding_request("cohere", request, model="embed-v4.0")
    assert cohere.path == "/embed"
    assert json.loads(cohere.body) == {
        "model": "embed-v4.0", "texts": ["hi"], "embedding_types": ["float"], "input_type": "search_document",
        "output_dimension": 2,
    }  # fmt: skip
    assert set(cohere.dropped) == {"user", "future"}
    gemini = write_embedding_request("gemini", request, model="gemini-embedding-001")
    assert gemini.path == "/models/gemini-embedding-001:batchEmbedContents"
    assert json.loads(gemini.body)["requests"] == [
        {
            "model": "models/gemini-embedding-001",
            "outputDimensionality": 2,
            "content": {"parts": [{"text": "hi"}]},
        }
    ]


def test_a_single_gemini_request_gets_a_single_vector() -> None:
    request = read_embedding_request(
        "gemini", b'{"content": {"parts": [{"text": "a"}, {"text": "b"}]}}', model="m"
    )
    assert (request.inputs, request.is_single, request.model) == (["ab"], True, "m")
    reply = EmbeddingReply(vectors=[[1.0]])
    assert json.loads(write_embedding_reply("gemini", reply, model="m", request=request)) == {
        "embedding": {"values": [1.0]}
    }


@pytest.mark.parametrize(
    ("dialect", "value", "says"),
    [
        ("openai", {"input": [1, 2]}, "token ids"),
        ("openai", {"input": "x", "encoding_format": "int8"}, "encoding_format"),
        ("openai", {"input": 3}, "input"),
        ("cohere", {"images": ["x"]}, "images"),
        ("cohere", {"texts": ["x"], "embedding_types": ["int8"]}, "embedding_types"),
        ("gemini", {"requests": [{"content": {}}]}, "parts"),
        ("bedrock", {}, "no embeddings"),
    ],
)
def test_what_cannot_be_said_to_another_provider_is_refused(
    dialect: Any, value: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        read_embedding_request(dialect, json.dumps(value).encode(), model="m")


@pytest.mark.parametrize(
    ("dialect", "body", "kind"),
    [
        ("openai", {"input": "x", "input_type": "search_query"}, "query"),
        ("openai", {"input": "x", "input_type": "clustering"}, "clustering"),
        ("openai", {"input": "x", "input_type": "odd"}, None),
        ("cohere", {"texts": ["x"], "input_type": "image"}, None),
        ("gemini", {"content": {"parts": [{"text": "x"}]}, "taskType": "FACT_VERIFICATION"}, "query"),
        ("gemini", {"content": {"parts": [{"text": "x"}]}, "taskType": "ODD"}, None),
        ("gemini", {"requests": [{"content": {"parts": [{"text": "x"}]}, "taskType": "ODD"}]}, None),
    ],
)
def test_a_word_for_what_texts_are_embedded_for_is_known_or_named(
    dialect: Any, body: dict[str, Any], kind: Any
) -> None:
    request = read_embedding_request(dialect, json.dumps(body).encode(), model="m")
    assert request.input_type == kind
    other = "cohere" if dialect != "cohere" else "gemini"
    name = "taskType" if dialect == "gemini" else "input_type"
    assert (name in write_embedding_request(other, request, model="m").dropped) == (kind is None)


BAD = [
    b"<html>",
    b"[]",
    b"{}",
    b'{"data": [{"embedding": "###"}]}',
    b'{"embeddings": {"int8": []}}',
    b'{"results": [{}]}',
]


@pytest.mark.parametrize("body", BAD)
@pytest.mark.parametrize("dialect", NAMES)
def test_what_is_no_embedding_reply_is_refused(dialect: Any, body: bytes) -> None:
    with pytest.raises(ValueError):
        read_embedding_reply(dialect, body)


@pytest.mark.parametrize("source", SHAPES)
@pytest.mark.parametrize("target", SHAPES)
def test_reranking_is_said_in_every_shape(source: Any, target: Any) -> None:
    top = "top_k" if source == "voyage" else "top_n"
    value = {
        "model": "r",
        "query": "q",
        "documents": ["a", {"text": "b"}],
        top: 1,
        "return_documents": True,
        "odd": 1,
    }
    request = read_rerank_request(source, json.dumps(value).encode())
    found = write_rerank_request(target, request, model="m")
    said = json.loads(found.body)
    assert said["documents"] == ["a", "b"]
    assert said["top_k" if target == "voyage" else "top_n"] == 1
    assert found.dropped == (() if source == target else ("odd",))
    reply = RerankReply(results=[RerankResult(index=1, score=0.5)], usage=Usage(input_uncached=7))
    wire = write_rerank_reply(target, reply, model="m", request=request)
    again = read_rerank_reply(target, wire)
    assert (again.results, again.usage) == (reply.results, reply.usage)
    told = json.loads(write_rerank_reply(source, again, model="r", request=request))
    first = told["data" if source == "voyage" else "results"][0]
    assert first.get("document") == {"cohere": None, "jina": {"text": "b"}, "voyage": "b"}[source]


def test_cohere_bills_searches() -> None:
    reply = read_rerank_reply("cohere", b'{"id": "x", "results": [{"index": 0, "relevance_score": 1}], '
                              b'"meta": {"billed_units": {"search_units": 1}}}')  # fmt: skip
    assert (reply.search_units, reply.usage, reply.id) == (1, None, "x")


@pytest.mark.parametrize(
    "body", [b"{}", b'{"query": "q"}', b'{"query": "q", "documents": [3]}', b'{"documents": ["a"]}']
)
def test_a_bad_rerank_request_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_rerank_request("jina", body)


@pytest.mark.parametrize("body", BAD)
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_no_rerank_reply_is_refused(shape: Any, body: bytes) -> None:
    with pytest.raises(ValueError):
        read_rerank_reply(shape, body)


def test_who_reranks_how() -> None:
    assert shape_of("cohere") == "cohere"
    assert shape_of("openai") == "jina"
    assert shape_of("openai", frozenset({"rerank_voyage"})) == "voyage"
    with pytest.raises(InvalidInput):
        shape_of("anthropic")
