"""What second looks ask: the gateway for rerankers and chat models, the engine for vectors of single tokens.

Calls through the gateway have their spans, limits and prices as any others, and count for the caller they are made for.
"""

import base64
import http.client
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from penstock.apps.callers import caller_headers
from penstock.base.errors import UpstreamError, UpstreamTimeout, UpstreamUnavailable
from penstock.knowledge.retrieval.errors import BadRerank
from penstock.knowledge.retrieval.late_interaction import LateInteraction
from penstock.knowledge.retrieval.model_verdict import ModelVerdict
from penstock.knowledge.retrieval.types import Reranker, RerankText
from penstock.main.planning import LEXICAL
from penstock.spec.knowledge import RerankRecipe


class LocalHttp:
    """Posts JSON to a process of this installation. A connection a call: second looks are few."""

    def __init__(self, find_url: Callable[[], str], internal_key: str) -> None:
        self._find_url = find_url
        self._key = internal_key

    def post(
        self, path: str, body: Mapping[str, Any], *, timeout_s: float, traceparent: str | None = None
    ) -> Any:
        """Return the JSON of a reply with status 200; raise `UpstreamError` with what was told otherwise."""
        url = urlsplit(self._find_url())
        assert url.hostname is not None
        headers = {
            "authorization": f"Bearer {self._key}",
            "content-type": "application/json",
            **caller_headers(),
        }
        if traceparent:
            headers["traceparent"] = traceparent
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=timeout_s)
        try:
            connection.request("POST", path, body=json.dumps(body).encode(), headers=headers)
            response = connection.getresponse()
            status, data = response.status, response.read()
        except TimeoutError as error:
            raise UpstreamTimeout(f"no answer within {timeout_s:g} s.") from error
        except (OSError, http.client.HTTPException) as error:
            raise UpstreamUnavailable(
                "it cannot be reached.", hint="Is Penstock running? `penstock up` starts it."
            ) from error
        finally:
            connection.close()
        try:
            reply = json.loads(data)
        except ValueError as error:
            raise UpstreamError(f"status {status} without JSON.") from error
        if status != http.client.OK:
            told = reply.get("error") if isinstance(reply, dict) else None
            message = told.get("message") if isinstance(told, dict) else told
            raise UpstreamError(f"status {status}: {message or 'no reason given'}")
        return reply


class RouteReranker:
    """A `Reranker` over the gateway's rerank route: a provider's, or a cross-encoder of the embedded engine."""

    def __init__(self, gateway: LocalHttp) -> None:
        self._gateway = gateway

    def score(
        self, query: str, passages: Sequence[RerankText], recipe: RerankRecipe, *, traceparent: str | None
    ) -> list[float]:
        """Return the route's scores, in the order of the passages."""
        if recipe.model is None:
            raise BadRerank(f"a second look of kind {recipe.kind!r} needs `model`, the route that reranks.")
        texts = [
            "\n".join(part for part in (each.title, each.section, each.text) if part) for each in passages
        ]
        body = {"model": recipe.model, "query": query, "documents": texts, "top_n": len(texts)}
        reply = self._gateway.post("/v1/rerank", body, timeout_s=recipe.timeout_s, traceparent=traceparent)
        try:
            found = {int(row["index"]): float(row["relevance_score"]) for row in reply["results"]}
            return [found[number] for number in range(len(texts))]
        except (KeyError, TypeError, ValueError) as error:
            raise BadRerank(f"{recipe.model!r} did not score every passage.") from error


class EngineTokens:
    """Vectors of single tokens, from the engine process. An `EmbedTokens`."""

    def __init__(self, engine: LocalHttp) -> None:
        self._engine = engine

    def __call__(self, model: str, texts: Sequence[str], timeout_s: float) -> list[NDArray[np.float32]]:
        body = {"model": model, "input": list(texts), "encoding_format": "base64"}
        reply = self._engine.post("/v1/token_embeddings", body, timeout_s=timeout_s)
        try:
            return [
                np.frombuffer(base64.b64decode(row["embeddings"]), dtype="<f4").reshape(-1, int(row["dims"]))
                for row in reply["data"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise BadRerank("the engine answered with something that is no vectors.") from error


def make_rerankers(
    *,
    find_gateway: Callable[[], str],
    find_engine: Callable[[], str],
    internal_key: str,
    find_embedding_model: Callable[[], tuple[str, str]],
) -> dict[str, Reranker]:
    """Return every kind of second look, over this installation's gateway and engine."""
    gateway = LocalHttp(find_gateway, internal_key)
    route = RouteReranker(gateway)

    def find_model(asked: str | None) -> tuple[str, str]:
        name, version = find_embedding_model()
        if asked is not None and asked != name:
            return asked, asked
        if name == LEXICAL:
            raise UpstreamUnavailable(
                "late interaction needs an embedding model with weights, such as minilm."
            )
        return name, version

    def chat(body: dict[str, Any], timeout_s: float, traceparent: str | None) -> str:
        reply = gateway.post("/v1/chat/completions", body, timeout_s=timeout_s, traceparent=traceparent)
        try:
            return str(reply["choices"][0]["message"]["content"] or "")
        except (KeyError, IndexError, TypeError) as error:
            raise BadRerank("the model answered with something that is no reply.") from error

    return {
        "late-interaction": LateInteraction(EngineTokens(LocalHttp(find_engine, internal_key)), find_model),
        "cross-encoder": route,
        "provider": route,
        "model": ModelVerdict(chat),
    }
