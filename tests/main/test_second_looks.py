"""Second looks over real sockets: what is sent, what comes back, what happens when nothing sensible does."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from penstock.base.errors import UpstreamError, UpstreamUnavailable
from penstock.knowledge.retrieval.errors import BadRerank
from penstock.knowledge.retrieval.types import RerankText
from penstock.main.second_looks import make_rerankers
from penstock.spec.knowledge import RerankRecipe

PASSAGES = [
    RerankText(id="p0", title="Tea", section=None, text="needs water"),
    RerankText(id="p1", title=None, section=None, text="oil"),
]


class Upstream:
    """Answers each path with what it is told to, and remembers what was asked."""

    def __init__(self) -> None:
        self.replies: dict[str, Any] = {}
        self.status = 200
        self.asked: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                told = {name.lower(): value for name, value in self.headers.items()}
                upstream.asked.append((self.path, body, told))
                reply = upstream.replies[self.path]
                data = (json.dumps(reply(body) if callable(reply) else reply)).encode()
                self.send_response(upstream.status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}).start()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    made = Upstream()
    yield made
    made.server.shutdown()
    made.server.server_close()


def ask(upstream: Upstream, kind: Any, model: str | None = None, embedder: str = "minilm") -> list[float]:
    rerankers = make_rerankers(
        find_gateway=lambda: upstream.url,
        find_engine=lambda: upstream.url,
        internal_key="key",
        find_embedding_model=lambda: (embedder, f"{embedder}@1"),
    )
    recipe = RerankRecipe(kind=kind, model=model, timeout_s=60)
    return list(rerankers[kind].score("tea?", PASSAGES, recipe, traceparent="00-a-b-01"))


@pytest.mark.parametrize("kind", ["provider", "cross-encoder"])
def test_a_route_scores_passages_in_their_own_order(upstream: Upstream, kind: str) -> None:
    upstream.replies["/v1/rerank"] = {
        "results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.2}]
    }
    assert ask(upstream, kind, "voyage-rerank") == [0.2, 0.9]
    ((path, body, headers),) = upstream.asked
    assert body == {
        "model": "voyage-rerank",
        "query": "tea?",
        "documents": ["Tea\nneeds water", "oil"],
        "top_n": 2,
    }
    assert (path, headers["authorization"], headers["traceparent"]) == (
        "/v1/rerank",
        "Bearer key",
        "00-a-b-01",
    )


@pytest.mark.parametrize(
    "reply", [{}, [], {"results": [{"index": 0, "relevance_score": 1}]}, {"results": [{"index": 0}]}]
)
def test_a_route_that_leaves_passages_out_is_a_bad_second_look(upstream: Upstream, reply: Any) -> None:
    upstream.replies["/v1/rerank"] = reply
    with pytest.raises(BadRerank):
        ask(upstream, "provider", "r")


def test_what_the_gateway_says_is_told(upstream: Upstream) -> None:
    upstream.replies["/v1/rerank"] = {"error": {"message": "budget used up"}}
    upstream.status = 429
    with pytest.raises(UpstreamError, match="budget used up"):
        ask(upstream, "provider", "r")


def test_a_route_has_to_be_named(upstream: Upstream) -> None:
    with pytest.raises(BadRerank, match="model"):
        ask(upstream, "cross-encoder")


def test_nobody_there_is_unavailable(upstream: Upstream) -> None:
    upstream.server.server_close()
    with pytest.raises(UpstreamUnavailable):
        ask(upstream, "provider", "r")


def test_token_vectors_come_from_the_engine(upstream: Upstream) -> None:
    def embed(body: dict[str, Any]) -> dict[str, Any]:
        rows = {"tea?": [[1, 0]], "Tea\nneeds water": [[1, 0], [0, 1]], "oil": [[0, 1]]}
        encoded = [base64.b64encode(np.array(rows[text], "<f4").tobytes()).decode() for text in body["input"]]
        return {"data": [{"dims": 2, "embeddings": each} for each in encoded]}

    upstream.replies["/v1/token_embeddings"] = embed
    assert ask(upstream, "late-interaction") == [1.0, 0.0]
    assert upstream.asked[0][1]["model"] == "minilm"


def test_without_an_embedding_model_there_is_no_late_interaction(upstream: Upstream) -> None:
    with pytest.raises(UpstreamUnavailable, match="weights"):
        ask(upstream, "late-interaction", embedder="lexical")


def test_a_chat_model_grades(upstream: Upstream) -> None:
    content = '{"grades": [{"passage": 2, "grade": 10}]}'
    upstream.replies["/v1/chat/completions"] = {"choices": [{"message": {"content": content}}]}
    assert ask(upstream, "model", "judge") == [0.0, 1.0]
    upstream.replies["/v1/chat/completions"] = {"choices": []}
    with pytest.raises(BadRerank):
        ask(upstream, "model", "judge")
