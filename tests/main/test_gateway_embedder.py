"""Embedding calls over a real socket: order, waiting, refusals, versions, prices, connections, and what recipes open."""

import json
import threading
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from penstock.base.errors import UpstreamError, UpstreamUnavailable
from penstock.jobs.errors import JobCancelled
from penstock.knowledge.embedding.calls import NoRoomNow, Refused
from penstock.knowledge.embedding.errors import ChangedEmbedder, MixedEmbedder, UnknownEmbedder
from penstock.main.embedders import GatewayEmbedders
from penstock.main.gateway_embedder import GatewayCalls, GatewayEmbedder, RouteCalls
from penstock.main.job_spans import job_span, with_spans
from penstock.spec.knowledge import EmbedRecipe
from penstock.spec.routes import PinnedVersion, PriceRow, Provider, Route, Target
from penstock.spec.snapshot import Snapshot
from penstock.spec.spans import Span
from penstock.store.blobs import BlobStore


class Gateway:
    """Answers embedding calls as a gateway does, one reply after the other."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.replies: list[tuple[int, dict[str, str], Any]] = []
        self.told = {"x-penstock-provider": "engine", "x-penstock-model": "minilm"}
        self.n_connections = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                outer.n_connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.asked.append(body)
                outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                status, headers, answer = outer.replies.pop(0) if outer.replies else (200, {}, None)
                if answer is None:
                    data = [
                        {"index": n, "embedding": [float(len(text)), 1.0]}
                        for n, text in enumerate(body["input"])
                    ]
                    answer = {"data": data[::-1], "usage": {"prompt_tokens": 7}}
                told = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {**outer.told, **headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    made = Gateway()
    yield made
    made.close()


@pytest.fixture
def calls(gateway: Gateway) -> Iterator[GatewayCalls]:
    made = GatewayCalls(lambda: gateway.url, "internal-secret")
    yield made
    made.close()


def route_calls(calls: GatewayCalls, **fields: Any) -> RouteCalls:
    given = {"models": frozenset({"minilm"}), "version": None, "price": lambda *_: 5, **fields}
    return RouteCalls(calls, name="minilm", **given)


def ask(route: RouteCalls, *texts: str, dims: int | None = None) -> Any:
    return route.ask(texts, dims=dims, traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01", timeout_s=60)


def test_rows_come_in_the_order_of_the_texts_with_tokens_and_price(
    gateway: Gateway, calls: GatewayCalls
) -> None:
    answer = ask(route_calls(calls), "one", "three", dims=2)
    assert answer.rows.tolist() == [[3.0, 1.0], [5.0, 1.0]]
    assert (answer.n_tokens, answer.cost_nano_usd) == (7, 5)
    assert gateway.asked == [
        {"model": "minilm", "input": ["one", "three"], "encoding_format": "float", "dimensions": 2}
    ]
    assert gateway.headers[0]["authorization"] == "Bearer internal-secret"
    assert gateway.headers[0]["traceparent"].startswith("00-aaaa")


@pytest.mark.parametrize(
    "data",
    [
        [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}],
        [{"index": 1, "embedding": [1.0]}, {"index": 2, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}],
        "nonsense",
    ],
)
def test_an_answer_without_one_row_a_text_is_refused(
    gateway: Gateway, calls: GatewayCalls, data: Any
) -> None:
    gateway.replies.append((200, {}, {"data": data}))
    with pytest.raises(UpstreamError):
        ask(route_calls(calls), "one", "two")


@pytest.mark.parametrize(
    ("status", "headers", "wait_s"),
    [(429, {"retry-after": "12"}, 12.0), (503, {}, None), (500, {"retry-after": "Tue, 1 Jul"}, None)],
)
def test_what_passes_is_told_apart_with_how_long_to_wait(
    gateway: Gateway, calls: GatewayCalls, status: int, headers: dict[str, str], wait_s: float | None
) -> None:
    gateway.replies.append((status, headers, {"error": {"message": "slow down"}}))
    with pytest.raises(NoRoomNow, match="slow down") as caught:
        ask(route_calls(calls), "one")
    assert caught.value.retry_after_s == wait_s


@pytest.mark.parametrize(
    ("status", "error", "is_size", "is_of_texts"),
    [
        (400, {"message": "The context is 512 tokens", "code": "context_length_exceeded"}, True, True),
        (400, {"message": "This input is too long for the model"}, True, True),
        (413, {"message": "no"}, True, True),
        (400, {"message": "bad", "param": "input"}, False, True),
        (400, {"message": "gives 384 dimensions and no others", "param": "dimensions"}, False, False),
        (404, {"message": "no such model", "code": "model_not_found"}, False, False),
        (401, {"message": "no key"}, False, False),
    ],
)
def test_refusals_say_whether_other_texts_would_do(
    gateway: Gateway,
    calls: GatewayCalls,
    status: int,
    error: dict[str, str],
    is_size: bool,
    is_of_texts: bool,
) -> None:
    gateway.replies.append((status, {}, {"error": error}))
    with pytest.raises(Refused) as caught:
        ask(route_calls(calls), "one")
    assert (caught.value.is_size, caught.value.is_of_texts) == (is_size, is_of_texts)


def test_a_budget_that_is_spent_is_not_waited_for(gateway: Gateway, calls: GatewayCalls) -> None:
    error = {"error": {"message": "Budget reached", "code": "insufficient_quota"}}
    gateway.replies.append((429, {"x-should-retry": "false", "retry-after": "86000"}, error))
    with pytest.raises(Refused, match="Budget reached"):
        ask(route_calls(calls), "one")


def test_another_version_or_model_than_was_begun_with_is_noticed(
    gateway: Gateway, calls: GatewayCalls
) -> None:
    gateway.told["x-penstock-version"] = "model:minilm@2 sha256:b"
    with pytest.raises(ChangedEmbedder, match="minilm@2"):
        ask(route_calls(calls, version="model:minilm@1 sha256:a"), "one")
    gateway.told["x-penstock-model"] = "other"
    with pytest.raises(ChangedEmbedder, match="'other'"):
        ask(route_calls(calls), "one")


def test_connections_are_kept_and_a_closed_one_is_replaced(gateway: Gateway, calls: GatewayCalls) -> None:
    route = route_calls(calls)
    for _ in range(3):
        ask(route, "one")
    assert gateway.n_connections == 1
    calls._kept[0][1].sock.shutdown(2)
    ask(route, "one")
    assert gateway.n_connections == 2


def test_no_gateway_is_told_at_once_with_what_starts_it() -> None:
    calls = GatewayCalls(lambda: "http://127.0.0.1:9", "key")
    with pytest.raises(UpstreamUnavailable, match="penstock up"):
        ask(route_calls(calls), "one")


def test_the_plain_way_tells_the_reason_of_a_failure(gateway: Gateway) -> None:
    made = GatewayEmbedder(
        find_model=lambda: ("minilm", ""), find_url=lambda: gateway.url, internal_key="internal-secret"
    )
    assert made.embed(["one"], "query").tolist() == [[3.0, 1.0]]
    gateway.replies.append((500, {}, {"error": {"message": "broken"}}))
    with pytest.raises(UpstreamError, match="status 500: broken"):
        made.embed(["one"], "query")
    made.close()


# -- spans of jobs


def test_calls_of_a_job_hang_below_its_span(gateway: Gateway, calls: GatewayCalls) -> None:
    spans: list[Span] = []
    with job_span("job knowledge.ingest", {"job.id": "j1"}, spans.append):
        route_calls(calls).ask(["one"], dims=None, traceparent=None, timeout_s=60)
    route_calls(calls).ask(["one"], dims=None, traceparent=None, timeout_s=60)
    (span,) = spans
    assert (span.kind, span.status) == ("job", "ok")
    assert gateway.headers[0]["traceparent"] == f"00-{span.trace_id}-{span.span_id}-01"
    assert "traceparent" not in gateway.headers[1]


def test_a_job_that_fails_or_is_stopped_says_so_in_its_span() -> None:
    spans: list[Span] = []
    with pytest.raises(UpstreamError), job_span("job", {}, spans.append):
        raise UpstreamError("broken")
    with pytest.raises(JobCancelled), job_span("job", {}, spans.append):
        raise JobCancelled("job_1")
    assert [(span.status, span.error_code) for span in spans] == [("error", "PS-4000"), ("unset", None)]


def test_jobs_of_other_kinds_have_no_span() -> None:
    def handler(ctx: Any, spec: dict[str, Any]) -> dict[str, Any]:
        return {}

    spans: list[Span] = []
    wrapped = with_spans({"a": handler, "b": handler}, frozenset({"a"}), spans.append)
    assert wrapped["b"] is handler

    class Context:
        job_id, attempt = "job_1", 2

    assert wrapped["a"](Context(), {"name": "handbook"}) == {}  # type: ignore[arg-type]
    assert spans[0].attributes == {
        "job.id": "job_1",
        "job.kind": "a",
        "job.attempt": 2,
        "job.name": "handbook",
    }


# -- what a recipe opens

V1, V2 = "model:minilm@1 sha256:aaaa", "model:minilm@2 sha256:bbbb"


def snapshot(*routes: Route, prices: tuple[PriceRow, ...] = ()) -> Snapshot:
    return Snapshot(
        digest="x",
        written_ns=0,
        providers=(
            Provider(name="engine", base_url="http://127.0.0.1:1/v1", local=True),
            Provider(name="openai", base_url="http://127.0.0.1:1/v1"),
        ),
        routes=routes,
        prices=prices,
    )


MINILM = Route(
    name="minilm", kind="embedding", version=V1, targets=(Target(provider="engine", model="minilm"),)
)
LEXICAL = Route(
    name="lexical",
    kind="embedding",
    version="lexical@1 built in",
    targets=(Target(provider="engine", model="lexical"),),
)
OPENAI = Route(name="openai/*", targets=(Target(provider="openai", model="*"),))


def embedders(
    calls: GatewayCalls, tmp_path: Path, told: Snapshot | None, default: tuple[str, str] = ("minilm", V1)
) -> GatewayEmbedders:
    return GatewayEmbedders(
        calls,
        find_default=lambda: default,
        read_snapshot=lambda: told,
        find_model=lambda name: None,
        blobs=BlobStore(str(tmp_path)),
    )


def test_ids_are_those_that_older_bases_were_made_with(calls: GatewayCalls, tmp_path: Path) -> None:
    source = embedders(calls, tmp_path, snapshot(MINILM, LEXICAL))
    assert source.open(EmbedRecipe()).id == f"minilm {V1}"
    lexical = embedders(calls, tmp_path, snapshot(LEXICAL), ("lexical", "lexical@1"))
    assert lexical.open(EmbedRecipe()).id == "lexical lexical@1"
    before_start = embedders(calls, tmp_path, None)
    assert before_start.open(EmbedRecipe()).id == f"minilm {V1}"


def test_a_provider_s_model_is_named_with_its_provider(calls: GatewayCalls, tmp_path: Path) -> None:
    source = embedders(calls, tmp_path, snapshot(MINILM, OPENAI))
    opened = source.open(EmbedRecipe(model="openai/text-embedding-3-small", dims=256))
    assert opened.id == "openai/text-embedding-3-small openai:text-embedding-3-small dims=256"
    assert opened.max_tokens is None


def test_a_route_over_the_engine_has_the_version_of_its_model(calls: GatewayCalls, tmp_path: Path) -> None:
    named = Route(name="ours", kind="embedding", targets=(Target(provider="engine", model="minilm"),))
    source = embedders(calls, tmp_path, snapshot(MINILM, named))
    assert source.open(EmbedRecipe(model="ours")).id == f"ours {V1}"


def test_a_generation_is_asked_in_its_own_version_while_that_is_served(
    gateway: Gateway, calls: GatewayCalls, tmp_path: Path
) -> None:
    pin = PinnedVersion(name="old", version=V1, targets=MINILM.targets)
    moved = Route(name="minilm", kind="embedding", version=V2, targets=MINILM.targets, pins=(pin,))
    source = embedders(calls, tmp_path, snapshot(moved), ("minilm", V2))
    old = source.open(EmbedRecipe(), made_with=f"minilm {V1}")
    assert old.id == f"minilm {V1}"
    old.embed(["one"], "query")
    assert gateway.asked[-1]["model"] == "minilm@old"
    assert source.open(EmbedRecipe()).id == f"minilm {V2}"
    gone = embedders(calls, tmp_path, snapshot(LEXICAL), ("lexical", "lexical@1"))
    assert gone.open(EmbedRecipe(), made_with=f"minilm {V1}").id == "lexical lexical@1"


def test_routes_that_cannot_embed_alike_are_refused(calls: GatewayCalls, tmp_path: Path) -> None:
    mixed = Route(
        name="mixed", targets=(Target(provider="openai", model="a"), Target(provider="openai", model="b"))
    )
    source = embedders(calls, tmp_path, snapshot(MINILM, mixed))
    with pytest.raises(MixedEmbedder, match="a or b"):
        source.open(EmbedRecipe(model="mixed"))
    with pytest.raises(UnknownEmbedder, match="minilm"):
        source.open(EmbedRecipe(model="minilmm"))


def test_embedding_is_priced_by_who_answered(gateway: Gateway, calls: GatewayCalls, tmp_path: Path) -> None:
    price = PriceRow(provider="openai", model="small", usd_per_million={"input_uncached": Decimal(20)})
    source = embedders(calls, tmp_path, snapshot(OPENAI, MINILM, prices=(price,)))
    gateway.told = {"x-penstock-provider": "openai", "x-penstock-model": "small"}
    opened = source.open(EmbedRecipe(model="openai/small"))
    opened.embed(["one"], "document")
    assert (opened.usage.n_tokens, opened.usage.cost_nano_usd) == (7, 140_000)
    gateway.told = {"x-penstock-provider": "engine", "x-penstock-model": "minilm"}
    local = source.open(EmbedRecipe())
    local.embed(["one"], "document")
    assert local.usage.cost_nano_usd == 0


@pytest.mark.parametrize("n_before", [0, 1])
def test_a_call_that_may_have_been_answered_is_not_sent_again(
    gateway: Gateway, calls: GatewayCalls, n_before: int
) -> None:
    """What breaks off within the answer, or on a connection of its own, may be billed already."""
    for _ in range(n_before):
        calls.post(b'{"input": ["one"]}', traceparent=None)
    gateway.replies.append((200, {"transfer-encoding": "chunked", "connection": "close"}, b"no chunk\r\n"))
    with pytest.raises(UpstreamUnavailable):
        calls.post(b'{"input": ["two"]}', traceparent=None)
    assert len(gateway.asked) == n_before + 1
