"""Reranking between the shapes it is asked for in: Cohere's (v2), Jina's (which most open servers copy) and Voyage's."""

from typing import Any, Literal

import msgspec

from penstock.base.errors import InvalidInput
from penstock.dialects.losses import Losses
from penstock.dialects.members import Members, decode_object, wrong
from penstock.dialects.port import WrittenRequest
from penstock.spec.routes import DialectName
from penstock.spec.usage import Usage

RerankShape = Literal["cohere", "jina", "voyage"]


class RerankRequest(msgspec.Struct, kw_only=True):
    """Documents to be ordered by how well they answer `query`."""

    source: RerankShape
    model: str
    query: str
    documents: list[str]
    top_n: int | None = None
    return_documents: bool | None = None
    extra: dict[str, Any] = {}


class RerankResult(msgspec.Struct, kw_only=True):
    """One document by its place in the request, and its score."""

    index: int
    score: float


class RerankReply(msgspec.Struct, kw_only=True):
    """Results, best first, as the provider ordered them."""

    results: list[RerankResult]
    usage: Usage | None = None
    search_units: float | None = None
    """What Cohere bills instead of tokens."""
    model: str | None = None
    id: str | None = None


def shape_of(dialect: DialectName, quirks: frozenset[str] = frozenset()) -> RerankShape:
    """Return how a provider or client of `dialect` reranks; raises `InvalidInput` where it cannot."""
    if dialect == "cohere":
        return "cohere"
    if dialect == "openai":
        return "voyage" if "rerank_voyage" in quirks else "jina"
    raise InvalidInput(
        f"The dialect {dialect} has no reranking.", hint="Send the call to a provider of another dialect."
    )


def read_rerank_request(shape: RerankShape, body: bytes) -> RerankRequest:
    """Decode a client's request. Documents may be texts or objects with a `text`."""
    members = decode_object(body)
    request = RerankRequest(
        source=shape,
        model=members.text("model") or "",
        query=members.required("query"),
        documents=_read_documents(members),
        top_n=_read_top(members),
        return_documents=members.flag("return_documents"),
    )
    request.extra = members.rest()
    return request


def _read_top(members: Members) -> int | None:
    """Return how many results are wanted: Voyage says `top_k`, clients of the others may have both in hand."""
    top_n, top_k = members.integer("top_n"), members.integer("top_k")
    return top_k if top_n is None else top_n


def _read_documents(members: Members) -> list[str]:
    texts: list[str] = []
    for index, document in enumerate(members.listed("documents")):
        text = document.get("text") if isinstance(document, dict) else document
        if not isinstance(text, str):
            raise wrong(f"documents[{index}]", "a text, or an object with a `text`", document)
        texts.append(text)
    if not texts:
        raise InvalidInput("`documents` is empty.", param="documents")
    return texts


def write_rerank_request(shape: RerankShape, request: RerankRequest, *, model: str) -> WrittenRequest:
    """Encode for a provider. Documents are never asked back: writers of replies know them from the request."""
    losses = Losses()
    extra = dict(request.extra) if request.source == shape else {}
    if request.source != shape:
        losses.add_all(request.extra)
    body: dict[str, Any] = {**extra, "model": model, "query": request.query, "documents": request.documents}
    if request.top_n is not None:
        body["top_k" if shape == "voyage" else "top_n"] = request.top_n
    if shape != "cohere":
        body["return_documents"] = False
    return WrittenRequest(path="/rerank", body=msgspec.json.encode(body), dropped=losses.listed())


def read_rerank_reply(shape: RerankShape, body: bytes) -> RerankReply:
    """Decode a provider's reply; raises `ValueError` if it is not one."""
    try:
        members = decode_object(body)
        name = "data" if shape == "voyage" else "results"
        if not isinstance(members.peek(name), list):
            raise InvalidInput(f"There are no `{name}`.")
        reply = RerankReply(
            results=[_read_result(one) for one in members.inners(name)],
            model=members.text("model"),
            id=members.text("id"),
        )
        reply.usage, reply.search_units = _read_usage(members)
    except InvalidInput as error:
        raise ValueError(error.message) from None
    return reply


def _read_result(one: Members) -> RerankResult:
    index = one.integer("index")
    score = one.number("relevance_score")
    score = one.number("score") if score is None else score
    if index is None or score is None:
        raise InvalidInput(f"`{one.path}` lacks its index or score.")
    return RerankResult(index=index, score=float(score))


def _read_usage(members: Members) -> tuple[Usage | None, float | None]:
    meta, told = members.inner("meta"), members.inner("usage")
    units = meta.inner("billed_units") if meta is not None else None
    tokens = meta.inner("tokens") if meta is not None else None
    count = tokens.integer("input_tokens") if tokens is not None else None
    if told is not None:
        total, prompt = told.integer("total_tokens"), told.integer("prompt_tokens")
        count = total if prompt is None else prompt
    usage = None if count is None else Usage(input_uncached=count)
    return usage, (units.number("search_units") if units is not None else None)


def write_rerank_reply(
    shape: RerankShape, reply: RerankReply, *, model: str, request: RerankRequest
) -> bytes:
    """Encode for the client that asked for `model` with `request`."""
    results = [_write_result(shape, one, request) for one in reply.results]
    count = None if reply.usage is None else reply.usage.input_tokens
    body: dict[str, Any]
    if shape == "cohere":
        meta: dict[str, Any] = {"api_version": {"version": "2"}}
        if reply.search_units is not None:
            meta["billed_units"] = {"search_units": reply.search_units}
        if count is not None:
            meta["tokens"] = {"input_tokens": count}
        body = {"id": reply.id or "", "results": results, "meta": meta}
    else:
        body = {"object": "list", "data" if shape == "voyage" else "results": results, "model": model}
        if count is not None:
            body["usage"] = {"total_tokens": count}
    return msgspec.json.encode(body)


def _write_result(shape: RerankShape, one: RerankResult, request: RerankRequest) -> dict[str, Any]:
    written: dict[str, Any] = {"index": one.index, "relevance_score": one.score}
    has_text = request.return_documents and 0 <= one.index < len(request.documents)
    if has_text and shape != "cohere":
        text = request.documents[one.index]
        written["document"] = text if shape == "voyage" else {"text": text}
    return written
