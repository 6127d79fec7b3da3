"""Embeddings and reranking for targets that ask for them in another shape than the client does."""

from penstock.dialects.embeddings import (
    EMBEDDING_DIALECTS,
    read_embedding_reply,
    read_embedding_request,
    write_embedding_reply,
    write_embedding_request,
)
from penstock.dialects.port import WrittenRequest
from penstock.dialects.rerank import (
    RerankShape,
    read_rerank_reply,
    read_rerank_request,
    shape_of,
    write_rerank_reply,
    write_rerank_request,
)
from penstock.gateway.calls import Call
from penstock.gateway.table import ReadyTarget
from penstock.spec.routes import DialectName
from penstock.spec.usage import Usage

_RERANKING: frozenset[DialectName] = frozenset({"openai", "cohere"})


def is_other_shape(call: Call, target: ReadyTarget) -> bool:
    """Return whether the target speaks the client's dialect and yet reranks in another shape (Voyage)."""
    return (
        call.operation == "rerank"
        and call.dialect in _RERANKING
        and shape_of(call.dialect) != _target_shape(call, target)
    )


def write_vectors(call: Call, target: ReadyTarget) -> WrittenRequest | None:
    """Return the request for `target`, None if it cannot be asked; raise `InvalidInput` for what cannot be told."""
    endpoint, dialect = call.endpoint, target.provider.dialect
    if endpoint.operation == "embeddings" and {endpoint.dialect, dialect} <= EMBEDDING_DIALECTS:
        request = read_embedding_request(endpoint.dialect, call.body, model=endpoint.model)
        return write_embedding_request(dialect, request, model=target.model)
    if endpoint.operation == "rerank" and {endpoint.dialect, dialect} <= _RERANKING:
        ranking = read_rerank_request(shape_of(endpoint.dialect), call.body)
        return write_rerank_request(_target_shape(call, target), ranking, model=target.model)
    return None


def translate_vectors(call: Call, target: ReadyTarget, body: bytes) -> tuple[bytes, Usage | None, str | None]:
    """Return the reply for the client, with usage and model of the provider's; raise `ValueError` if it is none."""
    endpoint = call.endpoint
    assert call.envelope is not None
    name = call.envelope.model
    if endpoint.operation == "embeddings":
        reply = read_embedding_reply(target.provider.dialect, body)
        request = read_embedding_request(endpoint.dialect, call.body, model=endpoint.model)
        if len(reply.vectors) != len(request.inputs):
            raise ValueError(f"{len(request.inputs)} texts were asked for, {len(reply.vectors)} vectors came")
        written = write_embedding_reply(endpoint.dialect, reply, model=name, request=request)
        return written, reply.usage, reply.model
    shape = shape_of(endpoint.dialect)
    ranked = read_rerank_reply(_target_shape(call, target), body)
    ranking = read_rerank_request(shape, call.body)
    return write_rerank_reply(shape, ranked, model=name, request=ranking), ranked.usage, ranked.model


def _target_shape(call: Call, target: ReadyTarget) -> RerankShape:
    dialect = call.dialect if call.dialect in target.speaks else target.provider.dialect
    return shape_of(dialect, target.quirks)
