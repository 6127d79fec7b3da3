"""Embeddings between the three shapes they are asked for in: OpenAI's, Cohere's (v2) and Gemini's.

One record for requests and one for replies, as the hub has for chats; pure functions between them and bytes. Token ids
and images as input are understood by their own dialect only, which moves bytes and never comes here.
"""

import base64
import binascii
import sys
from array import array
from collections.abc import Callable
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import msgspec

from penstock.base.errors import InvalidInput
from penstock.dialects.losses import Losses
from penstock.dialects.members import Members, decode_object, one_or_more
from penstock.dialects.openai.reply import read_usage
from penstock.dialects.openai.usage import write_usage
from penstock.dialects.port import WrittenRequest
from penstock.spec.routes import DialectName
from penstock.spec.usage import Usage

V = TypeVar("V")
InputType = Literal["query", "document", "classification", "clustering", "similarity"]
EMBEDDING_DIALECTS: frozenset[DialectName] = frozenset({"openai", "cohere", "gemini"})

_COHERE: dict[str, InputType] = {
    "search_query": "query",
    "search_document": "document",
    "classification": "classification",
    "clustering": "clustering",
}
_OPENAI: dict[str, InputType] = {**_COHERE, "query": "query", "passage": "document", "document": "document"}
"""An extension of servers that copy OpenAI, and Cohere's words, which clients of both use; OpenAI itself has no such
member."""
_GEMINI: dict[str, InputType] = {
    "RETRIEVAL_QUERY": "query",
    "RETRIEVAL_DOCUMENT": "document",
    "CLASSIFICATION": "classification",
    "CLUSTERING": "clustering",
    "SEMANTIC_SIMILARITY": "similarity",
    "QUESTION_ANSWERING": "query",
    "CODE_RETRIEVAL_QUERY": "query",
    "FACT_VERIFICATION": "query",
}
_TO_COHERE: dict[InputType, str] = {
    **{kind: word for word, kind in _COHERE.items()},
    "similarity": "clustering",
}
_TO_GEMINI: dict[InputType, str] = {
    "query": "RETRIEVAL_QUERY",
    "document": "RETRIEVAL_DOCUMENT",
    "classification": "CLASSIFICATION",
    "clustering": "CLUSTERING",
    "similarity": "SEMANTIC_SIMILARITY",
}


class EmbeddingRequest(msgspec.Struct, kw_only=True):
    """Texts to embed. `None` means not said."""

    source: DialectName
    model: str
    inputs: list[str]
    dimensions: int | None = None
    encoding: Literal["float", "base64"] = "float"
    input_type: InputType | None = None
    user: str | None = None
    is_single: bool = False
    """Gemini's `embedContent`, whose reply holds one vector instead of a list."""
    extra: dict[str, Any] = {}


class EmbeddingReply(msgspec.Struct, kw_only=True):
    """Vectors in the order of the inputs."""

    vectors: list[list[float]]
    usage: Usage | None = None
    model: str | None = None
    id: str | None = None


def read_embedding_request(
    dialect: DialectName, body: bytes, *, model: str | None = None
) -> EmbeddingRequest:
    """Decode a client's request; raises `InvalidInput` for what only its own dialect understands."""
    members = decode_object(body)
    named = members.text("model")
    request = _pick(_READERS, dialect)(members)
    request.model = model or named or ""
    request.extra = members.rest()
    return request


def write_embedding_request(dialect: DialectName, request: EmbeddingRequest, *, model: str) -> WrittenRequest:
    """Encode for a provider of `dialect` that calls its model `model`."""
    losses = Losses()
    if request.source != dialect:
        losses.add_all(request.extra)
    path, body = _pick(_WRITERS, dialect)(request, model, losses)
    if request.source == dialect:
        body = {**request.extra, **body}
    return WrittenRequest(path=path, body=msgspec.json.encode(body), dropped=losses.listed())


def read_embedding_reply(dialect: DialectName, body: bytes) -> EmbeddingReply:
    """Decode a provider's reply; raises `ValueError` if it is not one."""
    try:
        return _pick(_REPLY_READERS, dialect)(decode_object(body))
    except InvalidInput as error:
        raise ValueError(error.message) from None


def write_embedding_reply(
    dialect: DialectName, reply: EmbeddingReply, *, model: str, request: EmbeddingRequest
) -> bytes:
    """Encode for the client that asked for `model` with `request`."""
    return msgspec.json.encode(_pick(_REPLY_WRITERS, dialect)(reply, model, request))


def _pick(table: dict[DialectName, V], dialect: DialectName) -> V:
    found = table.get(dialect)
    if found is None:
        raise InvalidInput(
            f"The dialect {dialect} has no embeddings.",
            hint="Send the call to a provider of another dialect.",
        )
    return found


def _read_type(members: Members, name: str, words: dict[str, InputType]) -> InputType | None:
    """Return what texts are embedded for; a word that is not known stays with the members that nobody took."""
    said = members.text(name)
    kind = words.get(said or "")
    if said and kind is None:
        members.put(name, said)
    return kind


# -- OpenAI


def _read_openai(members: Members) -> EmbeddingRequest:
    inputs = members.take("input")
    if isinstance(inputs, list) and inputs and not isinstance(inputs[0], str):
        raise InvalidInput(
            "`input` holds token ids, which only the tokenizer's own provider understands.",
            hint="Send texts.",
            param="input",
        )
    encoding = members.text("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise InvalidInput("`encoding_format` must be float or base64.", param="encoding_format")
    return EmbeddingRequest(
        source="openai",
        model="",
        inputs=one_or_more(inputs, "input"),
        dimensions=members.integer("dimensions"),
        encoding="base64" if encoding == "base64" else "float",
        input_type=_read_type(members, "input_type", _OPENAI),
        user=members.text("user"),
    )


def _write_openai(request: EmbeddingRequest, model: str, losses: Losses) -> tuple[str, dict[str, Any]]:
    losses.if_said("input_type", request.input_type)
    body: dict[str, Any] = {"model": model, "input": request.inputs}
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    if request.user is not None:
        body["user"] = request.user
    body["encoding_format"] = request.encoding
    return "/embeddings", body


def _read_openai_reply(members: Members) -> EmbeddingReply:
    data = members.inners("data")
    data.sort(key=lambda one: one.integer("index") or 0)
    vectors = [_read_vector(one.take("embedding")) for one in data]
    if not vectors:
        raise InvalidInput("There is no `data`.")
    return EmbeddingReply(
        vectors=vectors, usage=read_usage(members.take("usage")), model=members.text("model")
    )


def _read_vector(value: Any) -> list[float]:
    """Return a vector given as numbers or as base64 of little-endian 32-bit floats."""
    try:
        if isinstance(value, str):
            numbers = array("f", base64.b64decode(value, validate=True))
            if sys.byteorder == "big":
                numbers.byteswap()
            return numbers.tolist()
        return msgspec.convert(value, list[float])
    except (msgspec.ValidationError, binascii.Error, ValueError):
        raise InvalidInput("An embedding is no vector.") from None


def _write_openai_reply(reply: EmbeddingReply, model: str, request: EmbeddingRequest) -> dict[str, Any]:
    write = _pack if request.encoding == "base64" else list
    data = [
        {"object": "embedding", "index": index, "embedding": write(vector)}
        for index, vector in enumerate(reply.vectors)
    ]
    body: dict[str, Any] = {"object": "list", "data": data, "model": model}
    usage = {} if reply.usage is None else write_usage(reply.usage)
    if "prompt_tokens" in usage:
        body["usage"] = {"prompt_tokens": usage["prompt_tokens"], "total_tokens": usage["total_tokens"]}
    return body


def _pack(vector: list[float]) -> str:
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()


# -- Cohere


def _read_cohere(members: Members) -> EmbeddingRequest:
    if members.take("images") or members.take("inputs"):
        raise InvalidInput("`images` and `inputs` are understood by Cohere only.", hint="Send `texts`.")
    types = members.listed("embedding_types")
    if types and types != ["float"]:
        raise InvalidInput(
            "`embedding_types` other than float are understood by Cohere only.", param="embedding_types"
        )
    return EmbeddingRequest(
        source="cohere",
        model="",
        inputs=one_or_more(members.take("texts"), "texts"),
        dimensions=members.integer("output_dimension"),
        input_type=_read_type(members, "input_type", _COHERE),
    )


def _write_cohere(request: EmbeddingRequest, model: str, losses: Losses) -> tuple[str, dict[str, Any]]:
    """`input_type` must be said; where the client did not, texts count as documents to be searched."""
    losses.if_said("user", request.user)
    body: dict[str, Any] = {"model": model, "texts": request.inputs, "embedding_types": ["float"]}
    body["input_type"] = _TO_COHERE[request.input_type or "document"]
    if request.dimensions is not None:
        body["output_dimension"] = request.dimensions
    return "/embed", body


def _read_cohere_reply(members: Members) -> EmbeddingReply:
    found = members.take("embeddings")
    listed = found.get("float") if isinstance(found, dict) else found
    if not isinstance(listed, list):
        raise InvalidInput("There are no `embeddings` of type float.")
    meta = members.inner("meta")
    units = meta.inner("billed_units") if meta is not None else None
    n_tokens = units.integer("input_tokens") if units is not None else None
    usage = None if n_tokens is None else Usage(input_uncached=n_tokens)
    return EmbeddingReply(
        vectors=[_read_vector(vector) for vector in listed], usage=usage, id=members.text("id")
    )


def _write_cohere_reply(reply: EmbeddingReply, model: str, request: EmbeddingRequest) -> dict[str, Any]:  # noqa: ARG001
    body: dict[str, Any] = {
        "id": reply.id or "",
        "embeddings": {"float": reply.vectors},
        "texts": request.inputs,
        "response_type": "embeddings_by_type",
    }
    if reply.usage is not None and (n_tokens := reply.usage.input_tokens) is not None:
        body["meta"] = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": n_tokens}}
    return body


# -- Gemini


def _read_gemini(members: Members) -> EmbeddingRequest:
    requests = members.inners("requests")
    is_single = not requests
    found = [_read_gemini_one(one) for one in requests or [members]]
    first = found[0]
    if any((one.dimensions, one.input_type) != (first.dimensions, first.input_type) for one in found):
        raise InvalidInput(
            "All `requests` must have one taskType and outputDimensionality.", param="requests"
        )
    first.inputs = [text for one in found for text in one.inputs]
    first.is_single = is_single
    if not is_single and (unknown := requests[0].peek("taskType")) is not None:
        members.put("taskType", unknown)
    return first


def _read_gemini_one(one: Members) -> EmbeddingRequest:
    content = one.inner("content")
    parts = content.inners("parts") if content is not None else []
    text = "".join(part.required("text") for part in parts)
    if not parts:
        raise InvalidInput(f"`{one.at('content.parts')}` is missing.", param=one.at("content.parts"))
    return EmbeddingRequest(
        source="gemini",
        model="",
        inputs=[text],
        dimensions=one.integer("outputDimensionality"),
        input_type=_read_type(one, "taskType", _GEMINI),
    )


def _write_gemini(request: EmbeddingRequest, model: str, losses: Losses) -> tuple[str, dict[str, Any]]:
    losses.if_said("user", request.user)
    shared: dict[str, Any] = {"model": f"models/{model}"}
    if request.input_type is not None:
        shared["taskType"] = _TO_GEMINI[request.input_type]
    if request.dimensions is not None:
        shared["outputDimensionality"] = request.dimensions
    requests = [{**shared, "content": {"parts": [{"text": text}]}} for text in request.inputs]
    return f"/models/{quote(model, safe='')}:batchEmbedContents", {"requests": requests}


def _read_gemini_reply(members: Members) -> EmbeddingReply:
    single = members.inner("embedding")
    listed = [single] if single is not None else members.inners("embeddings")
    if not listed:
        raise InvalidInput("There are no `embeddings`.")
    told = members.inner("usageMetadata")
    n_tokens = told.integer("promptTokenCount") if told is not None else None
    usage = None if n_tokens is None else Usage(input_uncached=n_tokens)
    return EmbeddingReply(vectors=[_read_vector(one.take("values")) for one in listed], usage=usage)


def _write_gemini_reply(reply: EmbeddingReply, model: str, request: EmbeddingRequest) -> dict[str, Any]:  # noqa: ARG001
    body: dict[str, Any] = {}
    if request.is_single:
        body["embedding"] = {"values": reply.vectors[0] if reply.vectors else []}
    else:
        body["embeddings"] = [{"values": vector} for vector in reply.vectors]
    if reply.usage is not None and (n_tokens := reply.usage.input_tokens) is not None:
        body["usageMetadata"] = {"promptTokenCount": n_tokens}
    return body


_READERS: dict[DialectName, Callable[[Members], EmbeddingRequest]] = {
    "openai": _read_openai,
    "cohere": _read_cohere,
    "gemini": _read_gemini,
}
_WRITERS: dict[DialectName, Callable[[EmbeddingRequest, str, Losses], tuple[str, dict[str, Any]]]] = {
    "openai": _write_openai,
    "cohere": _write_cohere,
    "gemini": _write_gemini,
}
_REPLY_READERS: dict[DialectName, Callable[[Members], EmbeddingReply]] = {
    "openai": _read_openai_reply,
    "cohere": _read_cohere_reply,
    "gemini": _read_gemini_reply,
}
_REPLY_WRITERS: dict[DialectName, Callable[[EmbeddingReply, str, EmbeddingRequest], dict[str, Any]]] = {
    "openai": _write_openai_reply,
    "cohere": _write_cohere_reply,
    "gemini": _write_gemini_reply,
}
